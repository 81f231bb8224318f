"""What a figure is, whether it holds, and how it is told."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound: ``at least`` or ``at most`` so much, in a unit (or a multiple of a peer)."""

    direction: Literal["at least", "at most"]
    bound: float
    unit: str

    def holds(self, value: float) -> bool:
        return value >= self.bound if self.direction == "at least" else value <= self.bound

    def __str__(self) -> str:
        sign = ">=" if self.direction == "at least" else "<="
        return f"{sign} {self.bound:g} {self.unit}"


def at_least(bound: float, unit: str) -> Goal:
    return Goal("at least", bound, unit)


def at_most(bound: float, unit: str) -> Goal:
    return Goal("at most", bound, unit)


@dataclass(frozen=True, slots=True)
class Measured:
    """What a figure's run gives: a value per goal, and for people the absolute
    measurements behind them, by contender, in one unit."""

    values: Mapping[str, float]
    unit: str = ""
    contenders: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Figure:
    """Something to measure. ``goals`` are by the name of the value they bound."""

    name: str
    title: str
    goals: Mapping[str, Goal]
    measure: Callable[[], Measured]  # runs on a private host
    prepare: Callable[[], None] = lambda: None  # runs on the machine before that
    patience: float = 180.0  # seconds that it may take


@dataclass(frozen=True, slots=True)
class Outcome:
    """A figure and what came out; ``measured`` is None when it failed."""

    figure: Figure
    measured: Measured | None
    error: str = ""

    def rows(self) -> list[Row]:
        return [Row(name, self._value(name), goal) for name, goal in self.figure.goals.items()]

    def _value(self, name: str) -> float | None:
        return None if self.measured is None else self.measured.values[name]


@dataclass(frozen=True, slots=True)
class Row:
    """One value beside its goal; no value never holds."""

    name: str
    value: float | None
    goal: Goal

    @property
    def holds(self) -> bool:
        return self.value is not None and self.goal.holds(self.value)


def all_rows(outcomes: Sequence[Outcome]) -> list[Row]:
    return [row for outcome in outcomes for row in outcome.rows()]


def render_json(outcomes: Sequence[Outcome]) -> str:
    """A list of {figure, value, goal, holds}."""
    return json.dumps(
        [
            {
                "figure": row.name,
                "value": None if row.value is None else round(row.value, 4),
                "goal": str(row.goal),
                "holds": row.holds,
            }
            for row in all_rows(outcomes)
        ],
        indent=2,
    )


def render_table(outcomes: Sequence[Outcome]) -> str:
    return "\n\n".join("\n".join(_section(outcome)) for outcome in outcomes)


def _section(outcome: Outcome) -> list[str]:
    lines = [outcome.figure.title]
    if outcome.measured is not None:
        unit = outcome.measured.unit
        lines += [
            f"    {name:32} {value:10.4g} {unit}"
            for name, value in outcome.measured.contenders.items()
        ]
    for row in outcome.rows():
        value = "not measured" if row.value is None else f"{row.value:.4g}"
        mark = "holds" if row.holds else "MISSED"
        lines.append(f"  {mark:6}  {row.name:34} {value:>12}   goal {row.goal}")
    if outcome.error:
        lines.append(f"  error: {outcome.error}")
    return lines
