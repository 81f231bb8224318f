"""Addresses and routes of a container: messages to rtnetlink and what it answers.

Ours bear a protocol number, as routing daemons have them; what somebody else
put into the container is not touched.
"""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_interface, ip_network
from typing import NamedTuple

from heddle.applier.netlink import (
    NLM_F_CREATE,
    NLM_F_REPLACE,
    Request,
    attribute,
    attributes,
    number,
)

PROTOCOL = 104  # free in /etc/iproute2/rt_protos and among the kernel's IFAPROT_*

_RTM_NEWADDR, _RTM_DELADDR, _RTM_GETADDR = 20, 21, 22
_RTM_NEWROUTE, _RTM_DELROUTE, _RTM_GETROUTE = 24, 25, 26
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST, _IFA_FLAGS, _IFA_PROTO = 1, 2, 4, 8, 11
_IFA_F_NODAD = 0x02
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY = 1, 4, 5, 6
_RT_TABLE_MAIN = 254
_RT_SCOPE_UNIVERSE = 0
_RTN_UNICAST = 1

_ADDRESS = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
_ROUTE = struct.Struct("=BBBBBBBBI")  # family, lengths, tos, table, protocol, scope, type, flags


class Address(NamedTuple):
    """``text`` has the prefix length, e.g. 10.0.0.5/24."""

    link: int  # ifindex
    text: str


class Route(NamedTuple):
    """``destination`` is a prefix; of equal ones the lowest metric is taken."""

    link: int  # ifindex
    destination: str
    via: str
    metric: int


def add_address(address: Address) -> Request:
    """Duplicates are not looked for: the intent knows the address to be unique."""
    return Request(_RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, _address_body(address))


def delete_address(address: Address) -> Request:
    return Request(_RTM_DELADDR, 0, _address_body(address))


def get_addresses() -> Request:
    """To be dumped: all addresses of both families."""
    return Request(_RTM_GETADDR, 0, _ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0))


def parse_address(body: bytes) -> tuple[Address, int]:
    """An address, and the protocol that put it there (0: none said)."""
    _, length, _, _, link = _ADDRESS.unpack_from(body)
    found = attributes(body, _ADDRESS.size)
    raw = found.get(_IFA_LOCAL) or found[_IFA_ADDRESS]
    protocol = found.get(_IFA_PROTO, b"\0")[0]
    return Address(link, f"{ip_address(raw)}/{length}"), protocol


def add_route(route: Route) -> Request:
    return Request(_RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, _route_body(route))


def delete_route(route: Route) -> Request:
    return Request(_RTM_DELROUTE, 0, _route_body(route))


def get_routes() -> Request:
    """To be dumped: all routes of both families."""
    return Request(_RTM_GETROUTE, 0, _ROUTE.pack(socket.AF_UNSPEC, *[0] * 8))


def parse_route(body: bytes) -> Route | None:
    """A route of ours from the main table, None for any other."""
    family, length, _, _, table, protocol, *_ = _ROUTE.unpack_from(body)
    if protocol != PROTOCOL or table != _RT_TABLE_MAIN:
        return None
    found = attributes(body, _ROUTE.size)
    zero = bytes(4 if family == socket.AF_INET else 16)
    destination = ip_network((ip_address(found.get(_RTA_DST, zero)), length))
    return Route(
        link=int.from_bytes(found.get(_RTA_OIF, b""), "little"),
        destination=str(destination),
        via=str(ip_address(found.get(_RTA_GATEWAY, zero))),
        metric=int.from_bytes(found.get(_RTA_PRIORITY, b""), "little"),
    )


def _address_body(address: Address) -> bytes:
    interface = ip_interface(address.text)
    family = socket.AF_INET if interface.version == 4 else socket.AF_INET6
    length = interface.network.prefixlen
    body = _ADDRESS.pack(family, length, 0, _RT_SCOPE_UNIVERSE, address.link)
    body += attribute(_IFA_LOCAL, interface.packed) + attribute(_IFA_ADDRESS, interface.packed)
    if isinstance(interface.network, IPv4Network) and length < 31:
        body += attribute(_IFA_BROADCAST, interface.network.broadcast_address.packed)
    return body + number(_IFA_FLAGS, _IFA_F_NODAD) + attribute(_IFA_PROTO, bytes([PROTOCOL]))


def _route_body(route: Route) -> bytes:
    destination = ip_network(route.destination)
    family = socket.AF_INET6 if isinstance(destination, IPv6Network) else socket.AF_INET
    lengths = (destination.prefixlen, 0)
    body = _ROUTE.pack(
        family, *lengths, 0, _RT_TABLE_MAIN, PROTOCOL, _RT_SCOPE_UNIVERSE, _RTN_UNICAST, 0
    )
    if destination.prefixlen:
        body += attribute(_RTA_DST, destination.network_address.packed)
    gateway = attribute(_RTA_GATEWAY, ip_address(route.via).packed)
    return body + gateway + number(_RTA_OIF, route.link) + number(_RTA_PRIORITY, route.metric)
