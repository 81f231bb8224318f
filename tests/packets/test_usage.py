"""How many connections there may be, and how time ends them."""

from __future__ import annotations

import time

import pytest
from packet_shapes import switched
from packet_talk import between, ping, pong, question_and_answer, talk, tcp, udp
from packet_world import DB1, GATE, WEB1, WEB2
from scapy.packet import Packet

from tests.packets.conftest import TC_ACT_REDIRECT, Switchboard

SECOND = 10**9
DEADLINE = 60  # seconds until what must happen counts as missing


# ---- how many ---------------------------------------------------------------------------


def test_connections_count_for_whoever_opened_them(board: Switchboard) -> None:
    for port in range(3):
        board.run("web1", between(WEB1, DB1, 4, udp(port)))
        board.run("db1", between(DB1, WEB1, 4, udp(53, port)))
    board.run("db1", between(DB1, WEB1, 6, tcp("S")))
    assert (board.usage(WEB1.slot), board.usage(DB1.slot), board.total_usage()) == (3, 1, 4)


def test_the_limit_of_a_port(board: Switchboard) -> None:
    """Others are not concerned, and what there is goes on."""
    board.world.write_port(WEB1, connections_max=2)
    fates = [talk(board, between(WEB1, DB1, 4, udp(port)), WEB1, DB1) for port in (1, 2, 3, 1)]
    assert fates == ["ALLOWED", "ALLOWED", "DROP_CONNECTION_LIMIT", "ALLOWED"]
    assert talk(board, between(DB1, WEB1, 4, udp(53, 1)), DB1, WEB1) == "REPLY"
    assert talk(board, between(DB1, WEB1, 4, udp(3)), DB1, WEB1) == "ALLOWED"
    assert board.drop_count("web1", "DROP_CONNECTION_LIMIT")["packets"] == 1
    assert (board.usage(WEB1.slot), board.total_usage()) == (2, 3)


def test_a_port_may_have_as_much_as_is_left(board: Switchboard) -> None:
    capacity = board.world.value("FLOWS_MAX") // 2
    board.world.put("total_usage", 0, {"connections": capacity - 3})
    fates = [talk(board, between(WEB1, DB1, 4, udp(port)), WEB1, DB1) for port in (1, 2, 3)]
    assert fates == ["ALLOWED", "ALLOWED", "DROP_CONNECTION_LIMIT"]
    assert talk(board, between(DB1, WEB1, 4, udp(9)), DB1, WEB1) == "ALLOWED"
    assert board.total_usage() == capacity
    assert talk(board, between(GATE, WEB1, 4, udp(9)), GATE, WEB1) == "DROP_CONNECTION_LIMIT"


def test_no_room_in_the_table(board: Switchboard) -> None:
    """It can't be fuller than is counted, unless somebody else writes to it."""
    table = board.datapath.table("flows")
    key_codec, value_codec = board.datapath.abi.table_types("flows")
    stride, value = bytearray(key_codec.pack({"ifindex": 1})), bytes(value_codec.size)
    entries = []
    for number in range(table.max_entries):
        stride[-4:] = number.to_bytes(4, "big")
        entries.append((bytes(stride), value))
    table.put_many(entries)
    frame = switched(WEB1, WEB2, 4)
    board.run("web1", frame)
    assert board.drop_count("web1", "DROP_FLOW_TABLE_FULL")["packets"] == 1
    (event,) = board.dropped_events()
    assert event["stage"] == board.world.value("STAGE_POLICY")
    assert (board.usage(WEB1.slot), board.total_usage()) == (0, 0)
    table.delete_many(key for key, _ in entries[:2])
    assert board.run("web1", frame).verdict == TC_ACT_REDIRECT


# ---- time --------------------------------------------------------------------------------

# Seconds without a packet after which a connection ends that was not answered.
TIMEOUTS = {"tcp": 120, "udp": 30, "udplite": 30, "echo": 30, "sctp": 600, "gre": 600}
FIRST_LOOK = 30  # seconds, whatever the timeout


def first_packet(kind: str) -> Packet:
    (ip, question), _ = question_and_answer(kind, 4) if kind != "tcp" else (({}, tcp("S")), None)
    return between(WEB1, DB1, 4, question, **ip)


def alarm(board: Switchboard) -> int:
    """Until when the timer of the only connection sleeps, in ns."""
    role = board.world.value("FLOW_REPLY")
    (flow,) = [flow for _, flow in board.flows() if flow["role"] != role]
    at: int = flow["alarm_at"]
    return at


@pytest.mark.parametrize("kind", TIMEOUTS)
def test_the_timer_looks_soon(board: Switchboard, kind: str) -> None:
    board.run("web1", first_packet(kind))
    assert alarm(board) - board.connection().opened_at == FIRST_LOOK * SECOND


@pytest.mark.parametrize("kind", TIMEOUTS)
def test_timeouts_shrink_when_a_port_nears_its_limit(board: Switchboard, kind: str) -> None:
    """One of the last 50 of 100 connections is left: a fiftieth, and a second."""
    board.world.write_port(WEB1, connections_max=100)
    used = {"connections": 98, "ifindex": board.devices["web1"].ifindex}
    board.world.put("usage", WEB1.slot, used)
    board.run("web1", first_packet(kind))
    seconds = alarm(board) - board.connection().opened_at
    assert seconds == TIMEOUTS[kind] * SECOND // 50 + SECOND


def test_established_connections_keep_their_timeout(board: Switchboard) -> None:
    """From the first answer on; what was picked up and is not answered may be a scan."""
    board.run("web1", between(WEB1, DB1, 4, tcp("PA")))
    board.run("db1", between(DB1, WEB1, 4, tcp("PA", 80, 40000)))
    board.world.write_port(WEB1, connections_max=1)
    assert alarm(board) - board.connection().opened_at == FIRST_LOOK * SECOND


def test_what_is_picked_up_and_not_answered_makes_room(board: Switchboard) -> None:
    """One of the last 50 of 100: a fiftieth of five minutes, and a second."""
    board.world.write_port(WEB1, connections_max=100)
    used = {"connections": 98, "ifindex": board.devices["web1"].ifindex}
    board.world.put("usage", WEB1.slot, used)
    board.run("web1", between(WEB1, DB1, 4, tcp("PA")))
    assert alarm(board) - board.connection().opened_at == 300 * SECOND // 50 + SECOND


def test_reset_connections_end_soon(board: Switchboard) -> None:
    board.run("web1", between(WEB1, DB1, 4, tcp("PA")))
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    board.run("db1", between(DB1, WEB1, 4, tcp("R", 80, 40000)))
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    assert before <= alarm(board) - 10 * SECOND <= after


def test_time_ends_connections(board: Switchboard) -> None:
    """At its limit a port keeps for a second what is not established. Nobody but
    the kernel's timer takes part."""
    for nic in (WEB1, WEB2, DB1, GATE):
        board.world.write_port(nic, connections_max=1)
    board.run("web1", between(WEB1, DB1, 4, udp()))
    board.run("db1", between(DB1, WEB1, 6, tcp("S")))
    board.run("web2", between(WEB2, DB1, 6, ping(6)))
    board.run("db1", between(DB1, WEB2, 6, pong(6)))
    board.run("gate", between(GATE, WEB1, 4, tcp("PA")))
    board.run("web1", between(WEB1, GATE, 4, tcp("A", 80, 40000)))
    assert (len(board.flows()), board.total_usage()) == (8, 4)
    deadline = time.monotonic() + DEADLINE
    while len(board.flows()) > 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert board.connection().state == "ESTABLISHED"
    assert [board.usage(nic.slot) for nic in (WEB1, WEB2, DB1, GATE)] == [0, 0, 0, 1]
    assert board.total_usage() == 1


def test_connections_end_on_time(board: Switchboard) -> None:
    """A timer that finds that a packet has come meanwhile looks again when its
    time is up, and not later."""
    board.world.write_port(WEB1, connections_max=1)  # at its limit: a second is left
    frame = between(WEB1, DB1, 4, udp())
    board.run("web1", frame)
    first = alarm(board)
    while time.clock_gettime_ns(time.CLOCK_MONOTONIC) < first - SECOND // 10:
        time.sleep(0.01)
    board.run("web1", frame)
    heard = board.connection().used_at
    deadline = time.monotonic() + DEADLINE
    while alarm(board) == first:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert alarm(board) - heard == pytest.approx(SECOND, abs=SECOND // 100)


def test_time_ends_what_has_no_connection(board: Switchboard) -> None:
    """Each direction counts for its sender and goes by itself."""
    for nic in (WEB1, WEB2):
        flags = board.datapath.abi.bits("port_flag", ["PORT_OPEN"])
        board.world.write_port(nic, flags=flags, connections_max=1)
    board.run("web1", between(WEB1, WEB2, 4, udp()))
    board.run("web2", between(WEB2, WEB1, 4, udp(53, 40000)))
    assert (board.usage(WEB1.slot), board.usage(WEB2.slot), board.total_usage()) == (1, 1, 2)
    deadline = time.monotonic() + DEADLINE
    while board.flows():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert (board.usage(WEB1.slot), board.usage(WEB2.slot), board.total_usage()) == (0, 0, 0)


def test_new_policy_of_one_direction_leaves_the_other(board: Switchboard) -> None:
    """Without port security there is nothing in common."""
    for nic in (WEB1, WEB2):
        board.world.open_port(nic)
    there, back = between(WEB1, WEB2, 4, udp()), between(WEB2, WEB1, 4, udp(53, 40000))
    for _ in range(3):
        board.run("web1", there)
        board.run("web2", back)
        board.world.advance_epoch(WEB1.network)
    board.run("web1", there)
    assert len(board.flows()) == 2
    assert (board.usage(WEB1.slot), board.usage(WEB2.slot), board.total_usage()) == (1, 1, 2)
