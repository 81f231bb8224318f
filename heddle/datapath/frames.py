"""Builds the frames that ``heddle trace`` sends on their way.

Ethernet with ARP, or IPv4/IPv6 with TCP (a SYN), UDP or an ICMP echo request,
all with right lengths and checksums. Addresses are text, MACs 6 bytes.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from enum import IntEnum

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

BROADCAST = b"\xff" * 6
_ETHERTYPE_IPV4, _ETHERTYPE_ARP, _ETHERTYPE_IPV6 = 0x0800, 0x0806, 0x86DD
_TTL = 64
_TCP_SYN = 0x02
_ND_HOP_LIMIT = 255  # RFC 4861, 7.1.1: anything else is discarded
_SOLICITED_NODE = ipaddress.IPv6Address("ff02::1:ff00:0").packed[:13]  # RFC 4291, 2.7.1
_PORT = 40000  # of the sender
_PAYLOAD = bytes(range(0x10, 0x40))  # what ping(8) sends, without its time stamp


class Protocol(IntEnum):
    """IP protocol numbers (IANA)."""

    ICMP = 1
    TCP = 6
    UDP = 17
    ICMPV6 = 58


@dataclass(frozen=True, slots=True)
class Probe:
    """What to send. ``port`` is the destination port of TCP and UDP."""

    source_mac: bytes
    destination_mac: bytes
    source: str
    destination: str
    protocol: Protocol = Protocol.ICMP  # ICMP means ICMPv6 between IPv6 addresses
    port: int = 0
    ttl: int = _TTL
    payload: bytes = _PAYLOAD
    source_port: int = _PORT  # of TCP and UDP


def probe_frame(probe: Probe) -> bytes:
    """The frame of a probe. ValueError when its addresses are of two families."""
    source = ipaddress.ip_address(probe.source)
    destination = ipaddress.ip_address(probe.destination)
    if source.version != destination.version:
        raise ValueError(f"{source} and {destination} are of two address families")
    protocol = probe.protocol
    if protocol is Protocol.ICMP and source.version == 6:
        protocol = Protocol.ICMPV6
    segment = _segment(probe, protocol, _pseudo_header(source, destination, protocol))
    if source.version == 4:
        packet = _ipv4_header(source, destination, protocol, probe.ttl, len(segment)) + segment
        return _ethernet(probe.destination_mac, probe.source_mac, _ETHERTYPE_IPV4) + packet
    packet = _ipv6_header(source, destination, protocol, probe.ttl, len(segment)) + segment
    return _ethernet(probe.destination_mac, probe.source_mac, _ETHERTYPE_IPV6) + packet


def arp_request(source_mac: bytes, source: str, target: str) -> bytes:
    """Who has ``target``? Tell ``source`` (RFC 826)."""
    message = struct.pack(
        "!HHBBH6s4s6s4s",
        1,  # Ethernet
        _ETHERTYPE_IPV4,
        6,
        4,
        1,  # request
        source_mac,
        ipaddress.IPv4Address(source).packed,
        bytes(6),
        ipaddress.IPv4Address(target).packed,
    )
    return _ethernet(BROADCAST, source_mac, _ETHERTYPE_ARP) + message


def neighbor_solicitation(source_mac: bytes, source: str, target: str) -> bytes:
    """The same question over IPv6 (RFC 4861, 4.3), to the target's group."""
    asked = ipaddress.IPv6Address(target)
    group = ipaddress.IPv6Address(_SOLICITED_NODE + asked.packed[-3:])
    source_link_layer_option = bytes([1, 1]) + source_mac
    message = struct.pack("!BBHI16s", 135, 0, 0, 0, asked.packed) + source_link_layer_option
    multicast = b"\x33\x33" + group.packed[-4:]
    return icmpv6_frame(source_mac, multicast, source, str(group), message)


def icmpv6_frame(
    source_mac: bytes, destination_mac: bytes, source: str, destination: str, message: bytes
) -> bytes:
    """A message of neighbour discovery, its checksum field filled in."""
    sender, group = ipaddress.IPv6Address(source), ipaddress.IPv6Address(destination)
    message = _with_checksum(message, 2, _pseudo_header(sender, group, Protocol.ICMPV6))
    header = _ipv6_header(sender, group, Protocol.ICMPV6, _ND_HOP_LIMIT, len(message))
    return _ethernet(destination_mac, source_mac, _ETHERTYPE_IPV6) + header + message


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _ethernet(destination: bytes, source: bytes, ethertype: int) -> bytes:
    return struct.pack("!6s6sH", destination, source, ethertype)


def _ipv4_header(
    source: IpAddress, destination: IpAddress, protocol: Protocol, ttl: int, payload: int
) -> bytes:
    dont_fragment = 0x4000
    header = struct.pack(
        "!BBHHHBBH4s4s",
        0x45,
        0,
        20 + payload,
        0,
        dont_fragment,
        ttl,
        protocol,
        0,
        source.packed,
        destination.packed,
    )
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:]


def _ipv6_header(
    source: IpAddress, destination: IpAddress, protocol: Protocol, hop_limit: int, payload: int
) -> bytes:
    return struct.pack(
        "!IHBB16s16s", 6 << 28, payload, protocol, hop_limit, source.packed, destination.packed
    )


def _pseudo_header(source: IpAddress, destination: IpAddress, protocol: Protocol) -> bytes:
    """What the checksum covers besides the segment; ICMP over IPv4 covers nothing."""
    if protocol is Protocol.ICMP:
        return b""
    return source.packed + destination.packed + struct.pack("!H", protocol)


def _segment(probe: Probe, protocol: Protocol, pseudo_header: bytes) -> bytes:
    if protocol is Protocol.TCP:
        header = struct.pack(
            "!HHIIBBHHH", probe.source_port, probe.port, 1, 0, 5 << 4, _TCP_SYN, 0xFFFF, 0, 0
        )
        return _with_checksum(header, 16, pseudo_header)
    if protocol is Protocol.UDP:
        length = 8 + len(probe.payload)
        datagram = struct.pack("!HHHH", probe.source_port, probe.port, length, 0) + probe.payload
        # 0 would mean that there is none (RFC 768).
        return _with_checksum(datagram, 6, pseudo_header, instead_of_zero=0xFFFF)
    echo_request = 8 if protocol is Protocol.ICMP else 128
    message = struct.pack("!BBHHH", echo_request, 0, 0, _PORT, 1) + probe.payload
    return _with_checksum(message, 2, pseudo_header)


def _with_checksum(
    segment: bytes, offset: int, pseudo_header: bytes, instead_of_zero: int = 0
) -> bytes:
    length = struct.pack("!H", len(segment)) if pseudo_header else b""
    value = checksum(pseudo_header + length + segment)
    return segment[:offset] + struct.pack("!H", value or instead_of_zero) + segment[offset + 2 :]
