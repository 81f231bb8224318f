"""The probe frames of ``heddle trace``, against what scapy builds."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6ND_NS, ICMPv6NDOptSrcLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw

from heddle.datapath.frames import (
    Probe,
    Protocol,
    arp_request,
    checksum,
    neighbor_solicitation,
    probe_frame,
)

SOURCE_MAC, DESTINATION_MAC = bytes.fromhex("fa163e000001"), bytes.fromhex("fa163e000002")
PAYLOAD = bytes(range(0x10, 0x40))
L3 = {
    "ipv4": IP(src="10.0.0.1", dst="10.0.1.2", id=0, flags="DF"),
    "ipv6": IPv6(src="fd00::1", dst="fd00:1::2", hlim=64),
}
L4 = {
    Protocol.TCP: TCP(sport=40000, dport=80, seq=1, window=0xFFFF, flags="S"),
    Protocol.UDP: UDP(sport=40000, dport=80) / Raw(PAYLOAD),
}


@pytest.mark.parametrize("protocol", [Protocol.TCP, Protocol.UDP, Protocol.ICMP])
@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_probe_is_what_scapy_builds(family: str, protocol: Protocol) -> None:
    l3 = L3[family]
    probe = Probe(SOURCE_MAC, DESTINATION_MAC, l3.src, l3.dst, protocol, port=80)
    expected = Ether(src="fa:16:3e:00:00:01", dst="fa:16:3e:00:00:02") / l3 / _l4(family, protocol)
    assert probe_frame(probe) == bytes(expected)


def _l4(family: str, protocol: Protocol) -> Packet:
    if protocol is not Protocol.ICMP:
        return L4[protocol]
    if family == "ipv4":
        return ICMP(id=40000, seq=1) / Raw(PAYLOAD)
    return ICMPv6EchoRequest(id=40000, seq=1, data=PAYLOAD)


def test_arp_request_is_what_scapy_builds() -> None:
    expected = Ether(src="fa:16:3e:00:00:01", dst="ff:ff:ff:ff:ff:ff") / ARP(
        hwsrc="fa:16:3e:00:00:01", psrc="10.0.0.1", pdst="10.0.0.9"
    )
    assert arp_request(SOURCE_MAC, "10.0.0.1", "10.0.0.9") == bytes(expected)


def test_neighbor_solicitation_is_what_scapy_builds() -> None:
    expected = (
        Ether(src="fa:16:3e:00:00:01", dst="33:33:ff:00:0a:09")
        / IPv6(src="fd00::1", dst="ff02::1:ff00:a09", hlim=255)
        / ICMPv6ND_NS(tgt="fd00::a09")
        / ICMPv6NDOptSrcLLAddr(lladdr="fa:16:3e:00:00:01")
    )
    assert neighbor_solicitation(SOURCE_MAC, "fd00::1", "fd00::a09") == bytes(expected)


def test_udp_checksum_is_never_zero() -> None:
    """0 means that the sender made none (RFC 768); it goes out as all ones."""
    probes = (
        Probe(SOURCE_MAC, DESTINATION_MAC, "10.0.0.1", "10.0.0.2", Protocol.UDP, 1, payload=word)
        for word in (number.to_bytes(2, "big") for number in range(1 << 16))
    )
    sums = {frame[40:42] for frame in map(probe_frame, probes)}
    assert b"\0\0" not in sums
    assert b"\xff\xff" in sums


def test_odd_length_is_summed_with_a_zero_behind() -> None:
    assert checksum(b"\x01") == 0xFEFF


def test_two_families_are_refused() -> None:
    with pytest.raises(ValueError, match="two address families"):
        probe_frame(Probe(SOURCE_MAC, DESTINATION_MAC, "10.0.0.1", "fd00::1"))
