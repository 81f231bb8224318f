"""A conversation between two ports, and its packets in bytes."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from reference import wire

from heddle.intent.model import Port


@dataclass(frozen=True)
class Talk:
    """Between two ports, or a port and an address that may be nobody's. ``ids``:
    L4 ports, or the identifier of an echo twice."""

    ends: tuple[Port, Port | None]
    addresses: tuple[wire.IpAddress, wire.IpAddress]
    protocol: int
    ids: tuple[int, int]

    def turned(self) -> Talk:
        (here, there), (a, b), (x, y) = self.ends, self.addresses, self.ids
        assert there is not None
        return Talk((there, here), (b, a), self.protocol, (y, x))


def l4_bytes(talk: Talk, flags: int, payload: bytes, *, is_reply: bool) -> bytes:
    source, destination = talk.ids
    if talk.protocol == wire.TCP:
        head = struct.pack("!HHIIBBHHH", source, destination, 1, 1, 0x50, flags, 512, 0xABCD, 0)
        return head + payload
    if talk.protocol == wire.UDP:
        return struct.pack("!HHHH", source, destination, 8 + len(payload), 0) + payload
    if talk.protocol in (wire.ICMP, wire.ICMPV6):
        request = 8 if talk.protocol == wire.ICMP else 128
        reply = 0 if talk.protocol == wire.ICMP else 129
        kind = reply if is_reply else request
        return struct.pack("!BBHHH", kind, 0, 0xBEEF, source, 1) + payload
    if talk.protocol == wire.SCTP:
        return struct.pack("!HHII", source, destination, 1, 1) + payload
    return bytes(4) + payload


# Kinds of IPv6 extension headers in a row; 44 is an atomic fragment (RFC 6946).
CHAINS = ((0,), (60,), (43, 60), (44,), (0, 60, 43, 44, 51, 60), (51,), (60,) * 8, (60,) * 9)


def extended(chain: Sequence[int], protocol: int, payload: bytes) -> tuple[int, bytes]:
    """Kind of the first of these headers, and all bytes from there on."""
    for kind in reversed(chain):
        data = bytes(14) if kind in (43, 60) else bytes(6)
        units = {43: 1, 60: 1, 51: 0}.get(kind, 0)
        payload = bytes([protocol, units]) + data + payload
        protocol = kind
    return protocol, payload


def ip_packet(
    talk: Talk, payload: bytes, *, ttl: int = 64, tos: int = 0, chain: Sequence[int] = ()
) -> bytes:
    source, destination = talk.addresses
    if isinstance(source, IPv4Address) and isinstance(destination, IPv4Address):
        return wire.ipv4(source, destination, talk.protocol, payload, ttl=ttl, tos=tos)
    assert isinstance(source, IPv6Address)
    assert isinstance(destination, IPv6Address)
    kind, payload = extended(chain, talk.protocol, payload)
    return wire.ipv6(source, destination, kind, payload, hop_limit=ttl, traffic_class=tos)


def fragments(talk: Talk, segment: bytes, identification: int) -> list[bytes]:
    """Three fragments, the first with all headers."""
    pieces = []
    source, destination = talk.addresses
    for offset, more in ((0, 1), (40, 1), (80, 0)):
        data = segment[offset : offset + 40] if more else segment[offset:]
        if isinstance(source, IPv4Address) and isinstance(destination, IPv4Address):
            field = more << 13 | offset // 8
            pieces.append(
                wire.ipv4(
                    source,
                    destination,
                    talk.protocol,
                    data,
                    identification=identification,
                    fragment=field,
                )
            )
        else:
            assert isinstance(source, IPv6Address)
            assert isinstance(destination, IPv6Address)
            head = struct.pack("!BBHI", talk.protocol, 0, offset | more, identification)
            pieces.append(wire.ipv6(source, destination, 44, head + data))
    return pieces
