"""Any intent may follow any other: what a host then has is the same as when it
starts with it, and the deltas on the way there say exactly what changed."""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy

import pytest
from compiler_intents import HOST
from compiler_states import STATES

from heddle.compiler.host import Compiler, compile_host
from heddle.compiler.index import Change
from heddle.compiler.state import HostDelta, HostState
from heddle.intent.model import AnyResource

FULL = {name: compile_host(objects, HOST) for name, objects in STATES.items()}


def changes(before: Iterable[AnyResource], after: Iterable[AnyResource]) -> list[Change]:
    """Only what differs, as a store would tell it."""
    old = {(r.kind, r.id): r for r in before}
    new = {(r.kind, r.id): r for r in after}
    gone: list[Change] = [(kind, name, None) for kind, name in old.keys() - new.keys()]
    return gone + [(*key, value) for key, value in new.items() if old.get(key) != value]


def snapshot(state: HostState) -> HostState:
    return HostState(
        copy(state.links),
        copy(state.rows),
        copy(state.machines),
        copy(state.namespaces),
        state.tunnel,
    )


def patch(state: HostState, delta: HostDelta) -> HostState:
    """What an applier makes of a delta; fails when it removes what is not there."""
    result = snapshot(state)
    for current, changed in (
        (result.links, delta.links),
        (result.rows, delta.rows),
        (result.machines, delta.machines),
    ):
        for key, value in changed.items():
            if value is None:
                del current[key]
            else:
                current[key] = value
    if delta.tunnel_changed:
        result.tunnel = delta.tunnel
    for name, present in delta.namespaces.items():
        (result.namespaces.add if present else result.namespaces.remove)(name)
    return result


@pytest.mark.parametrize("start", STATES)
def test_every_state_follows_every_other(start: str) -> None:
    for end in STATES:
        compiler = Compiler(HOST)
        compiler.update(changes((), STATES[start]))
        before = snapshot(compiler.state)
        delta = compiler.update(changes(STATES[start], STATES[end]))
        assert compiler.state == FULL[end], f"{start} -> {end}"
        assert patch(before, delta) == FULL[end], f"{start} -> {end}"
        compiler.update(changes(STATES[end], STATES[start]))
        assert compiler.state == FULL[start], f"{start} -> {end} -> {start}"


@pytest.mark.parametrize("name", STATES)
def test_order_does_not_matter(name: str) -> None:
    for objects in (STATES[name], STATES[name][::-1]):
        compiler = Compiler(HOST)
        for resource in objects:
            compiler.update([(resource.kind, resource.id, resource)])
        assert compiler.state == FULL[name]


@pytest.mark.parametrize("name", STATES)
def test_nothing_changes_nothing(name: str) -> None:
    compiler = Compiler(HOST)
    compiler.update(changes((), STATES[name]))
    again = [r.model_copy() for r in STATES[name]]
    delta = compiler.update(changes((), again))
    assert not delta
    assert delta.touched == set()


def test_states_differ() -> None:
    """A table of states that all compile to nothing would prove nothing."""
    filled = [name for name, state in FULL.items() if state.rows]
    assert len(filled) >= len(STATES) - 5
