"""The reply to a SYN is decided with the SYN, as its own stages would decide it, or
not at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from packet_policy import allow
from packet_rules import FROM_VM, anything
from packet_shapes import to_router
from packet_talk import between, talk, tcp
from packet_world import (
    DB,
    DB1,
    FAR1,
    GATE,
    MAIN,
    MAIN_WEB,
    WEB,
    WEB1,
    WEB2,
    WEB3,
    Nic,
    Via,
)
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from tests.packets.conftest import Switchboard

VERSIONS = pytest.mark.parametrize("version", [4, 6])
ENDS = pytest.mark.parametrize("receiver", [WEB2, WEB3, DB1], ids=["TAP", "veth", "routed"])
# What is not about the way: counts, times, and the connection.
NO_WAY = ("packets", "bytes", "used_at", "opened_at", "alarm_at", "epoch", "policy_epoch", "state")


def syn(receiver: Nic, version: int) -> Packet:
    return between(WEB1, receiver, version, tcp("S"))


def syn_ack(sender: Nic, version: int) -> Packet:
    return between(sender, WEB1, version, tcp("SA", 80, 40000))


def reply_entry(board: Switchboard) -> dict[str, Any]:
    number = board.world.value("FLOW_REPLY")
    ((_, flow),) = [each for each in board.flows() if each[1]["role"] == number]
    return flow


def way(flow: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in flow.items() if name not in NO_WAY}


def is_foreseen(board: Switchboard) -> bool:
    return bool(reply_entry(board)["ifindex"])


def plain(board: Switchboard) -> None:
    """The world as it is."""


def marked_and_shaped(board: Switchboard) -> None:
    for nic in (WEB1, WEB2, WEB3, DB1):
        flags = board.datapath.abi.bits("port_flag", [*nic.flags, "PORT_DSCP"])
        shaper = board.devices["lone1"].ifindex
        board.world.write_port(nic, flags=flags, dscp=20 + nic.slot, shaper=shaper)


@VERSIONS
@ENDS
@pytest.mark.parametrize("change", [plain, marked_and_shaped])
def test_it_is_what_its_stages_would_say(
    board: Switchboard, receiver: Nic, version: int, change: Callable[[Switchboard], None]
) -> None:
    change(board)
    board.run("web1", syn(receiver, version))
    foreseen = reply_entry(board)
    assert foreseen["ifindex"] == board.devices["web1"].ifindex
    told = board.trace(receiver.name, syn_ack(receiver, version))
    assert told.decision("STAGE_FLOW") == "DECISION_FLOW_UNSETTLED"
    board.world.advance_epoch(receiver.network)
    told = board.trace(receiver.name, syn_ack(receiver, version))
    assert told.decision("STAGE_FLOW") == "DECISION_FLOW_STALE"
    board.run(receiver.name, syn_ack(receiver, version))  # through all stages
    decided = reply_entry(board)
    assert decided["packets"] == 1
    assert way(foreseen) == way(decided)


@VERSIONS
@ENDS
def test_replies_fare_as_ever(board: Switchboard, receiver: Nic, version: int) -> None:
    """The whole frame is compared."""
    assert talk(board, syn(receiver, version), WEB1, receiver) is not None
    assert talk(board, syn_ack(receiver, version), receiver, WEB1) is not None
    assert board.connection().state == "SYN_RECEIVED"
    assert talk(board, between(WEB1, receiver, version, tcp("A")), WEB1, receiver) is not None
    assert board.connection().state == "ESTABLISHED"
    counted = board.counters(receiver.slot)
    assert (counted["from_vm_packets"], counted["to_vm_packets"]) == (1, 2)


# ---- what is left to the stages ------------------------------------------------------------


def another_route_back(board: Switchboard) -> None:
    for cidr, via in ((f"{WEB1.ipv4}/32", GATE.ipv4), (f"{WEB1.ipv6}/128", GATE.ipv6)):
        board.world.write_route(Via(MAIN, cidr, DB, via))


def no_route_back(board: Switchboard) -> None:
    for cidr in (f"{WEB1.ipv4}/32", f"{WEB1.ipv6}/128"):
        board.world.write_route(Via(MAIN, cidr))


def stateless(board: Switchboard) -> None:
    allow(board, DB1, anything(), "POLICY_STATELESS")


def open_receiver(board: Switchboard) -> None:
    board.world.open_port(DB1)


def on_its_way(board: Switchboard) -> None:
    flags = board.datapath.abi.bits("port_flag", [*WEB1.flags, "PORT_AWAY"])
    board.world.write_port(WEB1, flags=flags, elsewhere=2)


@VERSIONS
@pytest.mark.parametrize(
    "change", [another_route_back, no_route_back, stateless, open_receiver, on_its_way]
)
def test_what_could_go_otherwise_is_not_foreseen(
    board: Switchboard, version: int, change: Callable[[Switchboard], None]
) -> None:
    change(board)
    board.run("web1", syn(DB1, version))
    assert not is_foreseen(board)


@VERSIONS
def test_nor_is_a_way_along_two_routers(board: Switchboard, version: int) -> None:
    header = to_router(WEB1, MAIN_WEB, FAR1.address(version)).payload
    header.remove_payload()
    board.run("web1", Ether(src=WEB1.mac, dst=MAIN_WEB.mac) / header / tcp("S"))
    assert not is_foreseen(board)


@VERSIONS
def test_nor_what_is_no_syn(board: Switchboard, version: int) -> None:
    board.run("web1", between(WEB1, DB1, version, tcp("PA")))
    assert not is_foreseen(board)


@VERSIONS
@ENDS
def test_others_do_not_use_it(board: Switchboard, receiver: Nic, version: int) -> None:
    """Another MAC, a TTL at its end: the stages say no."""
    board.run("web1", syn(receiver, version))
    assert is_foreseen(board)
    spoofed = syn_ack(receiver, version)
    spoofed[Ether].src = "fa:16:3e:66:66:66"
    assert board.send(receiver.name, spoofed).reason == "DROP_SOURCE_MAC"
    if receiver.network is not WEB:
        ttl = {"ttl" if version == 4 else "hlim": 1}
        dying = between(receiver, WEB1, version, tcp("SA", 80, 40000), **ttl)
        assert board.send(receiver.name, dying).reason == "DROP_TTL_EXCEEDED"


@VERSIONS
def test_new_policy_ends_it(board: Switchboard, version: int) -> None:
    allow(board, DB1, anything())
    board.run("web1", syn(DB1, version))
    assert is_foreseen(board)
    allow(board, DB1, [rule for rule in anything() if rule.direction == FROM_VM])
    for network in (WEB, DB):
        board.world.advance_epoch(network)
    assert talk(board, syn_ack(DB1, version), DB1, WEB1) == "DROP_POLICY_TO_VM"
    assert board.flows() == []
