"""The router advertisement of a network (RFC 4861 4.2), from its type byte on.
The data plane fills in the checksum, which depends on the destination."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from ipaddress import IPv6Network

from heddle.compiler.addresses import is_ipv6, mac_bytes, packed
from heddle.compiler.dependencies import View
from heddle.compiler.domain import wire_name
from heddle.compiler.fragment import Limits
from heddle.compiler.state import RaTemplateRow
from heddle.compiler.subnet import has_router_gateway
from heddle.errors import CompileError
from heddle.intent.model import Ipv6Mode, Network, RouterInterface, Subnet

_ROUTER_ADVERTISEMENT = 134
_HOP_LIMIT = 64
_MANAGED = 0x80
_OTHER = 0x40

# Seconds. The longest that RFC 4861 6.2.1 allows for a router; what else is
# learned from the same message lives as long.
_ROUTER_LIFETIME = 9000
# Defaults of RFC 4861 6.2.1 (AdvValidLifetime, AdvPreferredLifetime).
_PREFIX_VALID = 2_592_000
_PREFIX_PREFERRED = 604_800

_SOURCE_MAC = 1
_PREFIX_INFORMATION = 3
_MTU = 5
_ROUTE_INFORMATION = 24  # RFC 4191 2.3
_RDNSS = 25  # RFC 8106 5.1
_DNSSL = 31  # RFC 8106 5.2

_ON_LINK = 0x80
_AUTONOMOUS = 0x40
_UNIT = 8  # option lengths count in it


def ipv6_subnets(view: View, network: Network) -> list[Subnet]:
    return [subnet for subnet in view.subnets(network.id) if is_ipv6(subnet.cidr)]


def advertising_subnet(view: View, network: Network) -> Subnet | None:
    """The first IPv6 subnet with a router at its gateway address: that router
    advertises the network. None: nobody does."""
    for subnet in ipv6_subnets(view, network):
        if has_router_gateway(view, subnet):
            return subnet
    return None


def template(
    network: Network, subnets: Sequence[Subnet], interface: RouterInterface, limits: Limits
) -> RaTemplateRow:
    """``subnets``: the IPv6 subnets of the network. Raises CompileError when the
    message is too long or the domain is none."""
    message = _header(subnets) + b"".join(_options(network, subnets, interface))
    if len(message) > limits.ra_message:
        raise CompileError(
            f"network {network.name}: its router advertisement takes {len(message)} bytes, but "
            f"only {limits.ra_message} fit; give fewer IPv6 subnets, DNS servers or host routes"
        )
    return RaTemplateRow(mac_bytes(interface.mac), len(message), message)


def _header(subnets: Sequence[Subnet]) -> bytes:
    modes = {subnet.ipv6_mode for subnet in subnets if subnet.enable_dhcp}
    flags = _MANAGED if Ipv6Mode.STATEFUL in modes else 0
    flags |= _OTHER if Ipv6Mode.STATELESS in modes else 0
    return struct.pack(
        "!BBHBBHII", _ROUTER_ADVERTISEMENT, 0, 0, _HOP_LIMIT, flags, _ROUTER_LIFETIME, 0, 0
    )


def _options(
    network: Network, subnets: Sequence[Subnet], interface: RouterInterface
) -> Iterator[bytes]:
    yield _option(_SOURCE_MAC, mac_bytes(interface.mac))
    yield _option(_MTU, struct.pack("!HI", 0, network.mtu))
    for subnet in subnets:
        yield _prefix_information(subnet)
    for destination in _routes(subnets, interface):
        yield _route_information(IPv6Network(destination))
    servers = dict.fromkeys(dns for subnet in subnets for dns in subnet.dns if is_ipv6(dns))
    if servers:
        addresses = b"".join(packed(server) for server in servers)
        yield _option(_RDNSS, struct.pack("!HI", 0, _ROUTER_LIFETIME) + addresses)
    if network.domain:
        name = wire_name(network)
        yield _option(_DNSSL, struct.pack("!HI", 0, _ROUTER_LIFETIME) + name)


def _prefix_information(subnet: Subnet) -> bytes:
    prefix = IPv6Network(subnet.cidr)
    autonomous = subnet.ipv6_mode in (Ipv6Mode.SLAAC, Ipv6Mode.STATELESS)
    return _option(
        _PREFIX_INFORMATION,
        struct.pack(
            "!BBIII16s",
            prefix.prefixlen,
            _ON_LINK | (_AUTONOMOUS if autonomous else 0),
            _PREFIX_VALID,
            _PREFIX_PREFERRED,
            0,
            prefix.network_address.packed,
        ),
    )


def _routes(subnets: Sequence[Subnet], interface: RouterInterface) -> dict[str, None]:
    """Destinations of host routes through this router. An advertisement can't
    name another next hop; those guests reach by the default route."""
    return dict.fromkeys(
        route.destination
        for subnet in subnets
        for route in subnet.host_routes
        if is_ipv6(route.destination) and route.nexthop in interface.addresses
    )


def _route_information(prefix: IPv6Network) -> bytes:
    address = prefix.network_address.packed[: -(-prefix.prefixlen // 64) * 8]
    return _option(
        _ROUTE_INFORMATION, struct.pack("!BBI", prefix.prefixlen, 0, _ROUTER_LIFETIME) + address
    )


def _option(code: int, data: bytes) -> bytes:
    """Padded to whole units of 8 bytes, its own two header bytes included."""
    length = -(-(2 + len(data)) // _UNIT)
    return bytes([code, length]) + data.ljust(length * _UNIT - 2, b"\0")
