"""Answers of the data plane: what tests with a live one can't plant."""

from __future__ import annotations

from dataclasses import replace

from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6ND_RA, ICMPv6NDOptMTU, IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from heddle.datapath.trace import Trace
from heddle.leaks.answers import examine_hops
from heddle.leaks.guests import GuestNetwork, GuestPort
from heddle.leaks.questions import offered_mtu

PORT = GuestPort("vm0:0", "tap0", GuestNetwork("web", 77, 1450), bytes(6), ())
INDEX, OTHER_INDEX, REDIRECT = 7, 8, 7


def routed(before: Packet, after: Packet, hops: int = 1) -> Trace:
    """A packet that was routed to another port."""
    nothing = dict.fromkeys(Trace.__slots__, 0)
    return replace(
        Trace(**nothing),  # type: ignore[arg-type]
        verdict=REDIRECT,
        drop_reason=None,
        to_ifindex=OTHER_INDEX,
        hops=hops,
        frame_in=bytes(before),
        frame_out=bytes(after),
    )


def ping(ttl: int) -> Packet:
    return Ether() / IP(ttl=ttl) / ICMP()


def ping6(ttl: int) -> Packet:
    return Ether() / IPv6(hlim=ttl) / ICMPv6EchoRequest()


def names(result: Trace) -> list[str]:
    return [leak.name for leak in examine_hops(PORT, result, INDEX)]


def test_ttl_that_counts_more_than_routers_is_found() -> None:
    assert names(routed(ping(64), ping(62))) == ["ttl"]
    assert names(routed(ping(64), ping(64))) == ["ttl"]
    assert names(routed(ping6(64), ping6(62))) == ["ttl"]


def test_a_router_takes_one() -> None:
    assert names(routed(ping(64), ping(63))) == []
    assert names(routed(ping(64), ping(62), hops=2)) == []
    assert names(routed(ping6(64), ping6(63))) == []


def test_answers_and_switched_packets_are_not_counted() -> None:
    assert names(replace(routed(ping(64), ping(255)), to_ifindex=INDEX)) == []
    assert names(routed(ping(64), ping(64), hops=0)) == []


def test_mtu_of_a_router_advertisement_is_read() -> None:
    advertisement = Ether() / IPv6() / ICMPv6ND_RA() / ICMPv6NDOptMTU(mtu=1399)
    assert offered_mtu(bytes(advertisement)) == 1399
    assert offered_mtu(bytes(ping6(64))) is None
