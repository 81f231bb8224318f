"""The DHCPv4 answer of a subnet (RFC 2131): the options behind option 53."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from ipaddress import IPv4Network

from heddle.compiler.addresses import is_ipv6, packed
from heddle.compiler.fragment import Limits
from heddle.compiler.state import Dhcp4TemplateRow
from heddle.errors import CompileError
from heddle.intent.model import Network, Subnet

# RFC 2132, except where said.
_SUBNET_MASK = 1
_ROUTER = 3
_DNS = 6
_DOMAIN_NAME = 15
_MTU = 26
_LEASE_TIME = 51
_SERVER_ID = 54
_T1 = 58
_T2 = 59
_CLASSLESS_ROUTES = 121  # RFC 3442
_END = 255

_OPTION_BYTES_MAX = 255
_FOREVER = 0xFFFFFFFF  # RFC 2131 3.3
_DEFAULT_ROUTE = "0.0.0.0/0"


def template(
    network: Network, subnet: Subnet, server_mac: bytes, limits: Limits, *, has_router: bool
) -> Dhcp4TemplateRow:
    """``has_router``: a router interface has the gateway address, so it may be
    handed out. Raises CompileError when the options are too long."""
    options = b"".join(_options(network, subnet, has_router)) + bytes([_END])
    if len(options) > limits.dhcp_options:
        raise CompileError(
            f"subnet {subnet.name}: its DHCP options take {len(options)} bytes, but only "
            f"{limits.dhcp_options} fit; give fewer DNS servers or host routes, or a shorter domain"
        )
    return Dhcp4TemplateRow(
        server_mac=server_mac,
        options_length=len(options),
        server_address=packed(subnet.gateway_ip),
        options=options,
    )


def _options(network: Network, subnet: Subnet, has_router: bool) -> Iterator[bytes]:
    gateway = packed(subnet.gateway_ip)
    yield _option(_SERVER_ID, gateway)
    yield from _lease(subnet.lease_time)
    yield _option(_SUBNET_MASK, IPv4Network(subnet.cidr).netmask.packed)
    if has_router:
        yield _option(_ROUTER, gateway)
    yield _option(_DNS, b"".join(packed(dns) for dns in subnet.dns if not is_ipv6(dns)))
    yield _option(_DOMAIN_NAME, network.domain.rstrip(".").encode(errors="replace"))
    yield _option(_MTU, struct.pack("!H", network.mtu))
    yield _option(_CLASSLESS_ROUTES, _classless_routes(subnet, has_router))


def _lease(seconds: int) -> Iterator[bytes]:
    """Renew at half, rebind at seven eighths (RFC 2131 4.4.5)."""
    forever = seconds == _FOREVER
    t1 = seconds if forever else seconds // 2
    t2 = seconds if forever else seconds * 7 // 8
    for code, value in ((_LEASE_TIME, seconds), (_T1, t1), (_T2, t2)):
        yield _option(code, struct.pack("!I", value))


def _classless_routes(subnet: Subnet, has_router: bool) -> bytes:
    """A client that takes this option ignores option 3, so the default route
    must be in it, too (RFC 3442)."""
    routes = [(r.destination, r.nexthop) for r in subnet.host_routes if not is_ipv6(r.destination)]
    if routes and has_router and _DEFAULT_ROUTE not in dict(routes):
        routes.append((_DEFAULT_ROUTE, subnet.gateway_ip))
    return b"".join(_classless_route(destination, nexthop) for destination, nexthop in routes)


def _classless_route(destination: str, nexthop: str) -> bytes:
    network = IPv4Network(destination)
    significant = (network.prefixlen + 7) // 8
    address = network.network_address.packed[:significant]
    return bytes([network.prefixlen]) + address + packed(nexthop)


def _option(code: int, data: bytes) -> bytes:
    """Nothing for no data; long data continues in a further option of the same
    code (RFC 3396)."""
    chunks = (
        data[start : start + _OPTION_BYTES_MAX] for start in range(0, len(data), _OPTION_BYTES_MAX)
    )
    return b"".join(bytes([code, len(chunk)]) + chunk for chunk in chunks)
