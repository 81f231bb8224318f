"""Messages about the tunnel: the VXLAN device, and what its host listens to."""

from __future__ import annotations

import ipaddress
import socket
import struct
from typing import NamedTuple

from heddle.applier import links
from heddle.applier.links import GROUP, LinkInfo
from heddle.applier.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Request,
    attribute,
    attributes,
    nested,
    number,
    text,
)
from heddle.compiler.state import Tunnel

KIND = "vxlan"
# Above all that a guest may send at once: the device itself limits nothing.
MTU = 65465  # 65535 less the 70 bytes of an envelope in IPv6

_RTM_NEWADDR = 20
_RTM_DELADDR = 21
_RTM_GETADDR = 22
_RTM_NEWROUTE = 24
_RTM_DELROUTE = 25
_RTM_GETROUTE = 26
_IFLA_IFNAME = 3
_IFLA_MTU = 4
_IFLA_LINKINFO = 18
_IFLA_GROUP = 27
_INFO_KIND = 1
_INFO_DATA = 2
# enum of IFLA_VXLAN_* in linux/if_link.h
_LEARNING = 7
_SOURCE_PORTS = 10
_PORT = 15
_UDP_ZERO_CSUM6_RX = 20
_GBP = 23
_COLLECT_METADATA = 25

_IFA_ADDRESS = 1
_IFA_LOCAL = 2
_IFA_FLAGS = 8
_IFA_PROTO = 11
_IFA_F_NODAD = 0x02
_IFA_F_MCAUTOJOIN = 0x400

_RTA_DST = 1
_RTA_OIF = 4
_LOCAL_TABLE = 255
_RTN_LOCAL = 2
_RTN_MULTICAST = 5

# Who made an address (Linux 5.18), or a route: our mark.
_OUR_PROTOCOL = 0x68

_LINK = struct.Struct("=BBHiII")  # family, pad, type, index, flags, change
_PORT_RANGE = struct.Struct("!HH")
_ADDRESS = struct.Struct("=BBBBi")  # family, prefix length, flags, scope, index
# Family, prefix lengths of both ends, TOS, table, protocol, scope, type, flags.
_ROUTE = struct.Struct("=BBBBBBBBI")


class Settings(NamedTuple):
    """What of a VXLAN device can't be changed once it is made. ``external``: its
    programs choose VNI and destination of each packet; ``gbp``: the header
    carries 16 bits of ours; ``zero_csum6``: takes envelopes in IPv6 without a
    UDP checksum (RFC 6935), as some senders in hardware make them; ``source_ports``:
    lowest and highest UDP port that envelopes may come from."""

    udp_port: int
    source_ports: tuple[int, int]
    external: bool = True
    gbp: bool = True
    learning: bool = False
    zero_csum6: bool = True


class Address(NamedTuple):
    """An address of a link; ``is_ours``: a group that it was told to be in by us."""

    ifindex: int
    address: str
    is_ours: bool


def create(tunnel: Tunnel, source_ports: tuple[int, int]) -> Request:
    """A new device, not yet up, with the group that marks it as ours."""
    data = nested(
        _INFO_DATA,
        attribute(_COLLECT_METADATA, b"\1"),
        attribute(_GBP, b""),
        attribute(_LEARNING, b"\0"),
        attribute(_UDP_ZERO_CSUM6_RX, b"\1"),
        attribute(_PORT, struct.pack("!H", tunnel.udp_port)),
        attribute(_SOURCE_PORTS, _PORT_RANGE.pack(*source_ports)),
    )
    body = _LINK.pack(0, 0, 0, 0, 0, 0) + text(_IFLA_IFNAME, tunnel.name)
    body += number(_IFLA_MTU, MTU) + number(_IFLA_GROUP, GROUP)
    body += nested(_IFLA_LINKINFO, text(_INFO_KIND, KIND), data)
    return Request(links.RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body)


def get_devices() -> Request:
    """Ask for all VXLAN devices; the kernel leaves out others."""
    kind = nested(_IFLA_LINKINFO, text(_INFO_KIND, KIND))
    return Request(links.RTM_GETLINK, 0, _LINK.pack(0, 0, 0, 0, 0, 0) + kind)


def parse_settings(body: bytes) -> Settings:
    """Of a VXLAN device, from the body of an RTM_NEWLINK message."""
    found = attributes(body, _LINK.size)
    data = attributes(attributes(found.get(_IFLA_LINKINFO, b"")).get(_INFO_DATA, b""))
    return Settings(
        udp_port=int.from_bytes(data.get(_PORT, b""), "big"),
        source_ports=_PORT_RANGE.unpack(data.get(_SOURCE_PORTS, bytes(4))),
        external=any(data.get(_COLLECT_METADATA, b"")),
        gbp=_GBP in data,
        learning=any(data.get(_LEARNING, b"")),
        zero_csum6=any(data.get(_UDP_ZERO_CSUM6_RX, b"")),
    )


def is_tunnel(info: LinkInfo) -> bool:
    """Whether a link that bears our mark is a tunnel."""
    return info.kind == KIND


# ---- underlay multicast groups ------------------------------------------------


def get_addresses() -> Request:
    """Ask for the addresses of all links."""
    return Request(_RTM_GETADDR, 0, _ADDRESS.pack(0, 0, 0, 0, 0))


def parse_address(body: bytes) -> Address:
    _, _, _, _, index = _ADDRESS.unpack_from(body)
    found = attributes(body, _ADDRESS.size)
    packed = found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS, b"")
    is_ours = found.get(_IFA_PROTO) == bytes([_OUR_PROTOCOL])
    return Address(index, str(ipaddress.ip_address(packed)), is_ours)


def join(index: int, group: str) -> Request:
    """Be in a multicast group on a link, with or without an agent: the kernel
    joins with an address that says ``autojoin`` (Linux 4.1)."""
    return Request(_RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, _group(index, group))


def leave(index: int, group: str) -> Request:
    return Request(_RTM_DELADDR, 0, _group(index, group))


def open_way(index: int, group: str) -> list[Request]:
    """Let what is sent to an IPv6 group leave by a link. The address by which the
    kernel joined it made a route that keeps it here; the first may be gone."""
    return [
        Request(_RTM_DELROUTE, 0, _way(index, group, _RTN_LOCAL, 0)),
        Request(
            _RTM_NEWROUTE,
            NLM_F_CREATE | NLM_F_REPLACE,
            _way(index, group, _RTN_MULTICAST, _OUR_PROTOCOL),
        ),
    ]


def close_way(index: int, group: str) -> Request:
    """Remove what ``open_way`` made."""
    return Request(_RTM_DELROUTE, 0, _way(index, group, _RTN_MULTICAST, _OUR_PROTOCOL))


def get_way(group: str) -> Request:
    """Ask by which route a packet to a group would go."""
    address = ipaddress.ip_address(group)
    body = _ROUTE.pack(socket.AF_INET6, address.max_prefixlen, 0, 0, 0, 0, 0, 0, 0)
    return Request(_RTM_GETROUTE, 0, body + attribute(_RTA_DST, address.packed))


def is_local_way(body: bytes) -> bool:
    """Whether the answer to ``get_way`` is that a packet would stay here."""
    return bool(_ROUTE.unpack_from(body)[7] == _RTN_LOCAL)


def is_open_way(body: bytes, index: int) -> bool:
    """Whether the answer to ``get_way`` is a route out of a link."""
    kind = _ROUTE.unpack_from(body)[7]
    link = attributes(body, _ROUTE.size).get(_RTA_OIF, b"")
    return kind == _RTN_MULTICAST and int.from_bytes(link, "little") == index


def _way(index: int, group: str, kind: int, protocol: int) -> bytes:
    address = ipaddress.ip_address(group)
    bits = address.max_prefixlen
    body = _ROUTE.pack(socket.AF_INET6, bits, 0, 0, _LOCAL_TABLE, protocol, 0, kind, 0)
    return body + attribute(_RTA_DST, address.packed) + number(_RTA_OIF, index)


def _group(index: int, group: str) -> bytes:
    address = ipaddress.ip_address(group)
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    body = _ADDRESS.pack(family, address.max_prefixlen, 0, 0, index)
    body += attribute(_IFA_LOCAL, address.packed) + attribute(_IFA_ADDRESS, address.packed)
    body += number(_IFA_FLAGS, _IFA_F_MCAUTOJOIN | _IFA_F_NODAD)
    return body + attribute(_IFA_PROTO, bytes([_OUR_PROTOCOL]))
