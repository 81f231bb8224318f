"""Bytes of headers: checksums, MACs, addresses, and frames of our own."""

from __future__ import annotations

import struct
from functools import cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

IpAddress = IPv4Address | IPv6Address
address = cache(ip_address)  # of text
prefix = cache(ip_network)

ETHERNET = 14
IPV4, ARP, IPV6 = 0x0800, 0x0806, 0x86DD
VLAN_TAGS = (0x8100, 0x88A8)  # 802.1Q, 802.1ad

ICMP, TCP, UDP, DCCP, ICMPV6, SCTP, UDPLITE = 1, 6, 17, 33, 58, 132, 136

BROADCAST = b"\xff" * 6
NOBODY = IPv4Address(0)
ALL_NODES = IPv6Address("ff02::1")
ALL_NODES_MAC = bytes.fromhex("333300000001")
_LINK_LOCAL = bytes.fromhex("fe80000000000000")


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def is_group(mac: bytes) -> bool:
    """Broadcast or multicast (IEEE 802, the individual/group bit)."""
    return bool(mac[0] & 1)


def link_local(mac: bytes) -> IPv6Address:
    """RFC 4291, appendix A: the modified EUI-64 of the MAC."""
    return IPv6Address(_LINK_LOCAL + bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:])


def mac_of_link_local(address: IPv6Address) -> bytes | None:
    """The reverse; None for an address that was not made so."""
    eui = address.packed[8:]
    mac = bytes([eui[0] ^ 2]) + eui[1:3] + eui[5:]
    return mac if link_local(mac) == address else None


def ones_sum(data: bytes) -> int:
    """One's complement sum of 16-bit words (RFC 1071), not yet complemented."""
    total = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def checksum(data: bytes) -> int:
    return ones_sum(data) ^ 0xFFFF


def updated_checksum(old: int, changes: list[tuple[int, int]]) -> int:
    """RFC 1624, equation 3: what was right stays right, what was wrong stays
    wrong. ``changes``: 16-bit words before and after."""
    words = [old ^ 0xFFFF]
    for before, after in changes:
        words += [before ^ 0xFFFF, after]
    return checksum(struct.pack(f"!{len(words)}H", *words))


def pseudo_header(source: IpAddress, destination: IpAddress, protocol: int, length: int) -> bytes:
    """RFC 9293 3.1, RFC 8200 8.1."""
    form = "!HH" if source.version == 4 else "!II"
    numbers = (protocol, length) if source.version == 4 else (length, protocol)
    return source.packed + destination.packed + struct.pack(form, *numbers)


def ethernet(destination: bytes, source: bytes, ethertype: int, payload: bytes) -> bytes:
    return destination + source + struct.pack("!H", ethertype) + payload


def ipv4(
    source: IPv4Address,
    destination: IPv4Address,
    protocol: int,
    payload: bytes,
    *,
    ttl: int = 64,
    tos: int = 0,
    identification: int = 0,
    fragment: int = 0,
    options: bytes = b"",
) -> bytes:
    """``fragment``: flags and offset as they stand in the header."""
    header_bytes = 20 + len(options)
    header = struct.pack(
        "!BBHHHBBH4s4s",
        0x40 | header_bytes // 4,
        tos,
        header_bytes + len(payload),
        identification,
        fragment,
        ttl,
        protocol,
        0,
        source.packed,
        destination.packed,
    )
    header += options
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + payload


def ipv6(
    source: IPv6Address,
    destination: IPv6Address,
    protocol: int,
    payload: bytes,
    *,
    hop_limit: int = 64,
    traffic_class: int = 0,
) -> bytes:
    first = 6 << 28 | traffic_class << 20
    header = struct.pack("!IHBB", first, len(payload), protocol, hop_limit)
    return header + source.packed + destination.packed + payload


def icmpv6(source: IPv6Address, destination: IPv6Address, message: bytes) -> bytes:
    """A message with its checksum (bytes 2 and 3) filled in."""
    blank = message[:2] + b"\0\0" + message[4:]
    whole = pseudo_header(source, destination, ICMPV6, len(blank)) + blank
    return blank[:2] + struct.pack("!H", checksum(whole)) + blank[4:]


def icmpv4(message: bytes) -> bytes:
    blank = message[:2] + b"\0\0" + message[4:]
    return blank[:2] + struct.pack("!H", checksum(blank)) + blank[4:]


def udp_checksum(source: IpAddress, destination: IpAddress, datagram: bytes) -> int:
    """Of a datagram whose checksum field is zero; 0 would mean none (RFC 768)."""
    whole = pseudo_header(source, destination, UDP, len(datagram)) + datagram
    return checksum(whole) or 0xFFFF
