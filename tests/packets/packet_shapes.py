"""Frames of the small world, built with scapy."""

from __future__ import annotations

from packet_world import Nic, RouterInterface
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

PAYLOAD = Raw(bytes(range(64)))
L4_NAMES = ("tcp", "udp", "echo")


def l4(name: str, version: int) -> Packet:
    """A TCP segment, a UDP datagram or a ping."""
    if name == "tcp":
        return TCP(sport=33000, dport=80, flags="PA", seq=1, ack=1) / PAYLOAD
    if name == "udp":
        return UDP(sport=33000, dport=53) / PAYLOAD
    if version == 4:
        return ICMP(id=7, seq=1) / PAYLOAD
    return ICMPv6EchoRequest(id=7, seq=1, data=bytes(PAYLOAD))


def l3(version: int, source: str, destination: str, ttl: int = 64) -> Packet:
    if version == 4:
        return IP(src=source, dst=destination, ttl=ttl, id=1, flags="DF")
    return IPv6(src=source, dst=destination, hlim=ttl)


def switched(source: Nic, destination: Nic, version: int, kind: str = "udp") -> Packet:
    """From a port to another of its network."""
    return (
        Ether(src=source.mac, dst=destination.mac)
        / l3(version, source.address(version), destination.address(version))
        / l4(kind, version)
    )


def to_router(
    source: Nic,
    gateway: RouterInterface,
    destination: str,
    kind: str = "udp",
    ttl: int = 64,
) -> Packet:
    """From a port to an address behind its gateway."""
    version = 6 if ":" in destination else 4
    return (
        Ether(src=source.mac, dst=gateway.mac)
        / l3(version, source.address(version), destination, ttl)
        / l4(kind, version)
    )


def forwarded(frame: Packet, source_mac: str, destination_mac: str, hops: int = 1) -> Packet:
    """The frame after so many routers: new MACs, lower TTL, all else as it was."""
    result = Ether(bytes(frame))
    result.src, result.dst = source_mac, destination_mac
    if IP in result:
        result[IP].ttl -= hops
        del result[IP].chksum
    else:
        result[IPv6].hlim -= hops
    return Ether(bytes(result))
