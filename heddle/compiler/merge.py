"""Fragments of single objects put together to the state of a host."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import NamedTuple, TypeVar

from heddle.compiler.fragment import NOTHING, Footprint, Fragment, footprint
from heddle.compiler.questions import Question
from heddle.compiler.shared import Share, SharedRows
from heddle.compiler.state import HostDelta, HostState, Tunnel

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


class Difference(NamedTuple):
    """What of a fragment is not as it was: what the object gives alone, and its
    shares, of which it may gain and lose some."""

    own: bool
    gained: bool
    lost: bool


class Assembly:
    """A HostState, and which object gave which part of it. Fragments are put in
    one by one; ``commit`` then makes one delta of them, so that a key that moves
    from one object to another is neither lost nor removed in between."""

    def __init__(self) -> None:
        self.state = HostState()
        self._footprints: dict[Question, Footprint] = {}
        self._gone: list[Footprint] = []
        self._fresh = Fragment()
        self._shares: dict[Question, tuple[Share, ...]] = {}
        self._shared = SharedRows()

    def put(self, key: Question, fragment: Fragment) -> Difference:
        """Replace what the object gave so far."""
        return Difference(self._put_own(key, fragment), *self._put_shares(key, fragment))

    def _put_own(self, key: Question, fragment: Fragment) -> bool:
        before = self._footprints.get(key, NOTHING)
        after = footprint(fragment)
        if before == after and not self._differs(fragment):
            return False
        if after == NOTHING:
            self._footprints.pop(key, None)
        elif before != after:
            self._footprints[key] = after
        self._gone.append(before)
        fresh = self._fresh
        fresh.rows.update(fragment.rows)
        fresh.links.update(fragment.links)
        fresh.machines.update(fragment.machines)
        fresh.namespaces |= fragment.namespaces
        fresh.tunnel = fragment.tunnel or fresh.tunnel
        return True

    def _put_shares(self, key: Question, fragment: Fragment) -> tuple[bool, bool]:
        before = self._shares.get(key, ())
        after = tuple(fragment.shares)
        if before == after:
            return False, False
        gained, lost = set(after).difference(before), set(before).difference(after)
        self._shared.add(gained)
        self._shared.discard(lost)
        if after:
            self._shares[key] = after
        else:
            del self._shares[key]
        return bool(gained), bool(lost)

    def commit(self) -> HostDelta:
        """Bring the state up to date; return what that changed."""
        gone, fresh, state = self._gone, self._fresh, self.state
        self._gone, self._fresh = [], Fragment()
        rows = _replace(state.rows, (k for old in gone for k in old.rows), fresh.rows)
        shared = _set(state.rows, self._shared.take_changes())
        rows.update(shared)
        was, state.tunnel = state.tunnel, _tunnel(state.tunnel, gone, fresh)
        return HostDelta(
            tunnel=state.tunnel,
            tunnel_changed=state.tunnel != was,
            rows=rows,
            links=_replace(state.links, (k for old in gone for k in old.links), fresh.links),
            machines=_replace(
                state.machines, (k for old in gone for k in old.machines), fresh.machines
            ),
            namespaces=_replace_members(
                state.namespaces, {n for old in gone for n in old.namespaces}, fresh.namespaces
            ),
        )

    def _differs(self, fragment: Fragment) -> bool:
        """For a fragment with the keys that it had before."""
        state = self.state
        return (
            any(state.rows[k] != row for k, row in fragment.rows.items())
            or any(state.links[k] != link for k, link in fragment.links.items())
            or any(state.machines[k] != spec for k, spec in fragment.machines.items())
        )


def _replace(
    current: dict[_Key, _Value], gone: Iterable[_Key], fresh: Mapping[_Key, _Value]
) -> dict[_Key, _Value | None]:
    """Take ``gone`` out of ``current`` and put ``fresh`` in; return what changed."""
    delta: dict[_Key, _Value | None] = {}
    for key in gone:
        if key not in fresh:
            del current[key]
            delta[key] = None
    for key, value in fresh.items():
        if current.get(key) != value:
            current[key] = value
            delta[key] = value
    return delta


def _set(
    current: dict[_Key, _Value], values: Mapping[_Key, _Value | None]
) -> dict[_Key, _Value | None]:
    """Make ``current`` have these values, None: not have the key; return what changed."""
    delta = {key: value for key, value in values.items() if current.get(key) != value}
    for key, value in delta.items():
        if value is None:
            del current[key]
        else:
            current[key] = value
    return delta


def _tunnel(current: Tunnel | None, gone: list[Footprint], fresh: Fragment) -> Tunnel | None:
    if fresh.tunnel is not None:
        return fresh.tunnel
    return None if any(before.tunnel for before in gone) else current


def _replace_members(current: set[str], gone: set[str], fresh: set[str]) -> dict[str, bool]:
    delta = dict.fromkeys(gone - fresh, False) | dict.fromkeys(fresh - current, True)
    current -= gone
    current |= fresh
    return delta
