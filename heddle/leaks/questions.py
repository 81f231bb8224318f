"""Questions that guests ask their network, as frames, and what answers say of MTU."""

from __future__ import annotations

import ipaddress
import struct

from heddle.datapath.frames import BROADCAST, Probe, Protocol, icmpv6_frame, probe_frame

_XID = b"hdlk"
_MAGIC_COOKIE = bytes.fromhex("63825363")
_DISCOVER = bytes([53, 1, 1])
_ALL_ROUTERS, _ALL_DHCP_AGENTS = "ff02::2", "ff02::1:2"
_DHCP4_OPTIONS_AT = 14 + 20 + 8 + 240
_OPTION_MTU = 26  # RFC 2132, 5.1
_RA = 134
_RA_OPTIONS_AT = 14 + 40 + 16
_RA_OPTION_MTU = 5  # RFC 4861, 4.6.4


def dhcp4_discover(mac: bytes) -> bytes:
    """DHCPDISCOVER (RFC 2131) that asks for everything a subnet may hand out."""
    header = struct.pack("!BBBB4sHH16x16s64x128x", 1, 1, 6, 0, _XID, 0, 0, mac.ljust(16, b"\0"))
    wanted = bytes([1, 3, 6, 15, 26, 119, 121])
    options = _MAGIC_COOKIE + _DISCOVER + bytes([55, len(wanted)]) + wanted + b"\xff"
    message = (header + options).ljust(300, b"\0")
    return probe_frame(
        Probe(
            mac,
            BROADCAST,
            "0.0.0.0",  # noqa: S104 (it has none yet)
            "255.255.255.255",
            Protocol.UDP,
            67,
            payload=message,
            source_port=68,
        )
    )


def dhcp6_solicit(mac: bytes) -> bytes:
    """SOLICIT (RFC 8415, 16.2) for one address."""
    client = struct.pack("!HH", 3, 1) + mac  # DUID-LL
    options = struct.pack("!HH", 1, len(client)) + client
    options += struct.pack("!HHIII", 3, 12, 1, 0, 0)  # IA_NA
    options += struct.pack("!HHHHHHH", 8, 2, 0, 6, 4, 23, 24)  # elapsed time; DNS, domains
    message = bytes([1]) + _XID[:3] + options
    return probe_frame(
        Probe(
            mac,
            _multicast_mac(_ALL_DHCP_AGENTS),
            link_local(mac),
            _ALL_DHCP_AGENTS,
            Protocol.UDP,
            547,
            payload=message,
            source_port=546,
        )
    )


def router_solicitation(mac: bytes) -> bytes:
    """RFC 4861, 4.1."""
    message = struct.pack("!BBHI", 133, 0, 0, 0) + bytes([1, 1]) + mac
    return icmpv6_frame(mac, _multicast_mac(_ALL_ROUTERS), link_local(mac), _ALL_ROUTERS, message)


def link_local(mac: bytes) -> str:
    """The address that follows from a MAC (RFC 4291, appendix A)."""
    eui64 = bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:]
    return str(ipaddress.IPv6Address(bytes.fromhex("fe80") + bytes(6) + eui64))


def offered_mtu(frame: bytes) -> int | None:
    """The MTU in a DHCPv4 answer or a router advertisement; None: it says nothing."""
    if frame[12:14] == b"\x08\x00" and frame[23] == Protocol.UDP:
        return _option(frame[_DHCP4_OPTIONS_AT:], _OPTION_MTU)
    if frame[12:14] == b"\x86\xdd" and frame[20] == Protocol.ICMPV6 and frame[54] == _RA:
        return _ra_mtu(frame[_RA_OPTIONS_AT:])
    return None


def reported_mtu(frame: bytes) -> int | None:
    """The MTU in an ICMP error that says that a packet is too big; None: no such."""
    if frame[12:14] == b"\x08\x00" and frame[34:36] == b"\3\4":  # RFC 1191, section 4
        return int.from_bytes(frame[40:42], "big")
    if frame[12:14] == b"\x86\xdd" and frame[54] == 2:  # RFC 4443, 3.2
        return int.from_bytes(frame[58:62], "big")
    return None


def _option(options: bytes, wanted: int) -> int | None:
    position = 0
    while position + 1 < len(options) and options[position] != 255:
        kind, length = options[position], options[position + 1]
        if kind == wanted:
            return int.from_bytes(options[position + 2 : position + 2 + length], "big")
        position += 1 if kind == 0 else 2 + length
    return None


def _ra_mtu(options: bytes) -> int | None:
    position = 0
    while position + 1 < len(options) and options[position + 1]:
        kind, length = options[position], options[position + 1] * 8
        if kind == _RA_OPTION_MTU:
            return int.from_bytes(options[position + 4 : position + 8], "big")
        position += length
    return None


def _multicast_mac(group: str) -> bytes:
    return b"\x33\x33" + ipaddress.IPv6Address(group).packed[-4:]
