"""deliver: what the frame looks like on arrival."""

from __future__ import annotations

import struct

from reference import wire
from reference.packet import Packet

ECN = 3  # the two bits that marking leaves alone, RFC 2474 3, RFC 3168


def delivered(packet: Packet, dscp: int | None, macs: bytes | None = None, hops: int = 0) -> bytes:
    """A router changes MACs and TTL; marking changes the traffic class. What was
    switched unmarked is untouched."""
    frame = bytearray(packet.frame)
    if macs is not None:
        frame[0:12] = macs
    ip = memoryview(frame)[wire.ETHERNET :]
    if packet.version == 4:
        _change_ipv4(ip, hops, dscp)
    elif packet.version == 6:
        _change_ipv6(ip, hops, dscp)
    return bytes(frame)


def _change_ipv4(ip: memoryview, hops: int, dscp: int | None) -> None:
    tos, ttl = ip[1], ip[8]
    if dscp is not None:
        ip[1] = dscp << 2 | tos & ECN
    ip[8] = ttl - hops
    if (ip[1], ip[8]) == (tos, ttl):
        return
    (checksum,) = struct.unpack_from("!H", ip, 10)
    changes = [(ttl << 8, ip[8] << 8), (tos, ip[1])]
    struct.pack_into("!H", ip, 10, wire.updated_checksum(checksum, changes))


def _change_ipv6(ip: memoryview, hops: int, dscp: int | None) -> None:
    ip[7] -= hops
    if dscp is not None:
        (word,) = struct.unpack_from("!H", ip)
        ecn = word >> 4 & ECN
        struct.pack_into("!H", ip, 0, word & 0xF00F | (dscp << 2 | ecn) << 4)
