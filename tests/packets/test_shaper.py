"""The way through the shaper: out by its link with a class and a mark, in again
at the other end, and on to where the mark says."""

from __future__ import annotations

import socket
import time
from os import dup

import pytest
from packet_rules import write_group
from packet_talk import arrived, between, udp
from packet_world import DB1, WEB1, WEB2, WEB3, Nic
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet

from tests.packets.conftest import TC_ACT_REDIRECT, TC_ACT_SHOT, Switchboard

VERSIONS = (4, 6)
SO_MARK = 36
DEADLINE = 60  # seconds until a frame that must come counts as lost
BROADCAST = "ff:ff:ff:ff:ff:ff"


def shape(board: Switchboard, nic: Nic, link: int) -> None:
    """What the port sends goes through this link."""
    board.world.write_port(nic, shaper=link)


def mark_to(board: Switchboard, nic: Nic, kind: str = "SHAPED_MARK") -> int:
    return board.world.value(kind) | board.devices[nic.name].ifindex


def flood() -> Packet:
    ip = IP(src=WEB1.ipv4, dst="255.255.255.255")
    return Ether(src=WEB1.mac, dst=BROADCAST) / ip / UDP(sport=1, dport=2)


# ---- into it ------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("destination", [WEB2, DB1], ids=["switched", "routed"])
def test_the_finished_frame_goes_to_its_class(
    board: Switchboard, destination: Nic, version: int
) -> None:
    """The first packet and the second one, which is a hit."""
    shape(board, WEB1, board.devices["gate"].ifindex)
    frame = between(WEB1, destination, version, udp())
    for _ in range(2):
        result = board.run("web1", frame)
        assert result.verdict == TC_ACT_REDIRECT
        assert result.frame == bytes(arrived(frame, WEB1, destination))
        assert result.mark == mark_to(board, destination)
        assert result.priority == board.world.value("SHAPER_MAJOR") << 16 | WEB1.slot + 1
    assert board.trace("web1", frame).decision("STAGE_FLOW") == "DECISION_FLOW_HIT"
    assert board.counters(WEB1.slot)["from_vm_packets"] == 2
    assert board.counters(destination.slot)["to_vm_packets"] == 2


def test_a_flood_goes_through_it_as_one_frame(board: Switchboard) -> None:
    shape(board, WEB1, board.devices["gate"].ifindex)
    assert board.trace("web1", flood()).copies == 2
    result = board.run("web1", flood())
    assert (result.verdict, result.frame) == (TC_ACT_REDIRECT, bytes(flood()))
    assert result.mark == mark_to(board, WEB1, "SHAPED_FLOOD_MARK")
    assert result.priority == board.world.value("SHAPER_MAJOR") << 16 | WEB1.slot + 1
    assert board.devices["web2"].read_all() == []


def test_answers_do_not_go_through_it(board: Switchboard) -> None:
    """The VM has not sent them."""
    shape(board, WEB1, board.devices["gate"].ifindex)
    arp = ARP(hwsrc=WEB1.mac, psrc=WEB1.ipv4, pdst=WEB2.ipv4)
    result = board.run("web1", Ether(src=WEB1.mac, dst=BROADCAST) / arp)
    assert (result.verdict, result.mark, result.priority) == (TC_ACT_REDIRECT, 0, 0)


@pytest.mark.parametrize("destination", [WEB2, DB1], ids=["switched", "routed"])
def test_other_ports_have_neither_mark_nor_class(board: Switchboard, destination: Nic) -> None:
    shape(board, destination, board.devices["gate"].ifindex)
    for _ in range(2):
        result = board.run("web1", between(WEB1, destination, 4, udp()))
        assert (result.verdict, result.mark, result.priority) == (TC_ACT_REDIRECT, 0, 0)


def test_what_is_dropped_does_not_go_through_it(board: Switchboard) -> None:
    shape(board, WEB1, board.devices["gate"].ifindex)
    result = board.run("web1", between(WEB2, DB1, 4, udp()))
    assert (result.verdict, result.mark) == (TC_ACT_SHOT, 0)


# ---- out of it ----------------------------------------------------------------------


def test_the_mark_says_where_to(board: Switchboard) -> None:
    """Nothing is asked or counted again, and no mark or class stays with it."""
    write_group(board.world, 7, [])
    board.world.write_port(WEB2, groups=[7])
    frame = between(WEB1, WEB2, 4, udp())
    before = board.state()
    result = board.run("gate", frame, mark=mark_to(board, WEB2), priority=1 << 16 | 2)
    assert (result.verdict, result.frame) == (TC_ACT_REDIRECT, bytes(frame))
    assert (result.mark, result.priority) == (0, 0)
    assert board.state() == before


def test_destination_that_left_while_the_frame_waited(board: Switchboard) -> None:
    stranger = board.devices["stranger"]
    mark = board.world.value("SHAPED_MARK") | stranger.ifindex
    assert board.run("gate", between(WEB1, WEB2, 4, udp()), mark=mark).verdict == TC_ACT_SHOT
    assert board.drop_count("stranger", "DROP_NO_NEIGHBOR")["packets"] == 1


def test_a_flood_is_copied_behind_it(board: Switchboard) -> None:
    """In the name of the port that sent it, whose packet was counted before."""
    shape(board, WEB1, board.devices["gate"].ifindex)
    mark = mark_to(board, WEB1, "SHAPED_FLOOD_MARK")
    result = board.run("gate", flood(), mark=mark, priority=1 << 16 | 2)
    assert (result.mark, result.priority) == (0, 0)
    for name in ("web2", "web3"):
        assert board.devices[name].read() == bytes(flood())
    assert board.counters(WEB1.slot)["from_vm_packets"] == 0
    assert board.counters(WEB2.slot)["to_vm_packets"] == 1
    assert board.devices["web1"].read_all() == board.devices["gate"].read_all() == []


# ---- the whole way, with real devices ---------------------------------------------------


@pytest.fixture
def shaped(board: Switchboard) -> Switchboard:
    """web1 is shaped, by a link without a qdisc."""
    way_in, way_out = board.lab.wire()
    board.lab.attach(way_out, board.pin)
    shape(board, WEB1, socket.if_nametoindex(way_in))
    return board


@pytest.mark.parametrize("destination", [WEB2, WEB3, DB1], ids=["tap", "container", "routed"])
def test_frames_arrive(shaped: Switchboard, destination: Nic) -> None:
    frame = between(WEB1, destination, 4, udp())
    for _ in range(2):
        shaped.devices["web1"].write(bytes(frame))
        expected = bytes(arrived(frame, WEB1, destination))
        assert shaped.devices[destination.name].read() == expected
    assert shaped.counters(WEB1.slot)["from_vm_packets"] == 2
    assert shaped.counters(destination.slot)["to_vm_packets"] == 2
    assert shaped.rows("drops") == []


def test_floods_arrive(shaped: Switchboard) -> None:
    shaped.devices["web1"].write(bytes(flood()))
    for name in ("web2", "web3"):
        assert shaped.devices[name].read() == bytes(flood())
    assert shaped.counters(WEB1.slot)["from_vm_packets"] == 1
    assert shaped.counters(WEB3.slot)["to_vm_packets"] == 1
    assert shaped.rows("drops") == []


# ---- nobody else can do that ---------------------------------------------------------------


@pytest.mark.parametrize("kind", ["SHAPED_MARK", "SHAPED_FLOOD_MARK"])
def test_a_container_can_not_set_the_mark(board: Switchboard, kind: str) -> None:
    """Its packet socket can, but the mark does not leave the namespace."""
    target = WEB2 if kind == "SHAPED_MARK" else WEB1
    frame = flood() if kind == "SHAPED_FLOOD_MARK" else between(WEB1, WEB2, 4, udp())
    with socket.socket(fileno=dup(board.devices["web3"].guest)) as guest:
        guest.setsockopt(socket.SOL_SOCKET, SO_MARK, mark_to(board, target, kind))
        try:
            guest.send(bytes(frame))
        finally:
            guest.setsockopt(socket.SOL_SOCKET, SO_MARK, 0)
    deadline = time.monotonic() + DEADLINE
    while not board.drop_count("web3", "DROP_SOURCE_MAC")["packets"]:
        assert time.monotonic() < deadline
    assert board.devices["web2"].read_all() == []


# ---- into the VM -----------------------------------------------------------------------------


def test_a_device_with_a_qdisc_is_not_bypassed(board: Switchboard) -> None:
    flags = board.datapath.abi.bits("port_flag", ["PORT_PEER", "PORT_SHAPED_TO_VM"])
    board.world.write_port(WEB3, flags=flags)
    frame = between(WEB1, WEB3, 4, udp())
    sent = board.send("web1", frame)
    assert sent.trace.decision("STAGE_DELIVER") == "DECISION_DELIVER"
    opener = board.world.value("FLOW_OPENER")
    (flow,) = [flow for _, flow in board.flows() if flow["role"] == opener]
    assert not flow["flags"] & board.world.value("FLOW_PEER")
    board.devices["web1"].write(bytes(frame))
    assert board.devices["web3"].read() == bytes(frame)
