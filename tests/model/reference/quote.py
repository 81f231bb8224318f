"""What an ICMP error quotes: the beginning of the packet that caused it."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

from reference import wire
from reference.connections import Tuple
from reference.packet import Packet
from reference.parse import AUTHENTICATION, EXTENSION_HEADERS_MAX, EXTENSIONS, FRAGMENT

_WITH_PORTS = (wire.TCP, wire.UDP, wire.SCTP, wire.DCCP, wire.UDPLITE)


def quoted_tuple(packet: Packet) -> Tuple | None:
    """The direction of the quoted packet; None where it can't be told: a later
    fragment, a broken chain of headers, too short a quote."""
    quote = packet.payload[8:]
    if packet.version == 4:
        return _quoted4(quote)
    if len(quote) < 40 or quote[0] >> 4 != 6:
        return None
    addresses = IPv6Address(quote[8:24]), IPv6Address(quote[24:40])
    upper = _skip_extensions(quote[6], quote[40:])
    return _with_ids(upper[0], *addresses, upper[1]) if upper else None


def _skip_extensions(kind: int, rest: bytes) -> tuple[int, bytes] | None:
    """The upper layer's protocol and bytes (RFC 8200 4, RFC 4302 2.2)."""
    for _ in range(EXTENSION_HEADERS_MAX):
        if kind not in EXTENSIONS:
            break
        if len(rest) < 8 or (kind == FRAGMENT and int.from_bytes(rest[2:4], "big") >> 3):
            return None
        sizes = {FRAGMENT: 8, AUTHENTICATION: (rest[1] + 2) * 4}
        kind, rest = rest[0], rest[sizes.get(kind, (rest[1] + 1) * 8) :]
    return None if kind in EXTENSIONS else (kind, rest)


def _quoted4(quote: bytes) -> Tuple | None:
    if len(quote) < 20 or quote[0] >> 4 != 4 or quote[0] & 15 < 5:
        return None
    (fragment,) = struct.unpack_from("!H", quote, 6)
    if fragment & 0x1FFF:
        return None
    addresses = IPv4Address(quote[12:16]), IPv4Address(quote[16:20])
    return _with_ids(quote[9], *addresses, quote[(quote[0] & 15) * 4 :])


def _with_ids(
    protocol: int, source: wire.IpAddress, destination: wire.IpAddress, l4: bytes
) -> Tuple | None:
    if protocol == (wire.ICMP if source.version == 4 else wire.ICMPV6):
        echo = (0, 8) if source.version == 4 else (128, 129)
        if len(l4) < 8 or l4[0] not in echo or l4[1] != 0:
            return None
        (identifier,) = struct.unpack_from("!H", l4, 4)
        return Tuple(protocol, source, destination, identifier, l4[0])
    if protocol in _WITH_PORTS:
        if len(l4) < 8:  # as much must be quoted (RFC 792, RFC 1122 3.2.2)
            return None
        return Tuple(protocol, source, destination, *struct.unpack_from("!HH", l4))
    return Tuple(protocol, source, destination)
