"""Ports with groups, without, without port security, and stateless ones."""

from __future__ import annotations

import pytest
from packet_policy import DIRECTIONS, END, OWN, PEER, REASON, allow, verdict
from packet_rules import (
    FROM_VM,
    TCP,
    TO_VM,
    UDP,
    Rule,
    anything,
    write_group,
)
from packet_talk import between, pong, talk, tcp, udp
from packet_world import (
    ALL,
    DB1,
    WEB1,
    WEB2,
    WEB3,
    Nic,
)

from tests.packets.conftest import Switchboard

VERSIONS = (4, 6)
OPEN_RULE = 0xFFFFFFFF


# ---- groups of a port ------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("which", [0, 7, 15])
def test_each_group_of_a_port_is_asked(
    board: Switchboard, which: int, direction: str, version: int
) -> None:
    """As many groups as a port may have, of which one allows it."""
    groups = range(30, 30 + board.world.value("GROUPS_MAX"))
    for group in groups:
        protocol = UDP if group == groups[which] else TCP
        write_group(board.world, group, [Rule(group, direction, version, protocol)])
    board.world.write_port(END[direction], groups=groups)
    told = board.trace("web1", between(WEB1, DB1, version, udp()))
    assert groups[which] in (told.from_rule, told.to_rule)
    others = [group for group in groups if group != groups[which]]
    board.world.write_port(END[direction], groups=others)
    assert not verdict(board, direction, version, udp())


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_port_without_groups_allows_nothing(
    board: Switchboard, direction: str, version: int
) -> None:
    board.world.write_port(END[direction], groups=[])
    assert not verdict(board, direction, version, udp())


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_group_that_has_no_rows_allows_nothing(board: Switchboard, direction: str) -> None:
    board.world.write_port(END[direction], groups=[77])
    assert not verdict(board, direction, 4, udp())


# ---- ports without port security -------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_both_ends_open(board: Switchboard, version: int) -> None:
    """Not even a SYN+ACK out of the blue is of interest."""
    for nic in (WEB1, DB1):
        board.world.open_port(nic)
    frame = between(WEB1, DB1, version, tcp("SA"))
    assert talk(board, frame, WEB1, DB1) == "OPEN"
    told = board.trace("web1", frame)
    assert (told.from_rule, told.to_rule) == (OPEN_RULE, OPEN_RULE)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_one_end_open_the_other_closed(board: Switchboard, direction: str, version: int) -> None:
    board.world.open_port(PEER[direction])
    board.world.write_port(END[direction], groups=[])
    assert not verdict(board, direction, version, udp())


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_filtered_end_knows_its_connection(
    board: Switchboard, direction: str, version: int
) -> None:
    board.world.open_port(PEER[direction])
    allow(board, END[direction], [Rule(9, direction, version)])
    early = between(DB1, WEB1, version, tcp("SA", 80, 40000))
    back = {FROM_VM: TO_VM, TO_VM: FROM_VM}[direction]
    assert talk(board, early, DB1, WEB1) == REASON[back]
    assert talk(board, between(WEB1, DB1, version, tcp("S")), WEB1, DB1) == "ALLOWED"
    assert talk(board, early, DB1, WEB1) == "REPLY"


@pytest.mark.parametrize("version", VERSIONS)
def test_open_port_may_have_any_source(board: Switchboard, version: int) -> None:
    board.world.open_port(WEB1)
    frame = between(WEB2, WEB3, version, udp())
    frame.src = "02:00:00:00:00:09"
    assert board.send_once("web1", frame).to == "web3"


# ---- stateless groups ------------------------------------------------------------------


def stateless(board: Switchboard, nic: Nic, *directions: str) -> None:
    rules = [rule for rule in anything(50) if rule.direction in directions]
    allow(board, nic, rules, "POLICY_STATELESS")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("end", ["web1", "db1"])
def test_replies_need_a_rule_at_a_stateless_end(board: Switchboard, end: str, version: int) -> None:
    """web1 asks, db1 answers; at one of them the connection does not count."""
    nic, first, second = {"web1": (WEB1, FROM_VM, TO_VM), "db1": (DB1, TO_VM, FROM_VM)}[end]
    question, answer = (
        between(WEB1, DB1, version, udp(5, 6)),
        between(DB1, WEB1, version, udp(6, 5)),
    )
    stateless(board, nic, first)
    assert talk(board, question, WEB1, DB1) == "ALLOWED"
    assert talk(board, answer, DB1, WEB1) == REASON[second]
    assert board.drop_count(end, REASON[second])["packets"] == 1
    stateless(board, nic, first, second)
    assert talk(board, answer, DB1, WEB1) == "REPLY"
    assert board.trace("db1", answer).decision("STAGE_FLOW") == "DECISION_FLOW_HIT"


@pytest.mark.parametrize("version", VERSIONS)
def test_without_state_at_both_ends_there_is_no_connection(
    board: Switchboard, version: int
) -> None:
    stateless(board, WEB1, FROM_VM, TO_VM)
    board.world.write_port(DB1, groups=[OWN])
    for payload in (tcp("SA"), tcp("R"), pong(version)):
        assert talk(board, between(WEB1, DB1, version, payload), WEB1, DB1) == "ALLOWED"
    assert {connection.tracked for connection in board.connections()} == {False}
    stateless(board, WEB1, FROM_VM)
    frame = between(DB1, WEB1, version, tcp("SA", 80, 40000))
    assert talk(board, frame, DB1, WEB1) == "DROP_POLICY_TO_VM"


@pytest.mark.parametrize("order", [(ALL, OWN), (OWN, ALL)])
def test_a_stateful_group_that_allows_it_too_is_worth_more(
    board: Switchboard, order: tuple[int, int]
) -> None:
    write_group(board.world, OWN, anything(50), "POLICY_STATELESS")
    write_group(board.world, 8, [Rule(9, FROM_VM)])
    groups = [{ALL: 8, OWN: OWN}[group] for group in order]
    board.world.write_port(WEB1, groups=groups)
    told = board.trace("web1", between(WEB1, DB1, 4, tcp("S")))
    assert told.from_rule == 9
