"""Router solicitations are answered with the network's template (RFC 4861 6.2.6)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from packet_world import (
    GATE,
    LONE1,
    MAIN_DB,
    MAIN_WEB,
    PREFERRED,
    VALID,
    WEB,
    WEB1,
    WEB2,
    Nic,
    mac_bytes,
    ra_message,
)
from scapy.layers.inet6 import (
    ICMPv6ND_RA,
    ICMPv6ND_RS,
    ICMPv6NDOptMTU,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptRDNSS,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from tests.packets.conftest import Sent, Switchboard

Send = Callable[..., Sent]
ALL_NODES, ALL_NODES_MAC = "ff02::1", "33:33:00:00:00:01"
ALL_ROUTERS, ALL_ROUTERS_MAC = "ff02::2", "33:33:00:00:00:02"


def solicitation(nic: Nic, source: str) -> Packet:
    rs = Ether(src=nic.mac, dst=ALL_ROUTERS_MAC) / IPv6(src=source, dst=ALL_ROUTERS, hlim=255)
    rs /= ICMPv6ND_RS()
    return rs if source == "::" else rs / ICMPv6NDOptSrcLLAddr(lladdr=nic.mac)


def expected_advertisement(nic: Nic, source: str) -> Packet:
    """Written from the RFC, not from the template."""
    unicast = source != "::"
    return (
        Ether(src=MAIN_WEB.mac, dst=nic.mac if unicast else ALL_NODES_MAC)
        / IPv6(src=MAIN_WEB.link_local, dst=source if unicast else ALL_NODES, hlim=255)
        / ICMPv6ND_RA(M=1, O=1, routerlifetime=9000, chlim=64)
        / ICMPv6NDOptSrcLLAddr(lladdr=MAIN_WEB.mac)
        / ICMPv6NDOptMTU(mtu=WEB.mtu)
        / ICMPv6NDOptPrefixInfo(
            prefix="fd00:17::",
            prefixlen=64,
            L=1,
            A=0,
            validlifetime=VALID,
            preferredlifetime=PREFERRED,
        )
    )


@pytest.mark.parametrize("source", [WEB1.link_local, WEB1.ipv6, "::"])
def test_solicited_advertisement(send: Send, source: str) -> None:
    sent = send("web1", solicitation(WEB1, source))
    sent.arrives("web1", expected_advertisement(WEB1, source))
    assert sent.trace.decision("STAGE_ANSWER") == "DECISION_ROUTER_ADVERTISEMENT"


def test_template_of_every_length_is_summed_right(board: Switchboard, send: Send) -> None:
    """RDNSS options make it longer, up to what the table holds."""
    longest = board.world.value("RA_OPTIONS_MAX")
    servers = 0
    while True:
        servers += 1
        option = ICMPv6NDOptRDNSS(dns=[f"fd00:17::{i + 1}" for i in range(servers)], lifetime=600)
        message = ra_message(MAIN_WEB) + bytes(option)
        if len(message) > longest:
            break
        row = {"router_mac": mac_bytes(MAIN_WEB.mac), "length": len(message), "message": message}
        board.world.put("ra_templates", WEB.vni, row)
        expected = expected_advertisement(WEB1, WEB1.link_local) / option
        send("web1", solicitation(WEB1, WEB1.link_local)).arrives("web1", expected)
    assert servers > 20


@pytest.mark.parametrize("nic", [LONE1, GATE], ids=["no router", "no template"])
def test_network_without_advertisements_is_silent(send: Send, nic: Nic) -> None:
    sent = send(nic.name, solicitation(nic, nic.link_local))
    assert (sent.to, sent.reason) == (None, None)
    assert sent.trace.decision("STAGE_ANSWER") == "DECISION_CONSUMED"


def test_unicast_to_the_router_is_answered(send: Send) -> None:
    frame = solicitation(WEB2, WEB2.link_local)
    frame.dst, frame[IPv6].dst = MAIN_WEB.mac, MAIN_WEB.link_local
    send("web2", frame).arrives("web2", expected_advertisement(WEB2, WEB2.link_local))


def test_other_networks_router_is_not_advertised(send: Send) -> None:
    """db has a router too, but its template is not there: web's is not used."""
    sent = send("gate", solicitation(GATE, GATE.ipv6))
    assert MAIN_DB.mac not in Ether(sent.frame).src
    assert sent.to is None


def test_answer_really_reaches_the_tap(board: Switchboard) -> None:
    board.devices["web1"].write(bytes(solicitation(WEB1, WEB1.link_local)))
    assert board.devices["web1"].read() == bytes(expected_advertisement(WEB1, WEB1.link_local))
