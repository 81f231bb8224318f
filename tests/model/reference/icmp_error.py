"""ICMP and ICMPv6 errors to the sender of a packet that goes no further (RFC 792,
RFC 1122 3.2.2, RFC 1191, RFC 1812 4.3.2, RFC 4443)."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

from reference import wire
from reference.ends import IcmpError
from reference.packet import Fragment, Packet
from reference.topology import Gateway

TTL = 64
INTERNETWORK_CONTROL = 0xC0  # precedence, RFC 1812 4.3.2.5
LARGEST4, LARGEST6 = 576, 1280  # bytes of the whole error: RFC 1812 4.3.2.3, RFC 4443 2.4 c
REDIRECT6 = 137
BURST, PER_SECOND = 100, 100  # errors to one port


def error_frame(packet: Packet, tell: IcmpError, speaker: Gateway | None) -> bytes | None:
    """None where nobody is told: about errors, later fragments, and packets from
    nobody or to many (RFC 1122 3.2.2, RFC 4443 2.4 e)."""
    if not _may_tell(packet):
        return None
    source = speaker.address(packet.version) if speaker else None
    ip = _message(packet, tell, source or packet.destination)
    ethertype = wire.IPV4 if packet.version == 4 else wire.IPV6
    return wire.ethernet(packet.source_mac, packet.destination_mac, ethertype, ip)


def _may_tell(packet: Packet) -> bool:
    if packet.fragment is Fragment.LATER or packet.is_unspecified:
        return False
    if wire.is_group(packet.destination_mac) or packet.destination.packed[0] >= (
        224 if packet.version == 4 else 255
    ):
        return False
    if not packet.is_icmp:
        return True
    if packet.version == 4:
        return packet.icmp_type in (0, 8)
    return packet.icmp_type >= 128 and packet.icmp_type != REDIRECT6


def _message(packet: Packet, tell: IcmpError, source: wire.IpAddress) -> bytes:
    """With as much of the packet as there is room for."""
    quote = packet.frame[wire.ETHERNET : wire.ETHERNET + packet.l3_bytes]
    head = struct.pack("!BBHI", tell.icmp_type, tell.code, 0, tell.mtu)
    if isinstance(source, IPv4Address):
        assert isinstance(packet.source, IPv4Address)
        message = wire.icmpv4(head + quote[: LARGEST4 - 28])
        tos = INTERNETWORK_CONTROL
        return wire.ipv4(source, packet.source, wire.ICMP, message, ttl=TTL, tos=tos)
    assert isinstance(packet.source, IPv6Address)
    message = wire.icmpv6(source, packet.source, head + quote[: LARGEST6 - 48])
    return wire.ipv6(source, packet.source, wire.ICMPV6, message, hop_limit=TTL)


class Budget:
    """How many errors a port may still get: a bucket of BURST tokens that fills
    by PER_SECOND."""

    def __init__(self) -> None:
        self._tokens, self._filled_at = float(BURST), 0.0

    def take(self, now: float) -> bool:
        earned = (now - self._filled_at) * PER_SECOND
        self._tokens, self._filled_at = min(BURST, self._tokens + earned), now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
