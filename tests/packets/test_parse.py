"""What the parser makes of frames, whole and broken."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from packet_shapes import L4_NAMES, l3, l4, switched, to_router
from packet_world import DB1, MAIN_WEB, WEB1, WEB2
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.ipsec import AH
from scapy.layers.l2 import ARP, LLC, Dot1AD, Dot1Q, Ether
from scapy.packet import Packet, Raw

from tests.packets.conftest import Sent, Switchboard

Send = Callable[..., Sent]
ETHERNET_HEADER = 14
TO_WEB2 = Ether(src=WEB1.mac, dst=WEB2.mac)
UDP_PAYLOAD = UDP(sport=1, dport=2) / Raw(b"payload")


def ipv6(next_layers: Packet) -> Packet:
    return TO_WEB2 / IPv6(src=WEB1.ipv6, dst=WEB2.ipv6) / next_layers


def ipv4(**fields: object) -> Packet:
    return TO_WEB2 / IP(src=WEB1.ipv4, dst=WEB2.ipv4, **fields)


WHOLE = {
    "ipv4 options": ipv4(options=[IPOption_NOP()] * 4) / UDP_PAYLOAD,
    "ipv4 longest header": ipv4(options=[IPOption_NOP()] * 40) / UDP_PAYLOAD,
    "ipv4 sctp": ipv4(proto=132) / Raw(b"\0" * 40),
    "ipv4 other protocol, no payload": ipv4(proto=99),
    "ipv4 first fragment": ipv4(flags="MF", proto=17) / Raw(bytes(UDP_PAYLOAD) + b"\0" * 9),
    "ipv4 trailer": ipv4() / UDP_PAYLOAD / Raw(b""),
    "tcp options": ipv4() / TCP(options=[("MSS", 1400), ("SAckOK", b""), ("NOP", None)] * 3),
    "ipv6 hop by hop": ipv6(IPv6ExtHdrHopByHop() / UDP_PAYLOAD),
    "ipv6 many headers": ipv6(
        IPv6ExtHdrHopByHop()
        / IPv6ExtHdrDestOpt()
        / IPv6ExtHdrRouting(addresses=[])
        / IPv6ExtHdrDestOpt()
        / UDP_PAYLOAD
    ),
    "ipv6 authentication": ipv6(AH(nh=17, payloadlen=4, icv=b"\0" * 12) / UDP_PAYLOAD),
    "ipv6 first fragment": ipv6(IPv6ExtHdrFragment(m=1, id=5) / UDP_PAYLOAD),
    "ipv6 atomic fragment": ipv6(IPv6ExtHdrFragment(id=5) / UDP_PAYLOAD),
    "ipv6 no next header": ipv6(IPv6ExtHdrDestOpt(nh=59)),
    "ipv6 nothing": TO_WEB2 / IPv6(src=WEB1.ipv6, dst=WEB2.ipv6, nh=59),
}


@pytest.mark.parametrize("name", WHOLE)
def test_unusual_but_whole_packets_pass_untouched(send: Send, name: str) -> None:
    send("web1", WHOLE[name]).arrives("web2", WHOLE[name])


LATER = {
    "ipv4 later fragment": ipv4(flags=0, frag=100, proto=17) / Raw(b"\xff" * 24),
    "ipv4 later fragment of 1 byte": ipv4(flags=0, frag=100, proto=6) / Raw(b"\xff"),
    "ipv6 later fragment": ipv6(IPv6ExtHdrFragment(offset=9, id=5, nh=17) / Raw(b"\xff" * 3)),
}


@pytest.mark.parametrize("name", LATER)
def test_later_fragments_have_no_ports(board: Switchboard, send: Send, name: str) -> None:
    """Between ports that nobody filters, even when their first one was not seen."""
    for nic in (WEB1, WEB2):
        board.world.open_port(nic)
    send("web1", LATER[name]).arrives("web2", LATER[name])


def test_bytes_behind_the_packet_are_kept(send: Send) -> None:
    """Ethernet pads short frames; the IP length says where the packet ends."""
    frame = bytes(ipv4() / UDP(sport=1, dport=2)).ljust(60, b"\0")
    send("web1", frame).arrives("web2", frame)


BROKEN = {
    "ipv4 says version 5": ipv4(version=5) / UDP_PAYLOAD,
    "ipv4 header of 16 bytes": ipv4(ihl=4) / UDP_PAYLOAD,
    "ipv4 header longer than the packet": ipv4(ihl=15, len=40) / UDP_PAYLOAD,
    "ipv4 length beyond the frame": ipv4(len=200) / UDP_PAYLOAD,
    "ipv4 length shorter than its header": ipv4(len=19) / UDP_PAYLOAD,
    "ipv4 length zero": ipv4(len=0) / UDP_PAYLOAD,
    "ipv6 says version 4": TO_WEB2 / IPv6(version=4, src=WEB1.ipv6, dst=WEB2.ipv6) / UDP_PAYLOAD,
    "ipv6 length beyond the frame": TO_WEB2
    / IPv6(src=WEB1.ipv6, dst=WEB2.ipv6, plen=200)
    / UDP_PAYLOAD,
    "ipv6 extension beyond the frame": ipv6(IPv6ExtHdrDestOpt(nh=17, len=200)),
    "ipv6 endless chain": ipv6(
        IPv6ExtHdrDestOpt()
        / IPv6ExtHdrDestOpt()
        / IPv6ExtHdrDestOpt()
        / IPv6ExtHdrDestOpt()
        / IPv6ExtHdrDestOpt()
        / IPv6ExtHdrDestOpt()
        / IPv6ExtHdrDestOpt()
        / IPv6ExtHdrDestOpt()
        / IPv6ExtHdrDestOpt()
        / UDP_PAYLOAD
    ),
    "tcp header of 16 bytes": ipv4() / TCP(dataofs=4),
    "tcp header longer than the packet": ipv4() / TCP(dataofs=15),
    "udp without room for its header": ipv4(proto=17) / Raw(b"\0" * 7),
    "tcp without room for its header": ipv4(proto=6) / Raw(b"\0" * 19),
    "icmp without room for its header": ipv4(proto=1) / Raw(b"\x08" * 7),
    "udp header behind the packet's end": ipv4(proto=17, len=24) / Raw(b"\0" * 60),
    "tcp header behind the packet's end": ipv4(proto=6, len=36) / Raw(b"\x50" * 60),
    "icmp header behind the packet's end": ipv4(proto=1, len=24) / Raw(b"\x08" * 60),
    "ipv6 from an ipv4-mapped address": TO_WEB2
    / IPv6(src=f"::ffff:{WEB1.ipv4}", dst=WEB2.ipv6)
    / UDP_PAYLOAD,
    "ipv6 to an ipv4-mapped address": TO_WEB2
    / IPv6(src=WEB1.ipv6, dst=f"::ffff:{WEB2.ipv4}")
    / UDP_PAYLOAD,
    "udp6 header behind the packet's end": TO_WEB2
    / IPv6(src=WEB1.ipv6, dst=WEB2.ipv6, nh=17, plen=4)
    / Raw(b"\0" * 60),
}


@pytest.mark.parametrize("name", BROKEN)
def test_headers_that_contradict_are_malformed(send: Send, name: str) -> None:
    sent = send("web1", BROKEN[name])
    assert (sent.to, sent.reason) == (None, "DROP_MALFORMED")


TAGGED = {
    "802.1Q": Ether(src=WEB1.mac, dst=WEB2.mac) / Dot1Q(vlan=20),
    "802.1ad": Ether(src=WEB1.mac, dst=WEB2.mac) / Dot1AD(vlan=20) / Dot1Q(vlan=30),
    "priority": Ether(src=WEB1.mac, dst=WEB2.mac) / Dot1Q(vlan=0, prio=5),
}


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("name", TAGGED)
def test_tagged_frames_are_dropped(send: Send, name: str, version: int) -> None:
    inner = l3(version, WEB1.address(version), WEB2.address(version)) / l4("udp", version)
    assert send("web1", TAGGED[name] / inner).reason == "DROP_VLAN_TAGGED"


@pytest.mark.parametrize("name", TAGGED)
def test_tag_in_the_skb_is_dropped_as_well(board: Switchboard, name: str) -> None:
    """A frame from a real device: the kernel has put its tag beside the data."""
    inner = l3(4, WEB1.ipv4, WEB2.ipv4) / l4("udp", 4)
    board.devices["web1"].write(bytes(TAGGED[name] / inner))
    assert board.drop_count("web1", "DROP_VLAN_TAGGED")["packets"] == 1
    assert board.devices["web2"].read_all() == []


OTHER_TYPES = {
    "lldp": Ether(src=WEB1.mac, dst=WEB2.mac, type=0x88CC) / Raw(b"\0" * 46),
    "mpls": Ether(src=WEB1.mac, dst=WEB2.mac, type=0x8847) / Raw(b"\0" * 46),
    "pppoe": Ether(src=WEB1.mac, dst=WEB2.mac, type=0x8864) / Raw(b"\0" * 46),
    "spanning tree": Ether(src=WEB1.mac, dst="01:80:c2:00:00:00", type=38)
    / LLC(dsap=0x42, ssap=0x42, ctrl=3)
    / Raw(b"\0" * 35),
}


@pytest.mark.parametrize("name", OTHER_TYPES)
def test_other_ethertypes_are_dropped(send: Send, name: str) -> None:
    assert send("web1", OTHER_TYPES[name]).reason == "DROP_UNSUPPORTED_ETHERTYPE"


def shapes_to_cut() -> dict[str, Packet]:
    shapes = {
        f"{kind}{version}": to_router(WEB1, MAIN_WEB, DB1.address(version), kind)
        for version in (4, 6)
        for kind in L4_NAMES
    }
    shapes["arp"] = Ether(src=WEB1.mac, dst="ff:ff:ff:ff:ff:ff") / ARP(
        hwsrc=WEB1.mac, psrc=WEB1.ipv4, pdst=WEB2.ipv4
    )
    shapes["many headers"] = WHOLE["ipv6 many headers"]
    shapes["ipv4 options"] = WHOLE["ipv4 options"]
    return shapes


@pytest.mark.parametrize("name", shapes_to_cut())
def test_cut_at_every_length_is_malformed_and_counted(board: Switchboard, name: str) -> None:
    """Through a real TAP, which takes what a test run refuses as too short."""
    frame = bytes(shapes_to_cut()[name])
    lengths = range(ETHERNET_HEADER, len(frame))
    for length in lengths:
        board.devices["web1"].write(frame[:length])
    counted = board.drop_count("web1", "DROP_MALFORMED")
    assert counted == {"packets": len(lengths), "bytes": sum(lengths)}
    assert board.flows() == []
    assert all(device.read_all() == [] for device in board.devices.values())

    board.devices["web1"].write(frame)
    assert board.drop_count("web1", "DROP_MALFORMED") == counted, "the whole frame passes"


def test_icmp_kinds_of_both_families_are_told_apart(send: Send) -> None:
    """ICMP in IPv6 and ICMPv6 in IPv4 are just other protocols."""
    odd = TO_WEB2 / IPv6(src=WEB1.ipv6, dst=WEB2.ipv6, nh=1) / ICMP(id=7)
    send("web1", odd).arrives("web2", odd)
    inner = bytes(ICMPv6EchoRequest(id=7, cksum=1))
    odd = TO_WEB2 / IP(src=WEB1.ipv4, dst=WEB2.ipv4, proto=58) / Raw(inner)
    send("web1", odd).arrives("web2", odd)


@pytest.mark.parametrize("version", [4, 6])
def test_payload_is_not_looked_into(send: Send, version: int) -> None:
    """A packet within a packet is payload."""
    inner = bytes(switched(WEB2, WEB1, version)[1])
    frame = TO_WEB2 / l3(version, WEB1.address(version), WEB2.address(version))
    frame = frame / UDP(sport=4789, dport=4789) / Raw(inner)
    send("web1", frame).arrives("web2", frame)
