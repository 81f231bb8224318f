"""Frames of conversations: between any two ports, through a router where need be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packet_shapes import forwarded
from packet_world import DB, MAIN_DB, MAIN_WEB, WEB, Nic
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

if TYPE_CHECKING:
    from tests.packets.conftest import Switchboard

GATEWAYS = {WEB: MAIN_WEB, DB: MAIN_DB}


def between(source: Nic, destination: Nic, version: int, payload: Packet, **ip: object) -> Packet:
    """A frame from one port to another, with more fields of the IP header."""
    same = source.network is destination.network
    mac = destination.mac if same else GATEWAYS[source.network].mac
    kind = IP if version == 4 else IPv6
    header = kind(src=source.address(version), dst=destination.address(version), **ip)
    return Ether(src=source.mac, dst=mac) / header / payload


def arrived(frame: Packet, source: Nic, destination: Nic) -> Packet:
    """What the receiver gets of such a frame."""
    if source.network is destination.network:
        return frame
    return forwarded(frame, GATEWAYS[destination.network].mac, destination.mac)


def tcp(flags: str, sport: int = 40000, dport: int = 80, payload: bytes = b"") -> Packet:
    return TCP(sport=sport, dport=dport, flags=flags, seq=1, ack=1) / Raw(payload)


def udp(sport: int = 40000, dport: int = 53) -> Packet:
    return UDP(sport=sport, dport=dport) / Raw(bytes(range(32)))


def ping(version: int, identifier: int = 7) -> Packet:
    if version == 4:
        return ICMP(id=identifier, seq=1) / Raw(bytes(32))
    return ICMPv6EchoRequest(id=identifier, seq=1, data=bytes(32))


def pong(version: int, identifier: int = 7) -> Packet:
    if version == 4:
        return ICMP(type=0, id=identifier, seq=1) / Raw(bytes(32))
    return ICMPv6EchoReply(id=identifier, seq=1, data=bytes(32))


PORTS = b"\x9c\x40\x00\x50"  # 40000 to 80
SWAPPED = PORTS[2:] + PORTS[:2]


def other(version: int, protocol: int, payload: bytes) -> tuple[dict[str, int], Packet]:
    return {("proto" if version == 4 else "nh"): protocol}, Raw(payload + bytes(28))


def question_and_answer(kind: str, version: int) -> list[tuple[dict[str, int], Packet]]:
    """Fields of the IP header and payload, from web1 and from db1."""
    if kind == "udp":
        return [({}, udp(40000, 53)), ({}, udp(53, 40000))]
    if kind == "echo":
        return [({}, ping(version)), ({}, pong(version))]
    number = {"sctp": 132, "dccp": 33, "udplite": 136, "gre": 47, "unknown": 200}[kind]
    return [other(version, number, PORTS), other(version, number, SWAPPED)]


def talk(board: Switchboard, frame: Packet, source: Nic, destination: Nic) -> str | None:
    """Send a frame once. Returns why it was dropped; when it was not, what the
    policy stage said (without DECISION_POLICY_)."""
    sent = board.send_once(source.name, frame)
    if sent.to is None:
        return sent.reason
    sent.arrives(destination.name, arrived(frame, source, destination))
    decision = sent.trace.decision("STAGE_POLICY")
    return decision.removeprefix("DECISION_POLICY_") if decision else None
