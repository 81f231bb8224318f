"""Neighbor solicitations are answered from intent (RFC 4861)."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

import pytest
from packet_world import DB1, LONE1, MAIN_DB, MAIN_WEB, WEB1, WEB2, WEB3, Nic, eui64
from scapy.layers.inet6 import (
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from tests.packets.conftest import Sent, Switchboard

Send = Callable[..., Sent]
ALL_NODES, ALL_NODES_MAC = "ff02::1", "33:33:00:00:00:01"


def solicited_node(address: str) -> tuple[str, str]:
    """The multicast address and MAC that a solicitation goes to (RFC 4291 2.7.1)."""
    last = ipaddress.IPv6Address(address).packed[-3:]
    group = ipaddress.IPv6Address(b"\xff\x02" + bytes(9) + b"\x01\xff" + last)
    return str(group), "33:33:ff:" + last.hex(":")


def solicitation(nic: Nic, target: str, source: str | None = None) -> Packet:
    group, mac = solicited_node(target)
    source = source or nic.ipv6
    ns = (
        Ether(src=nic.mac, dst=mac)
        / IPv6(src=source, dst=group, hlim=255)
        / ICMPv6ND_NS(tgt=target)
    )
    return ns if source == "::" else ns / ICMPv6NDOptSrcLLAddr(lladdr=nic.mac)


def advertisement(
    nic: Nic, target: str, mac: str, *, router: bool, source: str | None = None
) -> Packet:
    """The answer to a solicitation from an address, or from ``::``."""
    solicited = source != "::"
    return (
        Ether(src=mac, dst=nic.mac if solicited else ALL_NODES_MAC)
        / IPv6(src=target, dst=(source or nic.ipv6) if solicited else ALL_NODES, hlim=255)
        / ICMPv6ND_NA(tgt=target, R=int(router), S=int(solicited), O=1)
        / ICMPv6NDOptDstLLAddr(lladdr=mac)
    )


OWNERS = [
    (WEB1, WEB2.ipv6, WEB2.mac, False),
    (WEB1, WEB3.ipv6, WEB3.mac, False),
    (WEB3, WEB1.ipv6, WEB1.mac, False),
    (WEB1, MAIN_WEB.ipv6, MAIN_WEB.mac, True),
    (WEB1, WEB2.link_local, WEB2.mac, False),
    (WEB1, MAIN_WEB.link_local, MAIN_WEB.mac, True),
]


@pytest.mark.parametrize("source", ["address", "link-local", "none"])
@pytest.mark.parametrize(
    "owner", OWNERS, ids=["vm", "veth", "back", "gateway", "link-local", "gateway's link-local"]
)
def test_who_has(send: Send, owner: tuple[Nic, str, str, bool], source: str) -> None:
    nic, target, mac, router = owner
    address = {"address": nic.ipv6, "link-local": nic.link_local, "none": "::"}[source]
    sent = send(nic.name, solicitation(nic, target, address))
    sent.arrives(nic.name, advertisement(nic, target, mac, router=router, source=address))
    assert sent.trace.decision("STAGE_ANSWER") == "DECISION_ND_ADVERTISEMENT"


def test_unicast_reachability_check(send: Send) -> None:
    """RFC 4861 7.3.3: to the address itself, which may hold no MAC option."""
    frame = (
        Ether(src=WEB1.mac, dst=WEB2.mac)
        / IPv6(src=WEB1.ipv6, dst=WEB2.ipv6, hlim=255)
        / ICMPv6ND_NS(tgt=WEB2.ipv6)
    )
    sent = send("web1", frame)
    sent.arrives("web1", advertisement(WEB1, WEB2.ipv6, WEB2.mac, router=False))


def test_longer_question_gets_the_same_answer(send: Send) -> None:
    """Options that a host does not know are to be skipped (RFC 4861 9)."""
    frame = solicitation(WEB1, WEB2.ipv6) / bytes([14, 2, *range(14)])
    del frame[IPv6].plen
    frame = Ether(bytes(frame))
    del frame[ICMPv6ND_NS].cksum
    sent = send("web1", Ether(bytes(frame)))
    sent.arrives("web1", advertisement(WEB1, WEB2.ipv6, WEB2.mac, router=False))


@pytest.mark.parametrize("target", [WEB1.ipv6, WEB1.link_local])
def test_ones_own_address_is_free(send: Send, target: str) -> None:
    """Duplicate address detection (RFC 4862 5.4) must hear nothing."""
    sent = send("web1", solicitation(WEB1, target, "::"))
    assert (sent.to, sent.reason) == (None, None)
    assert sent.trace.decision("STAGE_ANSWER") == "DECISION_CONSUMED"


NOBODY = {
    "no such address": "fd00:17::99",
    "another network's": DB1.ipv6,
    "another network's router": MAIN_DB.ipv6,
    "another network's link-local": DB1.link_local,
    "lone's": LONE1.ipv6,
    "no MAC's link-local": "fe80::1",
    "unknown MAC's link-local": eui64("fa:16:3e:17:00:99"),
}


@pytest.mark.parametrize("name", NOBODY)
def test_nobody_has_it(send: Send, name: str) -> None:
    sent = send("web1", solicitation(WEB1, NOBODY[name]))
    assert (sent.to, sent.reason) == (None, "DROP_ND_UNKNOWN")


def test_answer_really_reaches_the_tap(board: Switchboard) -> None:
    board.devices["web1"].write(bytes(solicitation(WEB1, MAIN_WEB.ipv6)))
    expected = advertisement(WEB1, MAIN_WEB.ipv6, MAIN_WEB.mac, router=True)
    assert board.devices["web1"].read() == bytes(expected)
