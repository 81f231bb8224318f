"""The course of a migration: every way through it, and every event in every state."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from itertools import product

import pytest

from heddle.agent.migration import (
    ARRIVING,
    LEAVING,
    Action,
    Arriving,
    Course,
    Event,
    Leaving,
    Table,
    Timeouts,
    arriving,
    leaving,
)

E, A = Event, Action


def run(course: Course[Leaving] | Course[Arriving], *events: Event) -> list[Action]:
    """What is done in all, in order."""
    return [action for event in events for action in course.step(event)]


# ---- the host that the machine leaves ------------------------------------------------

ON_ITS_WAY = (E.READY, E.TAKEN, E.PAUSED)


def test_a_machine_leaves() -> None:
    course = leaving()
    done = run(course, E.READY, E.TAKEN, E.PAUSED, E.MOVED, E.COMMITTED)
    assert done == [
        A.SEND_CONNECTIONS,
        A.MOVE,
        A.TURN_AWAY,
        A.SEND_CONNECTIONS,
        A.COMMIT_MOVED,
    ]
    assert course.is_over


def test_the_hypervisor_begins_only_when_the_other_host_is_proven() -> None:
    """With links, rows and connections."""
    for events in ((), (E.READY,), (E.TAKEN,), (E.TAKEN, E.TAKEN)):
        assert A.MOVE not in run(leaving(), *events)


@pytest.mark.parametrize("count", range(3))
@pytest.mark.parametrize("trouble", [E.REFUSED, E.LATE, E.CALLED_OFF, E.ENDED])
def test_trouble_before_the_hypervisor_begins(count: int, trouble: Event) -> None:
    course = leaving()
    run(course, *ON_ITS_WAY[:count])
    done = run(course, trouble)
    if course.state is Leaving.MOVING and trouble is not E.ENDED:
        assert done == [A.ABORT]
        done = run(course, E.FAILED)
    assert done == [A.COMMIT_STAYED]
    assert course.state is Leaving.STAYING
    run(course, E.COMMITTED)
    assert course.is_over


@pytest.mark.parametrize("trouble", [E.FAILED, E.ENDED])
def test_trouble_while_the_machine_stands_still(trouble: Event) -> None:
    course = leaving()
    run(course, *ON_ITS_WAY)
    assert run(course, trouble) == [A.TURN_BACK, A.COMMIT_STAYED]


def test_the_hypervisor_lets_it_go_on_here_and_tries_again() -> None:
    course = leaving()
    run(course, *ON_ITS_WAY)
    assert run(course, E.RESUMED) == [A.TURN_BACK]
    assert run(course, E.PAUSED) == [A.TURN_AWAY, A.SEND_CONNECTIONS]
    assert run(course, E.MOVED) == [A.COMMIT_MOVED]


@pytest.mark.parametrize("count", range(4))
def test_it_is_called_off(count: int) -> None:
    """What the hypervisor has begun it must end itself."""
    course = leaving()
    run(course, *ON_ITS_WAY[:count])
    done = run(course, E.WITHDRAWN)
    assert done == ([] if count < 2 else [A.ABORT])
    if done:
        run(course, E.FAILED, E.COMMITTED)
    assert course.is_over


@pytest.mark.parametrize("word", [E.WITHDRAWN, E.CALLED_OFF])
def test_it_is_called_off_too_late(word: Event) -> None:
    course = leaving()
    run(course, *ON_ITS_WAY)
    assert run(course, word, E.MOVED) == [A.ABORT, A.COMMIT_MOVED]


@pytest.mark.parametrize("count", range(3))
def test_one_that_somebody_else_began_is_caught_up_with(count: int) -> None:
    """virsh waits for nothing."""
    course = leaving()
    run(course, *ON_ITS_WAY[:count])
    assert run(course, E.PAUSED) == [A.TURN_AWAY, A.SEND_CONNECTIONS]
    late = run(course, *ON_ITS_WAY[count:2])
    assert late == []
    assert run(course, E.MOVED) == [A.COMMIT_MOVED]


@pytest.mark.parametrize("count", range(2))
def test_an_agent_that_was_away_finds_it_under_way(count: int) -> None:
    """And follows it, however long the other host says nothing."""
    course = leaving()
    run(course, *ON_ITS_WAY[:count])
    assert run(course, E.UNDER_WAY)[-1] is A.MOVE
    assert run(course, E.UNDER_WAY) == []
    assert run(course, E.PAUSED, E.MOVED)[-1] is A.COMMIT_MOVED


@pytest.mark.parametrize("count", range(3))
def test_an_agent_that_was_away_finds_the_machine_gone(count: int) -> None:
    course = leaving()
    run(course, *ON_ITS_WAY[:count])
    assert run(course, E.MOVED) == [A.TURN_AWAY, A.SEND_CONNECTIONS, A.COMMIT_MOVED]


# ---- the host that it comes to ---------------------------------------------------------


def test_a_machine_arrives() -> None:
    course = arriving()
    events = (E.PREPARED, E.CONNECTIONS, E.CONNECTIONS, E.FIRST_FRAME, E.COMMITTED)
    assert run(course, *events) == [
        A.REPORT_READY,
        A.ADOPT,
        A.ADOPT,
        A.TURN_HERE,
        A.COMMIT_MOVED,
        A.AWAIT_REST,
    ]
    run(course, E.COMPLETE)
    assert course.is_over


@pytest.mark.parametrize("end", [E.COMPLETE, E.LATE, E.WITHDRAWN])
def test_the_last_connections_may_be_slower_than_the_store(end: Event) -> None:
    """But nobody waits for ever for a host that may be dead."""
    course = arriving()
    run(course, E.PREPARED, E.CONNECTIONS, E.FIRST_FRAME, E.COMMITTED)
    assert not course.is_over
    assert run(course, E.CONNECTIONS) == [A.ADOPT]
    run(course, end)
    assert course.is_over


def test_they_may_be_faster() -> None:
    course = arriving()
    run(course, E.PREPARED, E.CONNECTIONS, E.COMPLETE, E.FIRST_FRAME, E.COMPLETE)
    assert course.state is Arriving.ACTIVE


@pytest.mark.parametrize("sign", [E.FIRST_FRAME, E.RUNS])
@pytest.mark.parametrize("count", range(3))
def test_what_runs_here_is_here(count: int, sign: Event) -> None:
    """Whatever was left out."""
    course = arriving()
    run(course, *(E.PREPARED, E.CONNECTIONS)[:count])
    assert run(course, sign) == [A.TURN_HERE, A.COMMIT_MOVED]
    assert run(course, E.FIRST_FRAME, E.RUNS) == []


def test_connections_that_come_late_are_taken() -> None:
    course = arriving()
    run(course, E.PREPARED, E.CONNECTIONS, E.FIRST_FRAME)
    assert run(course, E.CONNECTIONS) == [A.ADOPT]


def test_a_host_that_can_not_have_it() -> None:
    course = arriving()
    assert run(course, E.UNFIT) == [A.REPORT_REFUSED]
    assert run(course, E.PREPARED, E.CONNECTIONS) == []
    run(course, E.WITHDRAWN)
    assert course.is_over


@pytest.mark.parametrize("count", range(3))
def test_the_other_host_calls_it_off(count: int) -> None:
    course = arriving()
    run(course, *(E.PREPARED, E.CONNECTIONS)[:count])
    assert run(course, E.WITHDRAWN) == []
    assert course.is_over


def test_a_machine_that_runs_here_is_not_given_back() -> None:
    course = arriving()
    run(course, E.PREPARED, E.CONNECTIONS, E.FIRST_FRAME)
    assert run(course, E.WITHDRAWN) == [A.COMMIT_MOVED]
    run(course, E.COMMITTED, E.COMPLETE)
    assert course.is_over


# ---- of all courses ---------------------------------------------------------------------


@pytest.mark.parametrize(("table", "states"), [(LEAVING, Leaving), (ARRIVING, Arriving)])
def test_every_state_is_reached_and_left(table: Table[StrEnum], states: type[StrEnum]) -> None:
    begun = next(iter(states))
    reached = {begun} | {following for following, _ in table.values()}
    assert reached == set(states)
    assert {state for state, _ in table} == set(states) - {states("over")}


def _ways(table: Table[StrEnum], state: StrEnum, length: int) -> Iterator[tuple[Action, ...]]:
    """What is done on every way of so many events."""
    for events in product(Event, repeat=length):
        course: Course[StrEnum] = Course(table, state)
        yield tuple(action for event in events for action in course.step(event))


def test_rows_turn_away_and_back_in_turns() -> None:
    """And the store is told that it moved only with rows turned away, that it
    stayed only with rows as they were."""
    for done in _ways(LEAVING, Leaving.WAITING, 4):
        away = False
        for action in done:
            assert action is not A.TURN_AWAY or not away
            assert action is not A.TURN_BACK or away
            away = {A.TURN_AWAY: True, A.TURN_BACK: False}.get(action, away)
            assert action is not A.COMMIT_MOVED or away
            assert action is not A.COMMIT_STAYED or not away


def test_only_a_machine_that_runs_here_is_committed() -> None:
    for events in product(Event, repeat=4):
        course = arriving()
        if A.COMMIT_MOVED in run(course, *events):
            assert {E.FIRST_FRAME, E.RUNS} & set(events)


def test_only_the_hypervisor_or_the_store_says_that_it_has_moved() -> None:
    for events in product(set(Event) - {E.MOVED}, repeat=4):
        assert A.COMMIT_MOVED not in run(leaving(), *events)


def test_states_that_wait_for_others_end_some_time() -> None:
    limits = Timeouts()
    waits = {state for state in Leaving if limits.of(state) is not None}
    assert waits == {Leaving.WAITING, Leaving.COPYING, Leaving.MOVING, Leaving.SWITCHING}
    assert {state for state in Arriving if limits.of(state) is not None} == {Arriving.SETTLING}
    assert (Arriving.SETTLING, E.LATE) in ARRIVING
    for state in waits:
        assert (state, E.LATE) in LEAVING
