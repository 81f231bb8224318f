"""Connections in words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from heddle.cli.flows import Teller, _print_json, _print_table
from heddle.cli.view import View
from heddle.datapath.flows import Connection

SECOND = 1_000_000_000
A4, B4 = (bytes(10) + b"\xff\xff" + bytes([10, 0, 0, last]) for last in (1, 2))
A6, B6 = (b"\xfd" + bytes(14) + bytes([last]) for last in (1, 2))
ZONE = 1 << 31
LO, GONE = 1, 1 << 30  # no port of heddle; no device at all
RULE = {
    "kind": "security_group_rule", "id": "r", "number": 7, "name": "web to_vm tcp 80 from 0.0.0.0/0"
}  # fmt: skip


@pytest.fixture
def teller() -> Teller:
    view = View.__new__(View)  # what it reads from the store is given here
    view.objects, view.statuses = [RULE], {}
    return Teller(view, now=100 * SECOND, zone=ZONE)


def connection(**fields: Any) -> Connection:  # noqa: ANN401
    usual: dict[str, Any] = {
        "tracked": True,
        "state": "ESTABLISHED",
        "protocol": 6,
        "from_ifindex": LO,
        "to_ifindex": GONE,
        "source": A4,
        "destination": B4,
        "source_port": 33000,
        "destination_port": 80,
        "opened_at": 10 * SECOND,
        "used_at": 99 * SECOND,
        "packets": 3,
        "bytes": 300,
        "reply_packets": 2,
        "reply_bytes": 200,
        "from_rule": 0,
        "to_rule": 7,
    }
    return Connection(**{**usual, **fields})


def test_an_end_at_another_host(teller: Teller) -> None:
    told = teller.tell(connection(to_ifindex=ZONE | 1001, to_rule=0))
    assert (told["from"], told["to"]) == ("lo", "other host")
    assert told["allowed_to_vm_by"] == "-"


def test_all_that_is_known_is_told(teller: Teller) -> None:
    assert teller.tell(connection()) == {
        "from": "lo",
        "to": f"device {GONE}",
        "protocol": "tcp",
        "source": "10.0.0.1",
        "destination": "10.0.0.2",
        "source_port": 33000,
        "destination_port": 80,
        "state": "established",
        "age": 90.0,
        "idle": 1.0,
        "packets": 3,
        "bytes": 300,
        "reply_packets": 2,
        "reply_bytes": 200,
        "allowed_from_vm_by": "-",
        "allowed_to_vm_by": "web to_vm tcp 80 from 0.0.0.0/0",
    }


def test_a_rule_that_is_gone_keeps_its_number(teller: Teller) -> None:
    assert teller.tell(connection(to_rule=9))["allowed_to_vm_by"] == "rule 9, removed since"


@pytest.mark.parametrize(
    ("fields", "protocol", "source", "destination"),
    [
        ({}, "tcp", "10.0.0.1:33000", "10.0.0.2:80"),
        ({"source": A6, "destination": B6}, "tcp", "[fd00::1]:33000", "[fd00::2]:80"),
        (
            {"protocol": 1, "source_port": 5, "destination_port": 0x0800},
            "icmp type 8 id 5",
            "10.0.0.1",
            "10.0.0.2",
        ),
        ({"protocol": 47, "source_port": 0, "destination_port": 0}, "gre", "10.0.0.1", "10.0.0.2"),
    ],
)
def test_cells(
    teller: Teller, fields: dict[str, Any], protocol: str, source: str, destination: str
) -> None:
    row = teller.row(connection(**fields))
    assert row[2:5] == (protocol, source, destination)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.5, "0.5s"), (119, "119.0s"), (600, "10m"), (7200, "2h"), (5 * 86400, "5d")],
)
def test_ages(seconds: float, words: str) -> None:
    view = View.__new__(View)
    view.objects, view.statuses = [], {}
    now = int(seconds * SECOND) + 1
    assert Teller(view, now, ZONE).row(connection(opened_at=1, used_at=1))[6] == words


def test_what_is_not_tracked_says_so(teller: Teller) -> None:
    told = teller.tell(connection(tracked=False, state="NEW", opened_at=0))
    assert (told["state"], told["age"]) == ("untracked", None)


def test_json_is_one_line_each(teller: Teller, capsys: pytest.CaptureFixture[str]) -> None:
    _print_json(map(teller.tell, [connection(), connection(protocol=17)]))
    out = capsys.readouterr().out
    assert [flow["protocol"] for flow in json.loads(out)] == ["tcp", "udp"]
    assert len(out.splitlines()) == 4
    _print_json([])
    assert json.loads(capsys.readouterr().out) == []


def test_a_pipe_gets_all_rows_the_busiest_first(
    teller: Teller, capsys: pytest.CaptureFixture[str]
) -> None:
    _print_table(teller, [connection(bytes=size) for size in range(100)])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 101
    assert "  3+2      99+200 " in lines[1]
    _print_table(teller, [])
    assert capsys.readouterr().out == "no connection is known\n"
