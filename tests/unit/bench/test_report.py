"""Goals, the table and the JSON that others read."""

from __future__ import annotations

import json

import pytest

from bench.report import (
    Figure,
    Goal,
    Measured,
    Outcome,
    all_rows,
    at_least,
    at_most,
    render_json,
    render_table,
)

GOALS = {"speed": at_least(1.1, "of a peer"), "time": at_most(3, "s")}


def _never() -> Measured:
    raise AssertionError


def _outcome(measured: Measured | None, error: str = "") -> Outcome:
    return Outcome(Figure("figure", "What it is", GOALS, _never), measured, error)


@pytest.mark.parametrize(
    ("goal", "value", "holds"),
    [
        (at_least(1.1, ""), 1.1, True),
        (at_least(1.1, ""), 1.0999, False),
        (at_most(3, ""), 3, True),
        (at_most(3, ""), 3.0001, False),
    ],
)
def test_a_goal_includes_its_bound(goal: Goal, value: float, holds: bool) -> None:
    assert goal.holds(value) is holds


def test_json_has_one_object_per_goal_with_just_these_keys() -> None:
    outcome = _outcome(Measured({"speed": 1.23456, "time": 3.5}))

    assert json.loads(render_json([outcome])) == [
        {"figure": "speed", "value": 1.2346, "goal": ">= 1.1 of a peer", "holds": True},
        {"figure": "time", "value": 3.5, "goal": "<= 3 s", "holds": False},
    ]


def test_what_was_not_measured_does_not_hold() -> None:
    rows = all_rows([_outcome(None, "no such peer")])

    assert [(row.name, row.value, row.holds) for row in rows] == [
        ("speed", None, False),
        ("time", None, False),
    ]
    assert {row["value"] for row in json.loads(render_json([_outcome(None)]))} == {None}


def test_the_table_shows_contenders_values_and_errors() -> None:
    measured = Measured({"speed": 1.2, "time": 4}, "Gbit/s", {"heddle": 12, "peer": 10})

    table = render_table([_outcome(measured), _outcome(None, "no such peer")])

    assert "heddle                                   12 Gbit/s" in table
    assert "holds   speed" in table
    assert "MISSED  time" in table
    assert "error: no such peer" in table
