"""Members of the sets of addresses that rules name as their remote end."""

from __future__ import annotations

from collections.abc import Iterator

from heddle.compiler.addresses import ip_version, mapped, mapped_prefix
from heddle.compiler.dependencies import View
from heddle.compiler.fragment import Fragment
from heddle.compiler.shared import MEMBER, Share, member_length
from heddle.compiler.state import RowKey, SetMemberKey
from heddle.intent.model import AddressGroupEntry, Kind, Port

_ADDRESS_BITS = 128


def compile_address_group_entry(view: View, entry: AddressGroupEntry) -> Fragment:
    fragment = Fragment()
    number = view.set_number((Kind.ADDRESS_GROUP, entry.address_group_id))
    if number is not None:
        bits, address = mapped_prefix(entry.cidr)
        member = SetMemberKey(number, 0, ip_version(entry.cidr), bits, address)
        fragment.shares.update(dict.fromkeys(_shares(member, in_network=False)))
    return fragment


def memberships(view: View, port: Port) -> Iterator[Share]:
    """What a port of any host gives to the sets of its security groups: its
    addresses and address pairs, in its own network."""
    for group_id in port.security_group_ids:
        number = view.set_number((Kind.SECURITY_GROUP, group_id))
        network = view.network(port.network_id) if number is not None else None
        if number is None or network is None:
            continue
        for version, bits, address in _prefixes(port):
            member = SetMemberKey(number, network.vni, version, bits, address)
            yield from _shares(member, in_network=True)


def _prefixes(port: Port) -> Iterator[tuple[int, int, bytes]]:
    """IP version, length out of 128 and address."""
    for fixed_ip in port.fixed_ips:
        yield ip_version(fixed_ip.ip), _ADDRESS_BITS, mapped(fixed_ip.ip)
    for pair in port.address_pairs:
        yield ip_version(pair.cidr), *mapped_prefix(pair.cidr)


def _shares(member: SetMemberKey, *, in_network: bool) -> Iterator[Share]:
    yield Share(RowKey("set_members", member), MEMBER)
    length = member_length(in_network, member.ip_version, member.prefix_bits)
    yield Share(RowKey("sets", member.set), length)
