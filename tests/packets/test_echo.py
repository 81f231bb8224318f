"""Addresses of heddle's own answer ping, and serve nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from packet_shapes import l3, l4
from packet_world import (
    EDGE_DB,
    EDGE_FAR,
    FAR1,
    GATE,
    LONE1,
    LONE_SERVER,
    MAIN_DB,
    MAIN_WEB,
    SERVICE_MAC,
    WEB1,
    Nic,
)
from scapy.layers.inet import ICMP, IP, TCP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6, IPv6ExtHdrDestOpt
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from tests.packets.conftest import Sent

Send = Callable[..., Sent]
PAYLOADS = {"none": b"", "odd": b"odd", "ones": b"\xff" * 8, "large": bytes(range(256)) * 5}
# Who pings what by which MAC.
PINGS: dict[str, tuple[Nic, str, str]] = {
    "gateway4": (WEB1, MAIN_WEB.mac, MAIN_WEB.ipv4),
    "gateway6": (WEB1, MAIN_WEB.mac, MAIN_WEB.ipv6),
    "far side of the router4": (WEB1, MAIN_WEB.mac, MAIN_DB.ipv4),
    "far side of the router6": (WEB1, MAIN_WEB.mac, MAIN_DB.ipv6),
    "router behind the router4": (FAR1, EDGE_FAR.mac, MAIN_DB.ipv4),
    "router behind the router6": (FAR1, EDGE_FAR.mac, MAIN_DB.ipv6),
    "other router of the network4": (GATE, EDGE_DB.mac, EDGE_DB.ipv4),
    "other router of the network6": (GATE, EDGE_DB.mac, EDGE_DB.ipv6),
    "dhcp server": (LONE1, SERVICE_MAC, LONE_SERVER),
}


def ping(nic: Nic, mac: str, target: str, payload: bytes, ttl: int = 64) -> Packet:
    version = 6 if ":" in target else 4
    frame = Ether(src=nic.mac, dst=mac) / l3(version, nic.address(version), target, ttl)
    if version == 4:
        return frame / ICMP(id=77, seq=3) / Raw(payload)
    return frame / ICMPv6EchoRequest(id=77, seq=3, data=payload)


def pong(nic: Nic, mac: str, target: str, payload: bytes) -> Packet:
    """TTL starts anew; the IPv4 identification and flags are the request's."""
    version = 6 if ":" in target else 4
    frame = Ether(src=mac, dst=nic.mac) / l3(version, target, nic.address(version), 64)
    if version == 4:
        return frame / ICMP(type="echo-reply", id=77, seq=3) / Raw(payload)
    return frame / ICMPv6EchoReply(id=77, seq=3, data=payload)


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
@pytest.mark.parametrize("name", PINGS)
def test_ping(send: Send, name: str, payload: bytes) -> None:
    sent = send(PINGS[name][0].name, ping(*PINGS[name], payload))
    sent.arrives(PINGS[name][0].name, pong(*PINGS[name], payload))
    stage = "STAGE_SWITCH" if name == "dhcp server" else "STAGE_ROUTE"
    assert sent.trace.decision(stage) == "DECISION_ECHO_REPLY"
    assert sent.trace.decision("STAGE_DELIVER") == "DECISION_DELIVER_BACK"


def test_ping_of_the_link_local_gateway(send: Send) -> None:
    frame = Ether(src=WEB1.mac, dst=MAIN_WEB.mac)
    request = frame / l3(6, WEB1.link_local, MAIN_WEB.link_local) / l4("echo", 6)
    reply = Ether(src=MAIN_WEB.mac, dst=WEB1.mac) / l3(6, MAIN_WEB.link_local, WEB1.link_local)
    reply = reply / ICMPv6EchoReply(id=7, seq=1, data=bytes(range(64)))
    send("web1", request).arrives("web1", reply)


@pytest.mark.parametrize("ttl", [1, 255])
@pytest.mark.parametrize("name", ["gateway4", "gateway6"])
def test_gateway_answers_whatever_the_ttl(send: Send, name: str, ttl: int) -> None:
    """TTL 1 reaches the first router."""
    nic, mac, target = PINGS[name]
    sent = send(nic.name, ping(nic, mac, target, b"x", ttl))
    sent.arrives(nic.name, pong(nic, mac, target, b"x"))


def test_ping_with_ipv4_options(send: Send) -> None:
    request = ping(*PINGS["gateway4"], b"data")
    request[IP].options = b"\x01" * 8
    reply = pong(*PINGS["gateway4"], b"data")
    reply[IP].options = b"\x01" * 8
    send("web1", request).arrives("web1", reply)


def test_ping_with_extension_headers(send: Send) -> None:
    def build(source: str, destination: str, echo: Packet) -> Packet:
        return IPv6(src=source, dst=destination) / IPv6ExtHdrDestOpt() / echo

    request = Ether(src=WEB1.mac, dst=MAIN_WEB.mac) / build(
        WEB1.ipv6, MAIN_WEB.ipv6, ICMPv6EchoRequest(id=1, data=b"x")
    )
    reply = Ether(src=MAIN_WEB.mac, dst=WEB1.mac) / build(
        MAIN_WEB.ipv6, WEB1.ipv6, ICMPv6EchoReply(id=1, data=b"x")
    )
    send("web1", request).arrives("web1", reply)


def test_wrong_checksum_stays_wrong(send: Send) -> None:
    """An answer must not turn a broken request into a good one."""
    request = ping(*PINGS["gateway4"], b"data")
    request[ICMP].chksum = 0x1234
    sent = send("web1", request)
    reply = Ether(sent.frame)
    received = reply[ICMP].chksum
    del reply[ICMP].chksum
    assert received != Ether(bytes(reply))[ICMP].chksum


REFUSED = {
    "tcp4": (PINGS["gateway4"], TCP(dport=22)),
    "tcp6": (PINGS["gateway6"], TCP(dport=22)),
    "tcp to dhcp server": (PINGS["dhcp server"], TCP(dport=22)),
    "timestamp request": (PINGS["gateway4"], ICMP(type="timestamp-request")),
    "echo reply": (PINGS["gateway4"], ICMP(type="echo-reply", id=1)),
    "echo request with a code": (PINGS["gateway4"], ICMP(id=1, code=1)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_nothing_but_ping(send: Send, name: str) -> None:
    (nic, mac, target), message = REFUSED[name]
    version = 6 if ":" in target else 4
    frame = Ether(src=nic.mac, dst=mac) / l3(version, nic.address(version), target) / message
    sent = send(nic.name, frame)
    assert (sent.to, sent.reason) == (None, "DROP_ROUTER_SERVICE")


def test_fragment_of_a_ping_is_not_answered(send: Send) -> None:
    frame = Ether(src=WEB1.mac, dst=MAIN_WEB.mac) / IP(
        src=WEB1.ipv4, dst=MAIN_WEB.ipv4, flags="MF", proto=1
    )
    frame /= Raw(bytes(ICMP(id=1)) + bytes(16))
    assert send("web1", frame).reason == "DROP_ROUTER_SERVICE"
