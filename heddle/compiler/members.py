"""Members of the sets of addresses that rules name as their remote end."""

from __future__ import annotations

from collections.abc import Iterator

from heddle.compiler.addresses import ip_version, mapped, mapped_prefix
from heddle.compiler.dependencies import View
from heddle.compiler.fragment import Fragment
from heddle.compiler.shared import Share
from heddle.compiler.state import RowKey, SetMemberKey
from heddle.compiler.tallies import MEMBER
from heddle.intent.model import AddressGroupEntry, Kind, Port

_ADDRESS_BITS = 128


def compile_address_group_entry(view: View, entry: AddressGroupEntry) -> Fragment:
    fragment = Fragment()
    number = view.set_number((Kind.ADDRESS_GROUP, entry.address_group_id))
    if number is not None:
        bits, address = mapped_prefix(entry.cidr)
        member = SetMemberKey(number, 0, ip_version(entry.cidr), bits, address)
        fragment.shares[_share(member)] = None
    return fragment


def memberships(view: View, port: Port) -> Iterator[Share]:
    """What a port of any host gives to the sets of its security groups: its
    addresses and address pairs, in its own network, if ports of this host can
    reach that."""
    if not port.security_group_ids or not view.is_needed(port.network_id):
        return
    for group_id in port.security_group_ids:
        number = view.set_number((Kind.SECURITY_GROUP, group_id))
        network = view.network(port.network_id) if number is not None else None
        if number is None or network is None:
            continue
        for version, bits, address in _prefixes(port):
            member = SetMemberKey(number, network.vni, version, bits, address)
            yield _share(member)


def _prefixes(port: Port) -> Iterator[tuple[int, int, bytes]]:
    """IP version, length out of 128 and address."""
    for fixed_ip in port.fixed_ips:
        yield ip_version(fixed_ip.ip), _ADDRESS_BITS, mapped(fixed_ip.ip)
    for pair in port.address_pairs:
        yield ip_version(pair.cidr), *mapped_prefix(pair.cidr)


def _share(member: SetMemberKey) -> Share:
    return Share(RowKey("set_members", member), MEMBER)
