"""A frame in one line."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6ND_NS, IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet, Raw

from heddle.events.summary import describe

MACS = Ether(src="fa:16:3e:00:00:01", dst="fa:16:3e:00:00:02")
FOUR = IP(src="10.0.0.1", dst="10.0.0.2", ttl=63)
SIX = IPv6(src="fd00::1", dst="fd00::2", hlim=62)
PREFIX = "fa:16:3e:00:00:01 > fa:16:3e:00:00:02, "


@pytest.mark.parametrize(
    ("packet", "words"),
    [
        (FOUR / TCP(sport=1, dport=80), "IPv4 10.0.0.1 > 10.0.0.2, TTL 63, TCP 1 > 80"),
        (FOUR / ICMP(), "IPv4 10.0.0.1 > 10.0.0.2, TTL 63, ICMP echo request"),
        (FOUR / ICMP(type=13), "IPv4 10.0.0.1 > 10.0.0.2, TTL 63, ICMP type 13"),
        (SIX / UDP(sport=5, dport=53), "IPv6 fd00::1 > fd00::2, hop limit 62, UDP 5 > 53"),
        (SIX / ICMPv6EchoRequest(), "IPv6 fd00::1 > fd00::2, hop limit 62, ICMPv6 echo request"),
        (
            SIX / ICMPv6ND_NS(tgt="fd00::2"),
            "IPv6 fd00::1 > fd00::2, hop limit 62, ICMPv6 neighbour solicitation",
        ),
        (ARP(op=1, psrc="10.0.0.1", pdst="10.0.0.2"), "ARP who has 10.0.0.2? tell 10.0.0.1"),
        (
            ARP(op=2, psrc="10.0.0.1", hwsrc="fa:16:3e:00:00:01", pdst="10.0.0.2"),
            "ARP 10.0.0.1 is at fa:16:3e:00:00:01",
        ),
        (Dot1Q(vlan=5) / FOUR, "VLAN"),
        (IP(src="10.0.0.1", dst="10.0.0.2", frag=9, proto=17), "TTL 64, UDP"),
        (IP(src="10.0.0.1", dst="10.0.0.2", proto=47), "TTL 64, protocol 47"),
    ],
)
def test_frames(packet: Packet, words: str) -> None:
    line = describe(bytes(MACS / packet))
    assert line.startswith(PREFIX)
    assert line.endswith(words)


def test_an_unknown_ethertype() -> None:
    assert describe(bytes(Ether(type=0x88CC) / Raw(b"x"))).endswith("ethertype 0x88cc")


@pytest.mark.parametrize("length", range(60))
def test_cut_short_anywhere(length: int) -> None:
    assert describe(bytes(MACS / SIX / TCP())[:length])
    assert describe(bytes(MACS / ARP())[:length])
