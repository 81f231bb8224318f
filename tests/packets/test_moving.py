"""Connections that move with their machine to another device, as if on another host.

web1 may only send and db1 only be sent to, so that what db1 answers passes because
of a connection or not at all. web1 goes from its TAP to that of the stranger.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from packet_talk import arrived, between, question_and_answer, tcp, udp
from packet_world import DB1, STRANGER, WEB1, WEB2

from heddle.datapath.flows import Connection
from heddle.datapath.moving import Arrival, Departure, End, ends_of, follow_machine
from heddle.errors import KernelError
from tests.packets.conftest import TC_ACT_REDIRECT, Switchboard

VERSIONS = (4, 6)
SECOND = 10**9
KINDS = ("udp", "echo", "sctp", "gre", "unknown")
DEADLINE = 60  # seconds until what must happen counts as missing


class Moving(NamedTuple):
    """A machine with one port, web1's, on its way."""

    board: Switchboard
    departure: Departure
    arrival: Arrival
    monkeypatch: pytest.MonkeyPatch

    def switch(self) -> None:
        """All rows say that web1 is at the other TAP now; no flow is left here."""
        board, world = self.board, self.board.world
        world.delete("ports", world.ifindexes["web1"])
        self.monkeypatch.setitem(world.ifindexes, "web1", board.devices[STRANGER].ifindex)
        world.write_port(WEB1, groups=[2])
        world.write_endpoints(WEB1)

    def forget(self) -> None:
        """As on a host that web1 has never been on."""
        table = self.board.datapath.table("flows")
        table.delete_many(key for key, _ in list(table.items()))
        for name in ("usage", "total_usage"):
            rows = self.board.datapath.table(name)
            rows.put(WEB1.slot.to_bytes(4, "little") if name == "usage" else bytes(4), bytes(16))

    def says(self, who: str, frame: object) -> str | None:
        """Where a frame gets to, or why not."""
        sent = self.board.send_once(who, frame)  # type: ignore[arg-type]
        return sent.to or sent.reason


@pytest.fixture
def moving(strict: Switchboard, monkeypatch: pytest.MonkeyPatch) -> Iterator[Moving]:
    db1, web1, new = (strict.devices[name].ifindex for name in ("db1", "web1", STRANGER))
    departure = Departure(strict.datapath, [End(web1, db1)])
    arrival = Arrival(strict.datapath, [End(new, db1)])
    yield Moving(strict, departure, arrival, monkeypatch)
    arrival.close()


def established(board: Switchboard, version: int, sport: int = 40000) -> Connection:
    for who, flags in (("web1", "S"), ("db1", "SA"), ("web1", "A")):
        source, destination = (WEB1, DB1) if who == "web1" else (DB1, WEB1)
        ports = (sport, 80) if who == "web1" else (80, sport)
        board.run(who, between(source, destination, version, tcp(flags, *ports)))
    return next(c for c in board.connections() if sport in (c.source_port, c.destination_port))


def carry(moving: Moving, *, keep_seconds: float = 0.0) -> None:
    """The whole way at once."""
    records = moving.departure.bulk()
    moving.forget()
    moving.switch()
    assert moving.arrival.adopt(records, keep_seconds=keep_seconds) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_an_established_connection_goes_on(moving: Moving, version: int) -> None:
    before = established(moving.board, version)
    carry(moving)
    after = moving.board.connection()
    assert after.from_ifindex == moving.board.devices[STRANGER].ifindex
    assert (after.state, after.packets, after.reply_packets) == (
        "ESTABLISHED",
        before.packets,
        before.reply_packets,
    )
    assert (after.bytes, after.reply_bytes) == (before.bytes, before.reply_bytes)
    assert (after.from_rule, after.to_rule) == (before.from_rule, before.to_rule)
    assert abs(after.opened_at - before.opened_at) < SECOND
    answer = between(DB1, WEB1, version, tcp("PA", 80, 40000))
    sent = moving.board.send_once("db1", answer)
    sent.arrives(STRANGER, arrived(answer, DB1, WEB1))
    assert sent.trace.decision("STAGE_POLICY") == "DECISION_POLICY_REPLY"
    assert moving.says(STRANGER, between(WEB1, DB1, version, tcp("PA"))) == "db1"
    for who, frame in ((STRANGER, between(WEB1, DB1, version, tcp("PA"))), ("db1", answer)):
        assert moving.board.trace(who, frame).decision("STAGE_FLOW") == "DECISION_FLOW_HIT"


@pytest.mark.parametrize("version", VERSIONS)
def test_without_its_connection_an_answer_is_lost(moving: Moving, version: int) -> None:
    """What the other tests are worth."""
    established(moving.board, version)
    moving.forget()
    moving.switch()
    answer = between(DB1, WEB1, version, tcp("PA", 80, 40000))
    assert moving.says("db1", answer) == "DROP_POLICY_FROM_VM"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_connections_of_all_protocols_move(moving: Moving, kind: str, version: int) -> None:
    (ip, question), (answer_ip, answer) = question_and_answer(kind, version)
    moving.board.run("web1", between(WEB1, DB1, version, question, **ip))
    carry(moving)
    assert moving.board.connection().state == "NEW"
    assert moving.says("db1", between(DB1, WEB1, version, answer, **answer_ip)) == STRANGER
    assert moving.board.connection().state == "ASSURED"


@pytest.mark.parametrize("version", VERSIONS)
def test_connections_that_others_opened_move(
    strict: Switchboard, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    """web2 asked web1, which may not send by itself."""
    strict.world.write_port(WEB2, groups=[2])
    strict.world.write_port(WEB1, groups=[3])
    strict.run("web2", between(WEB2, WEB1, version, udp(40000, 53)))
    web2, web1, new = (strict.devices[name].ifindex for name in ("web2", "web1", STRANGER))
    records = Departure(strict.datapath, [End(web1, web2)]).bulk()
    arrival = Arrival(strict.datapath, [End(new, web2)])
    moving = Moving(strict, Departure(strict.datapath, []), arrival, monkeypatch)
    moving.forget()
    moving.switch()
    strict.world.write_port(WEB1, groups=[3])
    assert arrival.adopt(records) == []
    arrival.close()
    assert strict.connection().from_ifindex == web2
    assert moving.says(STRANGER, between(WEB1, WEB2, version, udp(53, 40000))) == "web2"


def test_only_changes_are_told_after_the_bulk(moving: Moving) -> None:
    size = moving.board.datapath.abi.codec("connection_record").size
    for sport in (1001, 1002, 1003):
        established(moving.board, 4, sport)
    assert len(moving.departure.bulk()) == 3 * size
    assert moving.departure.delta() == b""
    moving.board.run("web1", between(WEB1, DB1, 4, tcp("PA", 1001, 80)))
    assert moving.departure.delta() == b"", "packets alone are no change"
    moving.board.run("web1", between(WEB1, DB1, 4, tcp("FA", 1002, 80)))
    established(moving.board, 4, 1004)
    assert len(moving.departure.delta()) == 2 * size
    assert len(moving.departure.bulk()) == 4 * size


def test_a_delta_brings_the_other_host_up_to_date(moving: Moving) -> None:
    """One connection closes, one opens and one ends between bulk and switch."""
    board = moving.board
    for sport in (1001, 1002):
        established(board, 4, sport)
    board.run("web1", between(WEB1, DB1, 4, udp(1003, 53)))
    bulk = moving.departure.bulk()
    board.run("web1", between(WEB1, DB1, 4, tcp("FA", 1002, 80)))
    established(board, 4, 1004)
    flows = board.datapath.table("flows")
    ports = {(1003).to_bytes(2, "big"), (53).to_bytes(2, "big")}
    ended = [key for key, _ in flows.items() if {key[4:6], key[6:8]} == ports]
    assert flows.delete_many(ended) == 2
    delta = moving.departure.delta()
    moving.forget()
    moving.switch()
    assert moving.arrival.adopt(bulk, keep_seconds=60) == []
    assert len(board.connections()) == 3
    assert moving.arrival.adopt(delta) == []
    states = {c.source_port: c.state for c in board.connections()}
    assert states == {1001: "ESTABLISHED", 1002: "FIN_WAIT", 1004: "ESTABLISHED"}
    assert (board.usage(WEB1.slot), board.total_usage()) == (3, 3)


def test_rules_of_the_new_host_count(moving: Moving) -> None:
    """A connection whose rule is gone ends with its first packet."""
    established(moving.board, 4)
    carry(moving)
    moving.board.world.write_port(WEB1, groups=[])
    assert moving.says(STRANGER, between(WEB1, DB1, 4, tcp("PA"))) == "DROP_POLICY_FROM_VM"
    assert (moving.board.flows(), moving.board.total_usage()) == ([], 0)


@pytest.mark.parametrize("away", [0.0, 20.0])
def test_what_has_timed_out_on_its_way_is_not_made(moving: Moving, away: float) -> None:
    """Reset, which is remembered for 10 s. An established connection stays for days."""
    board = moving.board
    for sport in (1001, 1002):
        established(board, 4, sport)
    board.run("web1", between(WEB1, DB1, 4, tcp("R", 1001, 80)))
    records = moving.departure.bulk()
    moving.forget()
    moving.switch()
    assert moving.arrival.adopt(records, away_seconds=away) == []
    left = {c.source_port: c for c in board.connections()}
    assert set(left) == ({1002} if away else {1001, 1002})
    idle = (time.monotonic_ns() - left[1002].used_at) / SECOND
    assert away <= idle < away + DEADLINE
    assert board.total_usage() == len(left)


def test_the_timer_leaves_alone_what_is_in_use_elsewhere(moving: Moving) -> None:
    """For as long as it may take until its packets come here."""
    board = moving.board
    for sport in (1001, 1002):
        established(board, 4, sport)
        board.run("web1", between(WEB1, DB1, 4, tcp("R", sport, 80)))
    records = moving.departure.bulk()
    size = len(records) // 2
    moving.forget()
    moving.switch()
    moving.arrival.adopt(records[:size], keep_seconds=3600)
    moving.arrival.adopt(records[size:], keep_seconds=-3600)
    deadline = time.monotonic() + DEADLINE
    while len(board.connections()) > 1 and time.monotonic() < deadline:
        time.sleep(0.1)
    (left,) = board.connections()
    assert left.used_at > time.monotonic_ns() + 3000 * SECOND


def test_once_the_machine_is_here_the_timer_goes_on(moving: Moving) -> None:
    """A loop of migrations would keep what nobody uses for ever."""
    board = moving.board
    for sport in (1001, 1002):
        established(board, 4, sport)
    board.run("web1", between(WEB1, DB1, 4, tcp("R", 1001, 80)))
    carry(moving, keep_seconds=3600)
    assert len(board.connections()) == 2
    moving.arrival.has_come()
    assert all(c.used_at <= time.monotonic_ns() for c in board.connections())
    deadline = time.monotonic() + DEADLINE
    while len(board.connections()) > 1:
        assert time.monotonic() < deadline, board.connections()
        time.sleep(0.1)
    assert board.connections()[0].source_port == 1002


def test_what_is_in_use_is_left_alone_when_the_machine_is_here(moving: Moving) -> None:
    """Its packets were faster."""
    established(moving.board, 4)
    carry(moving, keep_seconds=3600)
    moving.says(STRANGER, between(WEB1, DB1, 4, tcp("FA")))
    (before,) = moving.board.connections()
    moving.arrival.has_come()
    (after,) = moving.board.connections()
    assert (after.state, after.packets) == (before.state, before.packets)
    assert after.used_at <= time.monotonic_ns()


def test_ports_that_are_gone_take_their_connections_along(moving: Moving) -> None:
    """A migration that came to nothing leaves nothing."""
    established(moving.board, 4)
    moving.board.run("web1", between(WEB1, DB1, 4, tcp("R")))
    records = moving.departure.bulk()
    moving.forget()
    moving.switch()
    assert moving.arrival.adopt(records, keep_seconds=3600) == []
    moving.board.world.delete("ports", moving.board.devices[STRANGER].ifindex)
    _until_no_flow_is_left(moving.board)


@pytest.mark.parametrize("version", VERSIONS)
def test_idle_connections_follow_a_port_that_has_left(moving: Moving, version: int) -> None:
    """db1 goes to another host and its row from here, while nothing is said. web1 asks and
    is answered as before."""
    board = moving.board
    before = established(board, version)
    web1, db1 = (board.devices[name].ifindex for name in ("web1", "db1"))
    zone = ends_of(board.datapath, [web1])[0].elsewhere
    assert follow_machine(board.datapath, [db1]) == 1
    (connection,) = board.connections()
    assert (connection.from_ifindex, connection.to_ifindex) == (web1, zone)
    assert (connection.state, connection.opened_at, connection.used_at) == (
        "ESTABLISHED",
        before.opened_at,
        before.used_at,
    )
    assert (board.usage(WEB1.slot), board.total_usage(), len(board.flows())) == (1, 1, 2)


@pytest.mark.parametrize("version", VERSIONS)
def test_those_that_the_left_port_opened_follow_it_too(strict: Switchboard, version: int) -> None:
    established(strict, version)
    web1, db1 = (strict.devices[name].ifindex for name in ("web1", "db1"))
    zone = ends_of(strict.datapath, [db1])[0].elsewhere
    assert follow_machine(strict.datapath, [web1]) == 1
    (connection,) = strict.connections()
    assert (connection.from_ifindex, connection.to_ifindex) == (zone, db1)
    assert (strict.usage(WEB1.slot), strict.total_usage(), len(strict.flows())) == (0, 1, 2)


def test_connections_of_others_stay_when_a_port_has_left(strict: Switchboard) -> None:
    established(strict, 4)
    flows = sorted(strict.datapath.table("flows").items())
    assert follow_machine(strict.datapath, [strict.devices[STRANGER].ifindex]) == 0
    both = [strict.devices[name].ifindex for name in ("web1", "db1")]
    assert follow_machine(strict.datapath, both) == 0, "those of a machine with itself go"
    assert sorted(strict.datapath.table("flows").items()) == flows


def _until_no_flow_is_left(board: Switchboard) -> None:
    deadline = time.monotonic() + DEADLINE
    while board.flows():
        assert time.monotonic() < deadline, board.connections()
        time.sleep(0.1)


def test_ten_thousand_connections_of_tcp(moving: Moving) -> None:
    """All are established there, and each answer finds its way."""
    board, count = moving.board, 10_000
    numbers = range(10_000, 10_000 + count)
    question = [bytearray(bytes(between(WEB1, DB1, 4, tcp(flags, 1)))) for flags in ("S", "A")]
    answer = [bytearray(bytes(between(DB1, WEB1, 4, tcp(flags, 80, 1)))) for flags in ("SA", "PA")]
    for number in numbers:
        port = number.to_bytes(2, "big")
        question[0][34:36] = question[1][34:36] = port
        answer[0][36:38] = port
        for who, frame in (("web1", question[0]), ("db1", answer[0]), ("web1", question[1])):
            board.run(who, bytes(frame))
    began = time.monotonic()
    records = moving.departure.bulk()
    moving.forget()
    moving.switch()
    assert moving.arrival.adopt(records, keep_seconds=60) == []
    took = time.monotonic() - began
    assert board.total_usage() == count
    assert {connection.state for connection in board.connections()} == {"ESTABLISHED"}
    lost = 0
    for number in numbers:
        answer[1][36:38] = number.to_bytes(2, "big")
        lost += board.run("db1", bytes(answer[1])).verdict != TC_ACT_REDIRECT
    assert lost == 0
    assert took < DEADLINE
    print(f"{count} connections moved in {took:.3f} s")


@pytest.mark.parametrize(
    ("version", "lost"),
    [
        (4, "tcp 172.17.17.2:1002 to 192.168.0.2:80"),
        (6, f"tcp [{WEB1.ipv6}]:1002 to [{DB1.ipv6}]:80"),
    ],
)
def test_connections_for_which_there_is_no_room_are_named(
    moving: Moving, version: int, lost: str
) -> None:
    """All others are made."""
    for sport in (1001, 1002):
        established(moving.board, version, sport)
    records, size = moving.departure.bulk(), moving.arrival.record_bytes
    named = {records[at + 4 : at + 6]: records[at : at + size] for at in (0, size)}
    moving.forget()
    moving.switch()
    flows = moving.board.datapath.table("flows")
    value = bytes(flows.value_size)
    fill = (number.to_bytes(flows.key_size, "little") for number in range(flows.max_entries - 2))
    flows.put_many((key, value) for key in fill)
    ordered = b"".join(named[port.to_bytes(2, "big")] for port in (1001, 1002))
    assert moving.arrival.adopt(ordered, keep_seconds=60) == [lost]
    assert moving.says("db1", between(DB1, WEB1, version, tcp("PA", 80, 1001))) == STRANGER
    assert moving.board.usage(WEB1.slot) == 1


def test_records_of_another_version_are_refused(moving: Moving) -> None:
    established(moving.board, 4)
    with pytest.raises(KernelError, match="another version of heddle"):
        moving.arrival.adopt(moving.departure.bulk()[:-1])


def test_records_about_other_ports_are_refused(moving: Moving) -> None:
    established(moving.board, 4)
    record = bytearray(moving.departure.bulk())
    record[0] = 2
    with pytest.raises(KernelError, match="other ports than the machine has"):
        moving.arrival.adopt(bytes(record))


def test_two_ports_of_one_machine(strict: Switchboard) -> None:
    """A connection from one to the other keeps both its ends."""
    established(strict, 4)
    web1, db1, far = (strict.devices[name].ifindex for name in ("web1", "db1", "far1"))
    records = Departure(strict.datapath, [End(web1, far), End(db1, far)]).bulk()
    table = strict.datapath.table("flows")
    table.delete_many(key for key, _ in list(table.items()))
    arrival = Arrival(strict.datapath, [End(db1, far), End(web1, far)])
    assert arrival.adopt(records) == []
    arrival.close()
    connection = strict.connection()
    assert (connection.from_ifindex, connection.to_ifindex) == (db1, web1)
