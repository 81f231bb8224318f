"""Packet rates and flood budgets. What depends on the clock is asked of rates so
low, or used up so far ahead, that no delay of this machine matters."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from packet_rules import write_group
from packet_talk import arrived, between, talk, udp
from packet_world import DB1, WEB1, WEB2, WEB3, Nic
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet

from tests.packets.conftest import TC_ACT_REDIRECT, TC_ACT_SHOT, Switchboard

PACKET_NS = 2**32 - 1  # the lowest rate there is
HOUR = 3600 * 10**9
BURST = 5
UNIT_NS = 10_000
BROADCAST = "ff:ff:ff:ff:ff:ff"
FROM_VM, TO_VM = "DROP_PACKET_RATE_FROM_VM", "DROP_PACKET_RATE_TO_VM"


def now() -> int:
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


def flood(mac: str = BROADCAST) -> Packet:
    ip = IP(src=WEB1.ipv4, dst="255.255.255.255" if mac == BROADCAST else "239.0.0.9")
    return Ether(src=WEB1.mac, dst=mac) / ip / UDP(sport=1, dport=2)


def count_passing(send: Callable[[], int], tries: int) -> tuple[int, int]:
    """How many of so many packets passed, and how many more the time that it
    took has earned."""
    started = now()
    passed = sum(send() == TC_ACT_REDIRECT for _ in range(tries))
    return passed, (now() - started) // PACKET_NS


# ---- rates ---------------------------------------------------------------------------


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("burst", [1, 2, BURST])
@pytest.mark.parametrize("rate", [FROM_VM, TO_VM])
def test_as_many_in_a_row_as_the_burst(
    board: Switchboard, rate: str, burst: int, version: int
) -> None:
    """The flow is known from the second one on; each is counted all the same."""
    nic, name = {FROM_VM: (WEB1, "from_vm"), TO_VM: (DB1, "to_vm")}[rate]
    board.world.write_port(nic, **{f"{name}_packet_ns": PACKET_NS, "packet_burst": burst})
    frame = between(WEB1, DB1, version, udp())
    passed, earned = count_passing(lambda: board.run("web1", frame).verdict, burst + 3)
    assert burst <= passed <= burst + earned
    assert board.drop_count(nic.name, rate)["packets"] == burst + 3 - passed


@pytest.mark.parametrize("rate", [FROM_VM, TO_VM])
def test_time_earns_packets(board: Switchboard, rate: str) -> None:
    """What is used up lies ahead of now; a burst ahead is too far."""
    nic, name = {FROM_VM: (WEB1, "from_vm"), TO_VM: (DB1, "to_vm")}[rate]
    board.world.write_port(nic, **{f"{name}_packet_ns": 1000, "packet_burst": BURST})
    frame = between(WEB1, DB1, 4, udp())

    def with_used_up(until: int) -> str | None:
        board.world.put("paces", nic.slot, {name: until})
        return talk(board, frame, WEB1, DB1)

    assert with_used_up(now() + HOUR) == rate
    assert with_used_up(now() + (BURST - 1) * 1000) == "ALLOWED"
    assert with_used_up(now() // 2) == "ALLOWED", "long ago"
    board.world.write_port(nic, **{f"{name}_packet_ns": HOUR // 10**6, "packet_burst": 10**6})
    assert with_used_up(now() + HOUR // 2) == "ALLOWED", "half of the burst is left"


def test_who_is_limited_is_blamed(board: Switchboard) -> None:
    """Others send to the same port's neighbor, and the port itself sends, as before."""
    board.world.write_port(DB1, to_vm_packet_ns=1000, packet_burst=1)
    board.world.put("paces", DB1.slot, {"to_vm": now() + HOUR})
    sent = board.send("web1", between(WEB1, DB1, 4, udp()))
    assert (sent.reason, sent.verdict) == (TO_VM, TC_ACT_SHOT)
    assert sent.trace.blamed_ifindex == board.devices["db1"].ifindex
    assert board.drop_count("db1", TO_VM)["packets"] == 2
    assert board.drop_count("web1", TO_VM)["packets"] == 0
    assert board.counters(DB1.slot)["to_vm_packets"] == 0
    assert talk(board, between(WEB1, WEB2, 4, udp()), WEB1, WEB2) == "ALLOWED"
    assert talk(board, between(DB1, WEB1, 4, udp()), DB1, WEB1) == "ALLOWED"


def test_a_limit_may_come_while_a_flow_is_known(board: Switchboard) -> None:
    """With the epoch, as any change."""
    frame = between(WEB1, DB1, 4, udp())
    assert talk(board, frame, WEB1, DB1) == "ALLOWED"
    board.world.write_port(WEB1, from_vm_packet_ns=1000, packet_burst=1)
    board.world.put("paces", WEB1.slot, {"from_vm": now() + HOUR})
    board.world.advance_epoch(WEB1.network)
    assert talk(board, frame, WEB1, DB1) == FROM_VM


def test_what_is_answered_or_dropped_counts_for_its_sender(board: Switchboard) -> None:
    board.world.write_port(WEB1, from_vm_packet_ns=PACKET_NS, packet_burst=9)
    arp = ARP(hwsrc=WEB1.mac, psrc=WEB1.ipv4, pdst=WEB2.ipv4)
    before = now()
    assert board.run("web1", Ether(src=WEB1.mac, dst=BROADCAST) / arp).verdict == TC_ACT_REDIRECT
    assert board.run("web1", between(WEB2, DB1, 4, udp())).verdict == TC_ACT_SHOT
    until = dict(board.rows("paces"))[WEB1.slot]["from_vm"]
    assert before <= until - 2 * PACKET_NS <= now()


@pytest.mark.parametrize("nic", [WEB1, DB1], ids=["from", "to"])
def test_a_trace_spends_nothing(board: Switchboard, nic: Nic) -> None:
    """It tells, though, what would become of the packet."""
    limits = {"from_vm_packet_ns": PACKET_NS, "to_vm_packet_ns": PACKET_NS}
    board.world.write_port(nic, **limits, packet_burst=1)
    frame = between(WEB1, DB1, 4, udp())
    for _ in range(3):
        assert board.trace("web1", frame).drop_reason is None
    board.run("web1", frame)
    name = {WEB1: "from_vm", DB1: "to_vm"}[nic]
    board.world.put("paces", nic.slot, {name: now() + HOUR})
    told = board.trace("web1", frame)
    assert told.drop_reason is not None
    assert told.drop_reason.name == {WEB1: FROM_VM, DB1: TO_VM}[nic]


def test_ports_without_a_rate_keep_no_pace(board: Switchboard) -> None:
    board.send("web1", between(WEB1, DB1, 4, udp()))
    assert {tuple(pace.values()) for _, pace in board.rows("paces")} == {(0, 0, 0)}


# ---- floods ----------------------------------------------------------------------------


def flood_pace(board: Switchboard) -> int:
    used_up: int = dict(board.rows("paces"))[WEB1.slot]["flood"]
    return used_up


@pytest.mark.parametrize(
    ("mac", "units"), [(BROADCAST, 100), ("01:00:5e:00:00:09", 10)], ids=["broadcast", "multicast"]
)
def test_what_a_flood_costs(board: Switchboard, mac: str, units: int) -> None:
    """So many units for itself, and one for each copy."""
    before = now()
    board.run("web1", flood(mac))
    first = flood_pace(board)
    assert before <= first - (units + 2) * UNIT_NS <= now()
    board.world.put("paces", WEB1.slot, {"flood": (ahead := now() + 10**8)})
    board.run("web1", flood(mac))
    assert flood_pace(board) == ahead + (units + 2) * UNIT_NS or now() > ahead
    write_group(board.world, 7, [])
    board.world.write_port(WEB2, groups=[7])
    board.world.put("paces", WEB1.slot, {"flood": (ahead := now() + 10**8)})
    board.run("web1", flood(mac))
    assert flood_pace(board) == ahead + (units + 1) * UNIT_NS or now() > ahead


def test_a_second_may_be_used_up(board: Switchboard) -> None:
    frame = flood()
    board.world.put("paces", WEB1.slot, {"flood": now() + 9 * 10**8})
    assert board.trace("web1", frame).copies == 2
    board.world.put("paces", WEB1.slot, {"flood": now() + HOUR})
    told = board.trace("web1", frame)
    assert (told.copies, told.drop_reason and told.drop_reason.name) == (0, "DROP_FLOOD_LIMIT")
    board.run("web1", frame)
    assert board.drop_count("web1", "DROP_FLOOD_LIMIT")["packets"] == 1
    assert board.devices["web2"].read_all() == []


def test_a_used_up_flood_budget_stops_nothing_else(board: Switchboard) -> None:
    board.world.put("paces", WEB1.slot, {"flood": now() + HOUR})
    frame = between(WEB1, WEB2, 4, udp())
    board.send("web1", frame).arrives("web2", arrived(frame, WEB1, WEB2))
    arp = ARP(hwsrc=WEB1.mac, psrc=WEB1.ipv4, pdst=WEB2.ipv4)
    sent = board.send("web1", Ether(src=WEB1.mac, dst=BROADCAST) / arp)
    assert (sent.to, sent.reason) == ("web1", None)
    board.run("web2", Ether(src=WEB2.mac, dst=BROADCAST) / IP(src=WEB2.ipv4) / UDP())
    assert board.devices["web1"].read() is not None


def test_a_receiver_of_a_flood_that_has_had_enough(board: Switchboard) -> None:
    """The others get theirs."""
    board.world.write_port(WEB2, to_vm_packet_ns=1000, packet_burst=1)
    board.world.put("paces", WEB2.slot, {"to_vm": now() + HOUR})
    assert board.trace("web1", flood()).copies == 1
    board.run("web1", flood())
    assert board.devices["web3"].read() == bytes(flood())
    assert board.devices["web2"].read_all() == []
    assert board.drop_count("web2", TO_VM)["packets"] == 1
    (event,) = board.dropped_events()
    assert event["ifindex"] == board.devices["web2"].ifindex
    assert event["from_ifindex"] == board.devices["web1"].ifindex
    assert board.counters(WEB3.slot)["to_vm_packets"] == 1
