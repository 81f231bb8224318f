"""A router: its interfaces, and its routes by longest prefix."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from typing import NamedTuple

from heddle.compiler.addresses import (
    NO_ADDRESS,
    ip_version,
    is_ipv6,
    mac_bytes,
    mapped,
    mapped_prefix,
    prefix_length,
)
from heddle.compiler.dependencies import View
from heddle.compiler.fragment import Fragment
from heddle.compiler.state import (
    AddressKey,
    EndpointRow,
    MacKey,
    NeighborRow,
    RouteKey,
    RouterInterfaceKey,
    RouterInterfaceRow,
    RouteRow,
    RowKey,
    RowValue,
    Symbol,
)
from heddle.compiler.symbols import ENDPOINT_ROUTER, ROUTE_BLACKHOLE, ROUTE_CONNECTED, ROUTE_VIA
from heddle.intent.model import Network, Route, Router, RouterInterface

_ROUTER_BITS = 32

Row = tuple[RowKey, RowValue]


class Attachment(NamedTuple):
    """An interface with the network that it is in."""

    interface: RouterInterface
    network: Network


class Connected(NamedTuple):
    """A prefix in which the router has an address."""

    cidr: str
    vni: int


def compile_router(view: View, router: Router) -> Fragment:
    """Interfaces whose network is absent are left out, and with them the routes
    that need them."""
    attachments = list(_attachments(view, router))
    connected = [prefix for attachment in attachments for prefix in _connected(view, attachment)]
    rows: dict[RowKey, RowValue] = {}
    for attachment in attachments:
        rows.update(_interface_rows(router, attachment))
    for route in router.routes:
        rows.update(_static_rows(router, route, connected))
    # Last, as a connected prefix outranks an equal static one.
    for cidr, vni in connected:
        rows[_route_key(router, cidr)] = _route_row(cidr, ROUTE_CONNECTED, vni)
    return Fragment(rows=rows)


def _attachments(view: View, router: Router) -> Iterator[Attachment]:
    for interface in router.interfaces:
        network = view.network(interface.network_id)
        if network is not None:
            yield Attachment(interface, network)


def _connected(view: View, attachment: Attachment) -> Iterator[Connected]:
    addresses = [ip_address(text) for text in attachment.interface.addresses]
    for subnet in view.subnets(attachment.network.id):
        prefix = ip_network(subnet.cidr)
        if any(address in prefix for address in addresses):
            yield Connected(subnet.cidr, attachment.network.vni)


def _interface_rows(router: Router, attachment: Attachment) -> Iterator[Row]:
    interface, network = attachment
    mac = mac_bytes(interface.mac)
    yield (
        RowKey("router_interfaces", RouterInterfaceKey(router.number, network.vni)),
        RouterInterfaceRow(
            mac=mac,
            mtu=network.mtu,
            address4=_first(interface, ipv6=False),
            address6=_first(interface, ipv6=True),
        ),
    )
    endpoint = EndpointRow(ENDPOINT_ROUTER, router.number)
    yield RowKey("macs", MacKey(network.vni, mac)), endpoint
    for address in interface.addresses:
        neighbor = NeighborRow(ENDPOINT_ROUTER, router.number, mac)
        yield RowKey("addresses", AddressKey(network.vni, mapped(address))), neighbor


def _first(interface: RouterInterface, *, ipv6: bool) -> bytes:
    for address in interface.addresses:
        if is_ipv6(address) == ipv6:
            return mapped(address)
    return NO_ADDRESS


def _static_rows(router: Router, route: Route, connected: list[Connected]) -> Iterator[Row]:
    key = _route_key(router, route.destination)
    if route.nexthop is None:
        yield key, _route_row(route.destination, ROUTE_BLACKHOLE, 0)
        return
    nexthop = ip_address(route.nexthop)
    for cidr, vni in connected:
        if nexthop in ip_network(cidr):
            yield key, _route_row(route.destination, ROUTE_VIA, vni, mapped(route.nexthop))
            return


def _route_row(cidr: str, kind: Symbol, vni: int, via: bytes = NO_ADDRESS) -> RouteRow:
    return RouteRow(kind, vni, ip_version(cidr), prefix_length(cidr), via)


def _route_key(router: Router, cidr: str) -> RowKey:
    bits, prefix = mapped_prefix(cidr)
    return RowKey("routes", RouteKey(_ROUTER_BITS + bits, router.number, prefix))
