"""What a VM may claim to be."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from packet_shapes import L4_NAMES, forwarded, l3, l4, switched
from packet_world import DB1, GATE, MAIN_DB, MAIN_WEB, SERVICE_MAC, WEB1, WEB2, eui64
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.dhcp6 import DHCP6_Advertise
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import (
    ICMPv6MLReport2,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_Redirect,
    ICMPv6ND_RS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    RouterAlert,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw

from tests.packets.conftest import Sent, Switchboard

Send = Callable[..., Sent]
BROADCAST = "ff:ff:ff:ff:ff:ff"
ALL_NODES_MAC = "33:33:00:00:00:01"


def reason(send: Send, device: str, frame: Packet) -> str | None:
    sent = send(device, frame)
    assert sent.to is None
    return sent.reason


# ---- MAC ----------------------------------------------------------------------


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("mac", [WEB2.mac, MAIN_WEB.mac, "02:00:00:00:00:01", "01:00:5e:00:00:01"])
def test_foreign_source_mac(send: Send, mac: str, version: int) -> None:
    frame = switched(WEB1, WEB2, version)
    frame.src = mac
    assert reason(send, "web1", frame) == "DROP_SOURCE_MAC"


def test_foreign_source_mac_of_arp(send: Send) -> None:
    frame = Ether(src=WEB2.mac, dst=BROADCAST) / ARP(hwsrc=WEB1.mac, psrc=WEB1.ipv4, pdst="1.1.1.1")
    assert reason(send, "web1", frame) == "DROP_SOURCE_MAC"


def test_source_mac_of_a_known_flow_is_guarded_too(board: Switchboard, send: Send) -> None:
    """A flow that exists does not let others in by its addresses."""
    frame = switched(WEB1, WEB2, 4)
    send("web1", frame).arrives("web2", frame)
    frame.src = WEB2.mac
    assert reason(send, "web1", frame) == "DROP_SOURCE_MAC"


# ---- IP addresses ---------------------------------------------------------------

FOREIGN = {
    "neighbor4": WEB2.ipv4,
    "gateway4": MAIN_WEB.ipv4,
    "other network4": DB1.ipv4,
    "nobody4": "172.17.17.99",
    "loopback4": "127.0.0.1",
    "multicast4": "224.0.0.1",
    "broadcast4": "255.255.255.255",
    "unspecified4": "0.0.0.0",  # noqa: S104
    "neighbor6": WEB2.ipv6,
    "gateway6": MAIN_WEB.ipv6,
    "other network6": DB1.ipv6,
    "nobody6": "fd00:17::99",
    "unspecified6": "::",
    "multicast6": "ff02::1",
    "neighbor's link-local": WEB2.link_local,
    "gateway's link-local": MAIN_WEB.link_local,
    "a made-up link-local": "fe80::1",
}


@pytest.mark.parametrize("kind", L4_NAMES)
@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_source_address(send: Send, name: str, kind: str) -> None:
    source = FOREIGN[name]
    version = 6 if ":" in source else 4
    frame = Ether(src=WEB1.mac, dst=WEB2.mac) / l3(version, source, WEB2.address(version))
    assert reason(send, "web1", frame / l4(kind, version)) == "DROP_SOURCE_IP"


def test_own_link_local_address(send: Send) -> None:
    frame = Ether(src=WEB1.mac, dst=WEB2.mac) / l3(6, WEB1.link_local, WEB2.link_local)
    frame /= l4("udp", 6)
    send("web1", frame).arrives("web2", frame)


@pytest.mark.parametrize("address", ["10.9.1.2", "fd00:9:0:1::2"])
def test_prefix_routed_to_the_port_is_its_own(send: Send, address: str) -> None:
    """gate forwards for what lies behind it."""
    version = 6 if ":" in address else 4
    frame = Ether(src=GATE.mac, dst=MAIN_DB.mac) / l3(version, address, WEB1.address(version))
    frame /= l4("udp", version)
    send("gate", frame).arrives("web1", forwarded(frame, MAIN_WEB.mac, WEB1.mac))


@pytest.mark.parametrize("address", ["10.9.1.2", "10.10.0.1", "fd00:9:0:1::2", "fd00:a::1"])
def test_prefix_routed_to_another_port_is_not(send: Send, address: str) -> None:
    version = 6 if ":" in address else 4
    frame = Ether(src=DB1.mac, dst=MAIN_DB.mac) / l3(version, address, WEB1.address(version))
    assert reason(send, "db1", frame / l4("udp", version)) == "DROP_SOURCE_IP"


@pytest.mark.parametrize(
    ("source", "is_good"),
    [
        ("223.255.255.254", True),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("127.0.0.1", False),
        ("2001:db8::1", True),
        ("ff02::1", False),
        ("::1", False),
    ],
)
def test_a_routed_default_holds_no_multicast_and_no_loopback(
    board: Switchboard, send: Send, source: str, is_good: bool
) -> None:
    version = 6 if ":" in source else 4
    board.world.put_pair(WEB1, "::/0" if version == 6 else "0.0.0.0/0", WEB1.mac)
    frame = Ether(src=WEB1.mac, dst=WEB2.mac) / l3(version, source, WEB2.address(version))
    sent = send("web1", frame / l4("udp", version))
    assert sent.reason == (None if is_good else "DROP_SOURCE_IP")


def test_second_address_row_opens_the_address(board: Switchboard, send: Send) -> None:
    """Not one address per port, but any row that points to it."""
    target = board.devices["web1"].ifindex
    kind = board.world.value("ENDPOINT_PORT")
    board.world.put_address(WEB1.network, "172.17.17.200", kind, target, WEB1.mac)
    frame = Ether(src=WEB1.mac, dst=WEB2.mac) / l3(4, "172.17.17.200", WEB2.ipv4) / l4("udp", 4)
    send("web1", frame).arrives("web2", frame)


# ---- ARP --------------------------------------------------------------------------


def arp(**fields: object) -> Packet:
    message = {"op": 1, "hwsrc": WEB1.mac, "psrc": WEB1.ipv4, "pdst": WEB2.ipv4, **fields}
    return Ether(src=WEB1.mac, dst=BROADCAST) / ARP(**message)


SPOOFED_ARP = {
    "sender MAC": {"hwsrc": WEB2.mac},
    "sender address": {"psrc": WEB2.ipv4},
    "gateway's address": {"psrc": MAIN_WEB.ipv4},
    "nobody's address": {"psrc": "172.17.17.99"},
    "announcement of the gateway": {"psrc": MAIN_WEB.ipv4, "pdst": MAIN_WEB.ipv4},
    "reply for the gateway": {"op": 2, "psrc": MAIN_WEB.ipv4},
    "reply from nobody": {"op": 2, "psrc": "0.0.0.0"},  # noqa: S104
}


@pytest.mark.parametrize("name", SPOOFED_ARP)
def test_spoofed_arp(send: Send, name: str) -> None:
    assert reason(send, "web1", arp(**SPOOFED_ARP[name])) == "DROP_ARP_SPOOF"


BROKEN_ARP = {
    "hardware type": {"hwtype": 6},
    "protocol type": {"ptype": 0x86DD},
    "operation": {"op": 3},
}


@pytest.mark.parametrize("name", BROKEN_ARP)
def test_arp_that_is_not_ethernet_and_ipv4(send: Send, name: str) -> None:
    assert reason(send, "web1", arp(**BROKEN_ARP[name])) == "DROP_MALFORMED"


# ---- neighbor discovery ---------------------------------------------------------


def nd(message: Packet, source: str = WEB1.ipv6, **ip: object) -> Packet:
    header = {"src": source, "dst": "ff02::1", "hlim": 255, **ip}
    return Ether(src=WEB1.mac, dst=ALL_NODES_MAC) / IPv6(**header) / message


NA = ICMPv6ND_NA(tgt=WEB1.ipv6, R=0, S=0, O=1) / ICMPv6NDOptDstLLAddr(lladdr=WEB1.mac)
NS = ICMPv6ND_NS(tgt=WEB2.ipv6) / ICMPv6NDOptSrcLLAddr(lladdr=WEB1.mac)
SPOOFED_ND = {
    "advertises a neighbor's address": nd(ICMPv6ND_NA(tgt=WEB2.ipv6)),
    "advertises the gateway": nd(ICMPv6ND_NA(tgt=MAIN_WEB.link_local)),
    "advertises another MAC": nd(
        ICMPv6ND_NA(tgt=WEB1.ipv6) / ICMPv6NDOptDstLLAddr(lladdr=WEB2.mac)
    ),
    "asks with another MAC": nd(ICMPv6ND_NS(tgt=WEB2.ipv6) / ICMPv6NDOptSrcLLAddr(lladdr=WEB2.mac)),
    "router solicitation with another MAC": nd(
        ICMPv6ND_RS() / ICMPv6NDOptSrcLLAddr(lladdr=WEB2.mac)
    ),
    "came through a router": nd(NA, hlim=254),
    "code": nd(ICMPv6ND_NA(tgt=WEB1.ipv6, code=1)),
    "option of length 0": nd(ICMPv6ND_NA(tgt=WEB1.ipv6) / Raw(b"\x02\0" + bytes(6))),
    "option beyond the packet": nd(ICMPv6ND_NA(tgt=WEB1.ipv6) / Raw(b"\x02\x05" + bytes(6))),
    "second option lies": nd(NA / ICMPv6NDOptDstLLAddr(lladdr=WEB2.mac)),
}


@pytest.mark.parametrize("name", SPOOFED_ND)
def test_spoofed_neighbor_discovery(send: Send, name: str) -> None:
    assert reason(send, "web1", SPOOFED_ND[name]) == "DROP_ND_SPOOF"


def test_fragmented_neighbor_discovery(send: Send) -> None:
    """RFC 6980: a fragment could hide what it says."""
    payload = bytes(NS)
    frame = nd(IPv6ExtHdrFragment(nh=58, m=1, id=1) / Raw(payload))
    assert reason(send, "web1", frame) == "DROP_ND_SPOOF"


@pytest.mark.parametrize("extension", [IPv6ExtHdrDestOpt(), IPv6ExtHdrHopByHop()])
def test_extension_headers_do_not_hide_an_advertisement(send: Send, extension: Packet) -> None:
    frame = nd(extension / ICMPv6ND_RA())
    assert reason(send, "web1", frame) == "DROP_ROUTER_ADVERTISEMENT"


@pytest.mark.parametrize("source", [WEB1.ipv6, WEB1.link_local])
@pytest.mark.parametrize(
    "message",
    [ICMPv6ND_RA(), ICMPv6ND_Redirect(tgt=WEB1.ipv6, dst=DB1.ipv6)],
    ids=["ra", "redirect"],
)
def test_no_vm_is_a_router(send: Send, message: Packet, source: str) -> None:
    assert reason(send, "web1", nd(message, source)) == "DROP_ROUTER_ADVERTISEMENT"


def test_honest_advertisement_reaches_the_others(board: Switchboard) -> None:
    told = board.trace("web1", nd(NA))
    assert told.drop_reason is None
    assert told.copies == 2


def test_multicast_report_from_no_address_passes(board: Switchboard) -> None:
    """A host reports its groups before it has an address (RFC 3810 5.2.13)."""
    alert = IPv6ExtHdrHopByHop(options=[RouterAlert()])
    frame = Ether(src=WEB1.mac, dst="33:33:00:00:00:16") / IPv6(src="::", dst="ff02::16", hlim=1)
    told = board.trace("web1", frame / alert / ICMPv6MLReport2())
    assert told.drop_reason is None


# ---- DHCP servers -----------------------------------------------------------------


def test_no_vm_is_a_dhcp_server(send: Send) -> None:
    frame = (
        Ether(src=WEB1.mac, dst=BROADCAST)
        / IP(src=WEB1.ipv4, dst="255.255.255.255")
        / UDP(sport=67, dport=68)
        / BOOTP(op=2)
        / DHCP(options=[("message-type", "offer"), "end"])
    )
    assert reason(send, "web1", frame) == "DROP_DHCP_SERVER"


def test_no_vm_is_a_dhcpv6_server(send: Send) -> None:
    frame = (
        Ether(src=WEB1.mac, dst=WEB2.mac)
        / IPv6(src=WEB1.link_local, dst=WEB2.link_local)
        / UDP(sport=547, dport=546)
        / DHCP6_Advertise()
    )
    assert reason(send, "web1", frame) == "DROP_DHCP_SERVER"


@pytest.mark.parametrize("version", [4, 6])
def test_extension_headers_do_not_hide_a_dhcp_server(send: Send, version: int) -> None:
    if version == 4:
        frame = Ether(src=WEB1.mac, dst=WEB2.mac) / IP(
            src=WEB1.ipv4, dst=WEB2.ipv4, options=b"\x01" * 8
        )
        frame /= UDP(sport=67, dport=68) / Raw(b"x")
    else:
        frame = Ether(src=WEB1.mac, dst=WEB2.mac) / IPv6(src=WEB1.ipv6, dst=WEB2.ipv6)
        frame = frame / IPv6ExtHdrDestOpt() / UDP(sport=547, dport=546) / Raw(b"x")
    assert reason(send, "web1", frame) == "DROP_DHCP_SERVER"


def test_the_server_ports_are_free_for_other_use(send: Send) -> None:
    frame = Ether(src=WEB1.mac, dst=WEB2.mac) / IP(src=WEB1.ipv4, dst=WEB2.ipv4)
    frame /= UDP(sport=67, dport=1067) / Raw(b"x")
    send("web1", frame).arrives("web2", frame)


# ---- ports ------------------------------------------------------------------------


@pytest.mark.parametrize("version", [4, 6])
def test_device_without_a_port_passes_nothing(send: Send, version: int) -> None:
    assert reason(send, "stranger", switched(WEB1, WEB2, version)) == "DROP_UNKNOWN_PORT"


def test_port_taken_away_passes_nothing_more(board: Switchboard, send: Send) -> None:
    """Fail closed: also for flows that were allowed."""
    frame = switched(WEB1, WEB2, 4)
    send("web1", frame).arrives("web2", frame)
    board.world.delete("ports", board.devices["web1"].ifindex)
    board.world.advance_epoch(WEB1.network)
    assert reason(send, "web1", frame) == "DROP_UNKNOWN_PORT"


def test_service_mac_is_nobodys(send: Send) -> None:
    frame = Ether(src=SERVICE_MAC, dst=WEB2.mac) / l3(6, eui64(SERVICE_MAC), WEB2.ipv6)
    assert reason(send, "web1", frame / l4("udp", 6)) == "DROP_SOURCE_MAC"
