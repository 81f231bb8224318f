"""A frame in one line, for drop events and traces. Works on cut-off captures:
what is not there is not shown."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from typing import NamedTuple

_ETHERNET_BYTES = 14
_ETHERTYPES = {0x0800: "IPv4", 0x0806: "ARP", 0x86DD: "IPv6", 0x8100: "VLAN", 0x88A8: "VLAN"}
_PROTOCOLS = {
    socket.IPPROTO_ICMP: "ICMP",
    socket.IPPROTO_TCP: "TCP",
    socket.IPPROTO_UDP: "UDP",
    socket.IPPROTO_ICMPV6: "ICMPv6",
}
_ICMP_TYPES = {0: "echo reply", 3: "unreachable", 8: "echo request", 11: "time exceeded"}
_ICMPV6_TYPES = {
    1: "unreachable",
    2: "packet too big",
    3: "time exceeded",
    128: "echo request",
    129: "echo reply",
    133: "router solicitation",
    134: "router advertisement",
    135: "neighbour solicitation",
    136: "neighbour advertisement",
    137: "redirect",
}


class _Network(NamedTuple):
    """What an IP header says."""

    family: str
    source: str
    destination: str
    protocol: int
    hops: str  # "TTL 64"
    payload: bytes


def describe(frame: bytes) -> str:
    """For example ``fa:16:3e:00:00:01 > fa:16:3e:00:00:02, IPv4 10.0.0.2 >
    10.0.0.3, TTL 64, TCP 33000 > 80``."""
    if len(frame) < _ETHERNET_BYTES:
        return f"{len(frame)} bytes, too short for Ethernet"
    return f"{frame[6:12].hex(':')} > {frame[:6].hex(':')}, {describe_payload(frame)}"


def describe_payload(frame: bytes) -> str:
    """The same without the MACs."""
    ethertype = int.from_bytes(frame[12:14], "big")
    payload = frame[_ETHERNET_BYTES:]
    name = _ETHERTYPES.get(ethertype, f"ethertype {ethertype:#06x}")
    if name == "ARP":
        return _arp(payload)
    network = _ipv4(payload) if name == "IPv4" else _ipv6(payload) if name == "IPv6" else None
    if network is None:
        return name
    addresses = f"{network.family} {network.source} > {network.destination}"
    return f"{addresses}, {network.hops}, {_transport(network)}"


def _arp(data: bytes) -> str:
    if len(data) < 28:
        return "ARP, cut short"
    sender, target = ip_address(data[14:18]), ip_address(data[24:28])
    if data[7] == 1:
        return f"ARP who has {target}? tell {sender}"
    return f"ARP {sender} is at {data[8:14].hex(':')}"


def _ipv4(data: bytes) -> _Network | None:
    if len(data) < 20:
        return None
    source, destination = str(ip_address(data[12:16])), str(ip_address(data[16:20]))
    fragment = int.from_bytes(data[6:8], "big") & 0x1FFF
    payload = b"" if fragment else data[(data[0] & 15) * 4 :]
    return _Network("IPv4", source, destination, data[9], f"TTL {data[8]}", payload)


def _ipv6(data: bytes) -> _Network | None:
    if len(data) < 40:
        return None
    source, destination = str(ip_address(data[8:24])), str(ip_address(data[24:40]))
    return _Network("IPv6", source, destination, data[6], f"hop limit {data[7]}", data[40:])


def _transport(network: _Network) -> str:
    name = _PROTOCOLS.get(network.protocol, f"protocol {network.protocol}")
    data = network.payload
    if name in ("TCP", "UDP") and len(data) >= 4:
        source, destination = int.from_bytes(data[:2], "big"), int.from_bytes(data[2:4], "big")
        return f"{name} {source} > {destination}"
    if name in ("ICMP", "ICMPv6") and data:
        types = _ICMP_TYPES if name == "ICMP" else _ICMPV6_TYPES
        return f"{name} {types.get(data[0], f'type {data[0]}')}"
    return name
