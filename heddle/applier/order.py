"""In which order rows are written. Pure.

New rows come first, then changed ones, then removals: a flooding ring never leads to a
port that is gone, nor a packet to what is not there yet. Where ports go from one
security group to another while rules change, a port that joins a group finds it as it
will be, without the rules that go; and a group that ports leave stays as it was until
they have left. Of a group that some join and some leave, the rules that stay are there
all the time, the others go before and come after. So no port has a rule meanwhile that
it has neither before nor after, wherever the agent dies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from heddle.applier.diff import TablePlan
from heddle.applier.report import Verb
from heddle.compiler.state import TABLE_ORDER
from heddle.datapath.codec import Row

# Their keys name the security group that a rule is of.
_RULES = frozenset({"policy_rules", "policy_remotes", "policy_groups"})

Plans = Mapping[str, TablePlan]
"""By table, in the order of TABLE_ORDER."""
GroupOf = Callable[[str, bytes], int]
"""The number of the group in a key of a table of rules."""


class Moves(NamedTuple):
    """Groups that some port joins, and those that some port leaves."""

    joined: frozenset[int] = frozenset()
    left: frozenset[int] = frozenset()


class Step(NamedTuple):
    """What to do with rows of a plan: those that are new (+), changed (~) or go (-)."""

    verb: Verb
    table: str
    plan: TablePlan


def moves_between(ports: Iterable[tuple[Row, Row]]) -> Moves:
    """``ports``: their rows before and after."""
    joined: set[int] = set()
    left: set[int] = set()
    for before, after in ports:
        groups = _groups(before), _groups(after)
        joined |= groups[1] - groups[0]
        left |= groups[0] - groups[1]
    return Moves(frozenset(joined), frozenset(left))


def _groups(port: Row) -> set[int]:
    return set(port["groups"][: port["group_count"]])


def has_rules(plans: Plans) -> bool:
    """Whether rules change."""
    return not plans.keys().isdisjoint(_RULES)


def steps(plans: Plans, moves: Moves, group_of: GroupOf) -> Iterator[Step]:
    """All that is to be done, row by row once."""
    busy = _taken_out(plans, moves.left & moves.joined, group_of)
    left = _taken_out(plans, moves.left, group_of)
    rules = {t: plan for t, plan in plans.items() if t in _RULES and any(moves)}
    ports = TABLE_ORDER.index("ports")
    yield from _each("+", plans)
    yield from _each("~", {t: plan for t, plan in plans.items() if TABLE_ORDER.index(t) < ports})
    yield from _removals(rules)
    yield from _removals(busy)
    yield from _each("~", {t: plan for t, plan in plans.items() if TABLE_ORDER.index(t) >= ports})
    for late in (left, busy):
        yield from _each("+", late)
        yield from _each("~", late)
    yield from _removals(left)
    yield from _removals({t: plan for t, plan in plans.items() if t not in rules})


def _taken_out(plans: Plans, groups: frozenset[int], group_of: GroupOf) -> Plans:
    """What is to be done about the rules of these groups, which is in the plans no more."""
    return {
        table: plan.take_out(lambda key, table=table: group_of(table, key) in groups)  # type: ignore[misc]
        for table, plan in plans.items()
        if groups and table in _RULES
    }


def _each(verb: Verb, plans: Plans) -> Iterator[Step]:
    return (Step(verb, table, plan) for table, plan in plans.items())


def _removals(plans: Plans) -> Iterator[Step]:
    """The other way round."""
    return (Step("-", table, plan) for table, plan in reversed(list(plans.items())))
