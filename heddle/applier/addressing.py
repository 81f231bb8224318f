"""Messages about addresses and routes, for what lives inside a namespace."""

from __future__ import annotations

import ipaddress
import socket
import struct
from typing import NamedTuple

from heddle.applier.netlink import (
    NLM_F_CREATE,
    NLM_F_REPLACE,
    Request,
    attribute,
    attributes,
    number,
)

_RTM_NEWADDR = 20
_RTM_DELADDR = 21
_RTM_GETADDR = 22
_RTM_NEWROUTE = 24
_RTM_DELROUTE = 25
_RTM_GETROUTE = 26

_IFA_ADDRESS = 1
_IFA_LOCAL = 2
_IFA_BROADCAST = 4
_IFA_F_NODAD = 0x02
_SCOPE_LINK = 253

_RTA_DST = 1
_RTA_OIF = 4
_RTA_GATEWAY = 5
_RTN_UNICAST = 1
_RTPROT_BOOT = 3  # what `ip route add` says: an administrator's
_RT_TABLE_MAIN = 254
_RTNH_F_ONLINK = 4

_ADDRESS = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, ifindex
# family, destination bits, source bits, tos, table, protocol, scope, type, flags
_ROUTE = struct.Struct("=BBBBBBBBI")

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class AddressInfo(NamedTuple):
    """An address of a link, with prefix length: 10.0.0.5/24."""

    ifindex: int
    cidr: str
    is_link_local: bool


class RouteInfo(NamedTuple):
    """A unicast route of the main table. ``via`` is None for a connected one."""

    ifindex: int
    destination: str
    via: str | None
    by_kernel: bool


def add_address(index: int, cidr: str) -> Request:
    """Give a link an address. IPv6 ones are usable at once: intent has seen
    to it that nobody else has them."""
    interface = ipaddress.ip_interface(cidr)
    body = _address(index, interface)
    if interface.version == 4 and interface.network.prefixlen < 31:
        body += attribute(_IFA_BROADCAST, interface.network.broadcast_address.packed)
    return Request(_RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, body)


def delete_address(index: int, cidr: str) -> Request:
    return Request(_RTM_DELADDR, 0, _address(index, ipaddress.ip_interface(cidr)))


def get_addresses() -> Request:
    """For a dump: the addresses of all links."""
    return Request(_RTM_GETADDR, 0, _ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0))


def parse_address(body: bytes) -> AddressInfo:
    _, bits, _, scope, index = _ADDRESS.unpack_from(body)
    found = attributes(body, _ADDRESS.size)
    packed = found.get(_IFA_LOCAL) or found[_IFA_ADDRESS]
    return AddressInfo(index, f"{ipaddress.ip_address(packed)}/{bits}", scope == _SCOPE_LINK)


def add_route(index: int, destination: str, via: str | None) -> Request:
    """A route through a link; replaces one to the same destination. The next
    hop need not be in a connected network: the data plane answers for it."""
    return Request(_RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, _route(index, destination, via))


def delete_route(index: int, destination: str, via: str | None) -> Request:
    return Request(_RTM_DELROUTE, 0, _route(index, destination, via))


def get_routes() -> Request:
    """For a dump: the routes of all tables."""
    return Request(_RTM_GETROUTE, 0, _ROUTE.pack(socket.AF_UNSPEC, *bytes(7), 0))


def parse_route(body: bytes) -> RouteInfo | None:
    """A unicast route of the main table; None for any other."""
    family, bits, _, _, table, protocol, _, kind, _ = _ROUTE.unpack_from(body)
    if table != _RT_TABLE_MAIN or kind != _RTN_UNICAST:
        return None
    found = attributes(body, _ROUTE.size)
    zero = bytes(4 if family == socket.AF_INET else 16)
    destination = ipaddress.ip_network((found.get(_RTA_DST, zero), bits))
    via = found.get(_RTA_GATEWAY)
    return RouteInfo(
        int.from_bytes(found.get(_RTA_OIF, b""), "little"),
        str(destination),
        str(ipaddress.ip_address(via)) if via else None,
        protocol != _RTPROT_BOOT,
    )


def _address(index: int, interface: ipaddress.IPv4Interface | ipaddress.IPv6Interface) -> bytes:
    is_ipv6 = interface.version == 6
    header = _ADDRESS.pack(
        socket.AF_INET6 if is_ipv6 else socket.AF_INET,
        interface.network.prefixlen,
        _IFA_F_NODAD if is_ipv6 else 0,
        0,
        index,
    )
    packed = interface.ip.packed
    return header + attribute(_IFA_LOCAL, packed) + attribute(_IFA_ADDRESS, packed)


def _route(index: int, destination: str, via: str | None) -> bytes:
    network: _Network = ipaddress.ip_network(destination)
    body = _ROUTE.pack(
        socket.AF_INET6 if network.version == 6 else socket.AF_INET,
        network.prefixlen,
        0,
        0,
        _RT_TABLE_MAIN,
        _RTPROT_BOOT,
        0 if via else _SCOPE_LINK,
        _RTN_UNICAST,
        _RTNH_F_ONLINK if via else 0,
    )
    if network.prefixlen:
        body += attribute(_RTA_DST, network.network_address.packed)
    if via:
        body += attribute(_RTA_GATEWAY, ipaddress.ip_address(via).packed)
    return body + number(_RTA_OIF, index)
