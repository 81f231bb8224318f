"""A network: its router advertisement, and its part in the overlay."""

from __future__ import annotations

from collections.abc import Iterator

from heddle.compiler import ra
from heddle.compiler.addresses import ip_version, mac_bytes, mapped
from heddle.compiler.dependencies import View
from heddle.compiler.fragment import Fragment
from heddle.compiler.residence import flood_group_of
from heddle.compiler.state import (
    AddressKey,
    EndpointRow,
    FloodHostKey,
    MacKey,
    NeighborRow,
    RowKey,
    RowValue,
    TunnelNetworkRow,
    VtepRow,
)
from heddle.compiler.subnet import gateway_interface
from heddle.compiler.symbols import ENDPOINT_REMOTE, TUNNEL_NETWORK, TUNNEL_NETWORK_LEARNING, VTEP
from heddle.intent.model import HOST_NUMBER_MAX, ForeignMember, Network

Row = tuple[RowKey, RowValue]


def compile_network(view: View, network: Network) -> Fragment:
    fragment = Fragment()
    subnet = ra.advertising_subnet(view, network)
    interface = gateway_interface(view, subnet) if subnet else None
    if interface is not None:
        subnets = ra.ipv6_subnets(view, network)
        row = ra.template(network, subnets, interface, view.limits)
        fragment.rows[RowKey("ra_templates", network.vni)] = row
    if view.is_needed(network.id):
        for member in network.foreign_members:
            fragment.rows.update(_foreign_rows(view, network, member))
        fragment.rows.update(_overlay_rows(view, network))
    return fragment


def group_number(network: Network) -> int:
    """Under which ``vteps`` has the multicast group of a network: GROUP_HOSTS of
    abi.h and the VNI."""
    return HOST_NUMBER_MAX + 1 + network.vni


def _overlay_rows(view: View, network: Network) -> Iterator[Row]:
    own = view.own_vtep()
    if own is None:
        return
    first_host = view.first_host(network.id)
    group = flood_group_of(view, network)
    if group is not None:
        first_host = group_number(network)
        yield (
            RowKey("vteps", first_host),
            VtepRow(mapped(group), mapped(own.vtep), 0, 0, ip_version(group), VTEP),
        )
        yield RowKey("flood_hosts", FloodHostKey(network.vni, first_host)), 0
    is_learning = any(member.learn for member in network.foreign_members)
    yield (
        RowKey("tunnel_networks", network.vni),
        TunnelNetworkRow(
            first_port=view.first_port(network.id) or 0,
            first_host=first_host,
            mtu=network.mtu,
            flags=TUNNEL_NETWORK_LEARNING if is_learning else TUNNEL_NETWORK,
        ),
    )


def _foreign_rows(view: View, network: Network, member: ForeignMember) -> Iterator[Row]:
    number = view.host_number(member.host)
    for behind in member.macs:
        mac = mac_bytes(behind.mac)
        yield RowKey("macs", MacKey(network.vni, mac)), EndpointRow(ENDPOINT_REMOTE, number)
        if behind.address is not None:
            key = AddressKey(network.vni, mapped(behind.address))
            yield RowKey("addresses", key), NeighborRow(ENDPOINT_REMOTE, number, mac)
