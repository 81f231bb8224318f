"""parse: headers of Ethernet, ARP, IPv4 (RFC 791), IPv6 (RFC 8200) and above.

A header that is shorter than it says, or than its kind must be, or that
does not fit into the packet that holds it, makes the frame malformed. Checksums
are the receiver's business.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

from reference import wire
from reference.ends import Dropped
from reference.packet import Fragment, Packet

HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION = 0, 43, 44, 51, 60
EXTENSIONS = (HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION)
EXTENSION_HEADERS_MAX = 8  # a longer chain is not worth the walk


def parse(packet: Packet) -> None:
    if len(packet.frame) < wire.ETHERNET:
        raise Dropped("MALFORMED")
    (packet.ethertype,) = struct.unpack_from("!H", packet.frame, 12)
    if packet.ethertype in wire.VLAN_TAGS:
        raise Dropped("VLAN_TAGGED")
    if packet.ethertype == wire.IPV4:
        _parse_ipv4(packet)
    elif packet.ethertype == wire.IPV6:
        _parse_ipv6(packet)
    elif packet.ethertype != wire.ARP:
        raise Dropped("UNSUPPORTED_ETHERTYPE")


def _require(whole: bool) -> None:
    if not whole:
        raise Dropped("MALFORMED")


def _take_length(packet: Packet, says: int, header_bytes: int, *, open_ended: bool) -> None:
    """``open_ended``: a GSO packet of more than 64 KiB can't say how long it is."""
    present = len(packet.frame) - wire.ETHERNET
    packet.l3_bytes = present if open_ended and packet.gso_size else says
    _require(header_bytes <= packet.l3_bytes <= present)
    packet.header_bytes = header_bytes


def _parse_ipv4(packet: Packet) -> None:
    header = packet.frame[wire.ETHERNET :]
    _require(len(header) >= 20 and header[0] >> 4 == 4 and header[0] & 15 >= 5)
    header_bytes = (header[0] & 15) * 4
    total, packet.identification, fragment = struct.unpack_from("!HHH", header, 2)
    _take_length(packet, total, header_bytes, open_ended=total == 0)
    packet.version, packet.ttl, packet.protocol = 4, header[8], header[9]
    packet.source, packet.destination = IPv4Address(header[12:16]), IPv4Address(header[16:20])
    if fragment & 0x1FFF:
        packet.fragment = Fragment.LATER
        return
    if fragment & 0x2000:
        packet.fragment = Fragment.FIRST
    _parse_l4(packet, header_bytes)


def _parse_ipv6(packet: Packet) -> None:
    header = packet.frame[wire.ETHERNET :]
    _require(len(header) >= 40 and header[0] >> 4 == 6)
    (payload,) = struct.unpack_from("!H", header, 4)
    _take_length(packet, 40 + payload, 40, open_ended=payload == 0)
    packet.version, packet.protocol, packet.ttl = 6, header[6], header[7]
    packet.source, packet.destination = IPv6Address(header[8:24]), IPv6Address(header[24:40])
    # IPv4-mapped addresses do not belong on the wire (RFC 4038 4.2).
    _require(packet.source.ipv4_mapped is None and packet.destination.ipv4_mapped is None)
    offset = _skip_extensions(packet)
    if packet.fragment is not Fragment.LATER:
        _parse_l4(packet, offset)


def _skip_extensions(packet: Packet) -> int:
    """Offset of the upper layer from the IP header."""
    l3 = packet.frame[wire.ETHERNET :][: packet.l3_bytes]
    offset = 40
    for _ in range(EXTENSION_HEADERS_MAX):
        if packet.protocol not in EXTENSIONS:
            return offset
        _require(len(l3) >= offset + 8)
        kind, packet.protocol = packet.protocol, l3[offset]
        units = l3[offset + 1]
        if kind == FRAGMENT:
            field, packet.identification = struct.unpack_from("!HI", l3, offset + 2)
            if field >> 3:
                packet.fragment = Fragment.LATER
                return offset + 8
            if field & 1:
                packet.fragment = Fragment.FIRST
            offset += 8
        else:
            offset += (units + 2) * 4 if kind == AUTHENTICATION else (units + 1) * 8
    _require(packet.protocol not in EXTENSIONS)
    return offset


def _parse_l4(packet: Packet, offset: int) -> None:
    packet.l4 = wire.ETHERNET + offset
    l4 = packet.payload
    _require(offset <= packet.l3_bytes)
    size = 0
    if packet.protocol == wire.TCP:
        _require(len(l4) >= 20 and l4[12] >> 4 >= 5)
        size = (l4[12] >> 4) * 4
        packet.tcp_flags = l4[13]
    elif packet.protocol == wire.UDP:
        size = 8
    elif packet.protocol in (wire.SCTP, wire.DCCP, wire.UDPLITE):
        size = 4  # as much as is looked at
    elif packet.protocol in (wire.ICMP, wire.ICMPV6):
        size = 8
    _require(len(l4) >= size)
    packet.header_bytes = offset + size
    if packet.is_icmp:
        packet.icmp_type, packet.icmp_code = l4[0], l4[1]
        (packet.icmp_id,) = struct.unpack_from("!H", l4, 4)
    elif packet.protocol in (wire.TCP, wire.UDP, wire.SCTP, wire.DCCP, wire.UDPLITE):
        packet.source_port, packet.destination_port = struct.unpack_from("!HH", l4)
