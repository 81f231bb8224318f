"""Captured frames: each kind of leak is planted and found under its name, and what
guests may see is left alone."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from scapy.contrib.lldp import LLDPDU
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.dns import DNS
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPerror, UDPerror
from scapy.layers.inet6 import (
    ICMPv6MLReport2,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6PacketTooBig,
    IPv6,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import ARP, LLC, STP, Dot1AD, Dot1Q, Dot3, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw

from heddle.leaks.catalogue import CATALOGUE
from heddle.leaks.frames import Wire, judge_on_wire, judge_to_guest
from heddle.leaks.guests import GuestNetwork, GuestPort, Guests
from heddle.leaks.physical import Physical

VM, OTHER, ROUTER = "fa:16:3e:00:00:01", "fa:16:3e:00:00:02", "fa:16:3e:00:00:fe"
HOST, PEER = "52:54:00:00:00:01", "52:54:00:00:00:02"
VTEP, OTHER_VTEP, STRANGER = "198.18.0.1", "198.18.0.2", "198.18.0.9"
VNI = 77


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def address(text: str) -> bytes:
    return ip_address(text).packed


def network(*, strangers: bool = False) -> GuestNetwork:
    return GuestNetwork(
        name="web",
        vni=VNI,
        mtu=1450,
        macs={mac(VM), mac(OTHER), mac(ROUTER)},
        addresses={address(text) for text in ("10.0.0.1", "10.0.0.2", "10.0.0.3", "fd00::2")},
        routers={mac(ROUTER)},
        strangers=strangers,
    )


PHYSICAL = Physical(
    {mac(HOST): "the MAC of eth0"},
    {address(VTEP): "the VTEP of h1", address("fd99::1"): "the address of eth0"},
)


def found(frame: Packet, *, strangers: bool = False) -> list[str]:
    port = GuestPort("vm0:0", "tap0", network(strangers=strangers), mac(VM), ())
    return [leak.name for leak in judge_to_guest(bytes(frame), port, PHYSICAL)]


def from_host(payload: Packet, destination: str = "ff:ff:ff:ff:ff:ff") -> Packet:
    return Ether(src=HOST, dst=destination) / payload


def inside() -> Packet:
    return Ether(src=OTHER, dst=VM) / IP(src="10.0.0.3", dst="10.0.0.2")


QUOTED = IPerror(src=VTEP, dst=OTHER_VTEP) / UDPerror(sport=1, dport=4789)

PLANTED = {
    "guest-lldp": [
        from_host(LLDPDU(), "01:80:c2:00:00:0e"),
        Dot3(src=HOST, dst="01:00:0c:cc:cc:cc") / LLC() / Raw(b"cdp"),
    ],
    "guest-stp": [Dot3(src=HOST, dst="01:80:c2:00:00:00") / LLC() / STP()],
    "guest-igmp": [from_host(IP(src=VTEP, dst="224.0.0.22", proto=2) / Raw(b"\x22" + bytes(15)))],
    "guest-mld": [
        from_host(IPv6(dst="ff02::16") / IPv6ExtHdrHopByHop() / ICMPv6MLReport2()),
    ],
    "guest-nd": [
        from_host(IPv6(dst="ff02::1") / ICMPv6ND_RA()),
        from_host(IPv6(src="::", dst="ff02::1:ff00:1") / ICMPv6ND_NS(tgt="fe80::1")),
    ],
    "guest-mdns": [
        from_host(IP(src=VTEP, dst="224.0.0.251") / UDP(sport=5353, dport=5353) / DNS()),
        from_host(IP(src=VTEP, dst="239.255.255.250") / UDP(sport=5000, dport=1900)),
    ],
    "guest-dhcp": [
        from_host(IP(src=VTEP) / UDP(sport=67, dport=68) / BOOTP(op=2) / DHCP()),
    ],
    "guest-arp": [
        from_host(ARP(op=1, hwsrc=HOST, psrc=VTEP, pdst="10.0.0.2")),
        Ether(src=ROUTER, dst=VM) / ARP(op=2, hwsrc=HOST, psrc="10.0.0.1", pdst="10.0.0.2"),
        Ether(src=OTHER, dst=VM) / ARP(op=1, hwsrc=OTHER, psrc=VTEP, pdst="10.0.0.2"),
    ],
    "guest-icmp": [
        from_host(IP(src=STRANGER, dst="10.0.0.2") / ICMP(type=3, code=4) / QUOTED, VM),
        Ether(src=ROUTER, dst=VM) / IP(src=VTEP, dst="10.0.0.2") / ICMP(type=11) / QUOTED,
        Ether(src=ROUTER, dst=VM) / IP(src="10.0.0.1", dst="10.0.0.2") / ICMP(type=3) / QUOTED,
        Ether(src=ROUTER, dst=VM) / IPv6(src="fd99::1", dst="fd00::2") / ICMPv6PacketTooBig(),
    ],
    "guest-frame": [
        from_host(IP(src=VTEP, dst="10.0.0.2") / TCP(), VM),
        from_host(Raw(bytes(46)), VM),
        from_host(IPv6(dst="fd00::2") / IPv6ExtHdrRouting() / TCP(), VM),
    ],
}


@pytest.mark.parametrize(
    ("name", "frame"),
    [
        pytest.param(name, frame, id=f"{name}-{number}")
        for name, frames in PLANTED.items()
        for number, frame in enumerate(frames)
    ],
)
def test_planted_frame_is_found(name: str, frame: Packet) -> None:
    assert found(frame) == [name]
    assert found(frame, strangers=True) == [name]  # the host's MAC is no guest's


def test_every_line_about_guests_is_planted() -> None:
    assert PLANTED.keys() == {name for name in CATALOGUE if name.startswith("guest-")}


@pytest.mark.parametrize(
    "frame",
    [
        inside() / TCP(),
        inside() / UDP(sport=5353, dport=5353) / DNS(),
        inside() / ICMP(type=3) / IPerror(src="10.0.0.2", dst="10.0.0.3") / UDPerror(),
        Ether(src=ROUTER, dst=VM) / ARP(op=2, hwsrc=ROUTER, psrc="10.0.0.1", pdst="10.0.0.2"),
        Ether(src=ROUTER, dst=VM) / IPv6(dst="ff02::1") / ICMPv6ND_RA(),
        Ether(src=ROUTER, dst=VM) / IP(src="10.9.9.9", dst="10.0.0.2") / TCP(),  # from elsewhere
        Ether(src=ROUTER, dst=VM) / IP() / UDP(sport=67, dport=68) / BOOTP(op=2) / DHCP(),
    ],
)
def test_what_guests_may_see_is_no_leak(frame: Packet) -> None:
    assert found(frame) == []


def test_learned_macs_are_no_strangers() -> None:
    frame = Ether(src="02:00:00:00:00:99", dst=VM) / IP(dst="10.0.0.2") / TCP()
    assert found(frame) == ["guest-frame"]
    assert found(frame, strangers=True) == []


def test_cut_frames_are_judged_by_what_is_there() -> None:
    whole = bytes(PLANTED["guest-icmp"][0])
    port = GuestPort("vm0:0", "tap0", network(), mac(VM), ())
    for length in range(14, len(whole)):
        assert len(list(judge_to_guest(whole[:length], port, PHYSICAL))) == 1


# ---- on the wire ---------------------------------------------------------------


def on_wire(frame: Packet, *, leaves: bool = True) -> list[str]:
    guests = Guests({VNI: network()}, {})
    hosts = {address(VTEP): 4789, address(OTHER_VTEP): 4789}
    wire = Wire.of(guests, PHYSICAL, hosts, probe_vni=0xFFFFFF)
    return [leak.name for leak in judge_on_wire(bytes(frame), "eth0", wire, leaves=leaves)]


def envelope(destination: str = OTHER_VTEP, vni: int = VNI) -> Packet:
    outer = Ether(src=HOST, dst=PEER) / IP(src=VTEP, dst=destination)
    return outer / UDP(sport=50000, dport=4789) / VXLAN(flags=8, vni=vni) / inside() / TCP()


def test_envelopes_between_hosts_are_no_leak() -> None:
    assert on_wire(envelope()) == []
    assert on_wire(envelope(vni=0xFFFFFF)) == []  # a probe


def test_what_hosts_say_to_each_other_is_no_leak() -> None:
    assert on_wire(Ether(src=HOST, dst=PEER) / IP(src=VTEP, dst=OTHER_VTEP) / TCP()) == []


@pytest.mark.parametrize(
    ("name", "frame"),
    [
        ("wire-frame", inside() / TCP()),
        ("wire-frame", Ether(src=HOST, dst=VM) / IP(dst="10.0.0.2") / TCP()),
        ("wire-packet", Ether(src=HOST, dst=PEER) / IP(src="10.0.0.2", dst="192.0.2.1") / TCP()),
        ("wire-packet", Ether(src=HOST, dst=PEER) / IPv6(src="2001:db8::1", dst="fd00::2") / TCP()),
        (
            "wire-packet",
            Ether(src=HOST, dst=PEER) / Dot1AD(vlan=5) / Dot1Q(vlan=6) / IP(dst="10.0.0.2") / TCP(),
        ),
        ("wire-vtep", envelope(STRANGER)),
        ("wire-network", envelope(vni=78)),
    ],
)
def test_planted_frame_on_the_wire_is_found(name: str, frame: Packet) -> None:
    assert on_wire(frame) == [name]


def test_envelopes_of_others_are_theirs_to_answer_for() -> None:
    assert on_wire(envelope(STRANGER), leaves=False) == []
