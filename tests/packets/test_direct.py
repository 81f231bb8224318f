"""Envelopes that go past the host's stack, by the way that its own ones went."""

from __future__ import annotations

import time

import pytest
from packet_lab import OWN_MAC, PEER_MAC
from packet_shapes import forwarded, l3, switched, to_router
from packet_talk import between, tcp, udp
from packet_tunnel import (
    BEHIND,
    DB8,
    FOREIGN,
    HERE,
    NEAR,
    SIX,
    UDP_PORT,
    VTEP4,
    WEB4,
    WEB6,
    WEB8,
    Host,
    Tunnel,
    put_remote,
    vxlan,
)
from packet_world import DB, MAIN_DB, MAIN_WEB, WEB, WEB1, mac_bytes, mapped
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw

from heddle.datapath.testrun import run

VERSIONS = (4, 6)
TC_ACT_UNSPEC = 0xFFFFFFFF
LATER = 10**11  # ns: longer than a test takes


def show_way(tunnel: Tunnel, host: Host, **changes: object) -> None:
    """The stack has just sent to the host."""
    way = {
        "seen_at": time.monotonic_ns() + LATER,
        "ifindex": tunnel.wire.ifindex,
        "macs": mac_bytes(PEER_MAC) + mac_bytes(OWN_MAC),
        "udp_port_be": UDP_PORT,
        **changes,
    }
    tunnel.board.world.put("seen_ways", {"address": mapped((host.relay or host).vtep)}, way)


# ---- the envelope -------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", ["udp", "tcp", "icmp"])
def test_the_same_envelope_without_a_checksum(tunnel: Tunnel, version: int, kind: str) -> None:
    """The first packet, and the second one, a hit."""
    show_way(tunnel, NEAR)
    frame = switched(WEB1, WEB8, version, kind)
    for _ in range(2):
        tunnel.from_vm(frame)
        tunnel.carries(NEAR, WEB.vni, frame, directly=True)
    assert tunnel.board.counters(WEB1.slot)["from_vm_packets"] == 2


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_routed(tunnel: Tunnel, version: int) -> None:
    show_way(tunnel, NEAR)
    frame = to_router(WEB1, MAIN_WEB, DB8.address(version))
    for _ in range(2):
        tunnel.from_vm(frame)
        tunnel.carries(NEAR, DB.vni, forwarded(frame, MAIN_DB.mac, DB8.mac), directly=True)


def test_a_relay_is_told_whom_it_is_for(tunnel: Tunnel) -> None:
    show_way(tunnel, BEHIND)
    frame = switched(WEB1, WEB4, 4)
    for _ in range(2):
        tunnel.from_vm(frame)
        tunnel.carries(NEAR, WEB.vni, frame, number=BEHIND.number, directly=True)


def test_a_foreign_host_gets_no_bits(tunnel: Tunnel) -> None:
    show_way(tunnel, FOREIGN)
    put_remote(tunnel.board.world, WEB8, FOREIGN.number)
    tunnel.from_vm(switched(WEB1, WEB8, 4))
    tunnel.carries(FOREIGN, WEB.vni, switched(WEB1, WEB8, 4), directly=True)


@pytest.mark.parametrize(
    ("inner", "outer"), [(0, 0), (0xB8, 0xB8), (0xB9, 0xB9), (0x02, 0x02), (0x03, 0x02)]
)
@pytest.mark.parametrize("version", VERSIONS)
def test_dscp_and_ecn_are_copied(tunnel: Tunnel, version: int, inner: int, outer: int) -> None:
    """As the stack does (RFC 6040 4.1, RFC 3168 9.1.1)."""
    show_way(tunnel, NEAR)
    field = {"tos": inner} if version == 4 else {"tc": inner}
    frame = between(WEB1, WEB8, version, udp(), **field)
    tunnel.from_vm(frame)
    tunnel.carries(NEAR, WEB.vni, frame, tos=outer, directly=True)


def test_a_flow_keeps_its_source_port_and_flows_differ(tunnel: Tunnel) -> None:
    show_way(tunnel, NEAR)
    ports = []
    for number in range(40000, 40016):
        for _ in range(2):
            frame = between(WEB1, WEB8, 4, udp(number))
            tunnel.from_vm(frame)
            ports.append(tunnel.carries(NEAR, WEB.vni, frame, directly=True)[UDP].sport)
    assert ports[::2] == ports[1::2]
    assert len(set(ports)) > 8


# ---- when the stack is asked -----------------------------------------------------------


def by_stack(tunnel: Tunnel, host: Host, frame: Packet) -> None:
    tunnel.from_vm(frame)
    tunnel.carries(host, WEB.vni, frame)


def test_when_its_last_envelope_is_old(tunnel: Tunnel) -> None:
    show_way(tunnel, NEAR, seen_at=1)
    by_stack(tunnel, NEAR, switched(WEB1, WEB8, 4))


def test_when_the_link_is_too_small(tunnel: Tunnel) -> None:
    """It sends in fragments what fits the network, but not the link with its envelope."""
    show_way(tunnel, NEAR)
    frame = between(WEB1, WEB8, 4, UDP(sport=1, dport=2) / Raw(bytes(1451 - 28)))
    tunnel.board.world.write_port(WEB1, mtu=1500)
    tunnel.from_vm(frame)
    assert Ether(tunnel.wire.read() or b"")[IP].flags == "MF"
    tunnel.wire.read_all()


def test_the_largest_that_fits(tunnel: Tunnel) -> None:
    show_way(tunnel, NEAR)
    frame = between(WEB1, WEB8, 4, UDP(sport=1, dport=2) / Raw(bytes(1450 - 28)))
    tunnel.from_vm(frame)
    tunnel.carries(NEAR, WEB.vni, frame, directly=True)


def test_in_an_ipv6_underlay(tunnel: Tunnel) -> None:
    show_way(tunnel, SIX)
    by_stack(tunnel, SIX, switched(WEB1, WEB6, 4))


def test_for_what_is_not_ip(tunnel: Tunnel) -> None:
    show_way(tunnel, NEAR)
    arp = ARP(op="is-at", hwsrc=WEB1.mac, psrc=WEB1.ipv4, hwdst=WEB8.mac, pdst=WEB8.ipv4)
    by_stack(tunnel, NEAR, Ether(src=WEB1.mac, dst=WEB8.mac) / arp)


def test_a_trace_tells_the_same_and_leaves_the_frame(tunnel: Tunnel) -> None:
    frame = switched(WEB1, WEB8, 4)
    before = tunnel.board.trace("web1", frame)
    show_way(tunnel, NEAR)
    after = tunnel.board.trace("web1", frame)
    assert (after.envelope, after.frame_out) == (before.envelope, before.frame_out)


# ---- what shows the way --------------------------------------------------------------


def envelope(destination: str = NEAR.vtep, dport: int = UDP_PORT, **changes: int) -> Ether:
    """As the stack sends one."""
    inner = bytes(between(WEB1, WEB8, 4, tcp("S")))
    udp_header = UDP(sport=50000, dport=dport, **changes)
    outer = Ether(src=OWN_MAC, dst=PEER_MAC) / IP(src=VTEP4, dst=destination)
    return outer / udp_header / vxlan(WEB.vni, 0, 0) / inner


def watch(tunnel: Tunnel, frame: Packet) -> list[tuple[dict[str, bytes], dict[str, object]]]:
    """Let it leave by the wire; returns the ways that are known then."""
    board = tunnel.board
    row = {"number": HERE, "tunnel_ifindex": tunnel.vxlan.ifindex, "udp_port_be": UDP_PORT}
    board.world.put("this_host", 0, row)
    program = board.datapath.to_underlay
    done = run(program.fd, bytes(frame), ifindex=tunnel.wire.ifindex)
    assert (done.verdict, done.frame) == (TC_ACT_UNSPEC, bytes(frame))
    return board.rows("seen_ways")


def test_an_envelope_of_the_stack(tunnel: Tunnel) -> None:
    ((key, way),) = watch(tunnel, envelope())
    assert key["address"] == mapped(NEAR.vtep)
    assert (way["ifindex"], way["udp_port_be"]) == (tunnel.wire.ifindex, UDP_PORT)
    assert way["macs"] == mac_bytes(PEER_MAC) + mac_bytes(OWN_MAC)


@pytest.mark.parametrize(
    "frame",
    [
        envelope(chksum=0),
        envelope(dport=53),
        envelope(destination="10.99.0.66"),
        Ether(src=OWN_MAC, dst=PEER_MAC) / l3(4, VTEP4, NEAR.vtep) / Raw(bytes(40)),
        Ether(src=OWN_MAC, dst=PEER_MAC) / l3(6, "fd99::1", "fd99::3") / Raw(bytes(40)),
        Ether(src=OWN_MAC, dst=PEER_MAC, type=0x0800) / Raw(bytes(20)),
    ],
    ids=["our own", "another port", "no host", "no UDP", "IPv6", "cut off"],
)
def test_nothing_else(tunnel: Tunnel, frame: Packet) -> None:
    assert watch(tunnel, frame) == []
