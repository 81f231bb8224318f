"""What the rules of both ends allowed once is not asked again, until the policy of
either network changes; what they refused is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
from packet_talk import between, ping, talk, tcp, udp
from packet_world import DB, DB1, GATE, WEB, WEB1, WEB2, Network, Nic
from scapy.packet import Packet

from tests.packets.conftest import TC_ACT_REDIRECT, Switchboard

VERSIONS = pytest.mark.parametrize("version", [4, 6])
REFUSED = "DROP_POLICY_TO_VM"


@pytest.fixture(autouse=True)
def one_cpu() -> Iterator[None]:
    """Each CPU has answers of its own."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    yield
    os.sched_setaffinity(0, allowed)


def take_rules_away(board: Switchboard, *nics: Nic) -> None:
    """As no applier does it: no epoch tells."""
    for nic in nics:
        board.world.write_port(nic, groups=[])


def connect(
    board: Switchboard, version: int, payload: Packet, source: Nic = WEB1, receiver: Nic = DB1
) -> str | None:
    return talk(board, between(source, receiver, version, payload), source, receiver)


@VERSIONS
def test_another_connection_of_the_same_kind(board: Switchboard, version: int) -> None:
    connect(board, version, tcp("S", 40000))
    first = board.connection()
    take_rules_away(board, WEB1, DB1)
    again = board.run("web1", between(WEB1, DB1, version, tcp("S", 40001)))
    assert again.verdict == TC_ACT_REDIRECT
    second = next(each for each in board.connections() if each.source_port == 40001)
    assert (second.from_rule, second.to_rule) == (first.from_rule, first.to_rule) != (0, 0)


@VERSIONS
@pytest.mark.parametrize("network", [WEB, DB], ids=["sender's", "receiver's"])
def test_new_policy_is_asked(board: Switchboard, version: int, network: Network) -> None:
    connect(board, version, tcp("S", 40000))
    take_rules_away(board, DB1)
    board.world.advance_epoch(network)
    assert connect(board, version, tcp("S", 40001)) == REFUSED


@VERSIONS
@pytest.mark.parametrize(
    "ask",
    [
        lambda board, version: connect(board, version, tcp("S", dport=81)),
        lambda board, version: connect(board, version, udp(40000, 80)),
        lambda board, version: connect(board, version, ping(version)),
        lambda board, version: connect(board, 10 - version, tcp("S")),
        lambda board, version: connect(board, version, tcp("S"), source=WEB2),
        lambda board, version: connect(board, version, tcp("S"), receiver=GATE),
    ],
    ids=["port", "protocol", "ping", "IP version", "sender", "receiver"],
)
def test_another_question_is_asked(
    board: Switchboard, version: int, ask: Callable[[Switchboard, int], str | None]
) -> None:
    connect(board, version, tcp("S"))
    take_rules_away(board, DB1, GATE)
    assert ask(board, version) == REFUSED


@VERSIONS
def test_a_no_is_not_kept(board: Switchboard, version: int) -> None:
    """Rules that allow more advance no epoch."""
    take_rules_away(board, DB1)
    assert connect(board, version, tcp("S")) == REFUSED
    board.world.write_port(DB1)
    assert connect(board, version, tcp("S")) == "ALLOWED"


@VERSIONS
def test_a_trace_asks_the_rules(board: Switchboard, version: int) -> None:
    connect(board, version, tcp("S", 40000))
    take_rules_away(board, DB1)
    told = board.trace("web1", between(WEB1, DB1, version, tcp("S", 40001)))
    assert told.decision("STAGE_POLICY") == "DECISION_DROP"
