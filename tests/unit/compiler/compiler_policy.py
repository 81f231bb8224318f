"""What rows of policy mean for flows, worked out from the rows of a whole host."""

from __future__ import annotations

from heddle.compiler.state import (
    HostState,
    PolicyGroupKey,
    PolicyGroupRow,
    PolicyRemoteKey,
    PolicyRuleKey,
    PortRow,
    RouterInterfaceKey,
    RowKey,
    RowValue,
    SetMemberKey,
)


def must_touch(before: HostState, after: HostState) -> set[int]:
    """VNIs whose flows may have lost what allowed them, and, while any group is
    stateless, those whose flows may now have a connection."""
    lost = {key for key, value in before.rows.items() if _has_lost(key, value, after)}
    vnis = _joined(before, _ruled_by(before, lost))
    if any(isinstance(r, PolicyGroupRow) and r.flags.names for r in after.rows.values()):
        gained = {key for key, value in after.rows.items() if before.rows.get(key) != value}
        vnis |= _joined(after, _ruled_by(after, gained))
    return vnis


def _has_lost(key: RowKey, value: RowValue, after: HostState) -> bool:
    """A row of rules allows the same whichever of them it names."""
    if key.table == "policy_rules":
        return key not in after.rows
    return after.rows.get(key) != value


def _ruled_by(state: HostState, keys: set[RowKey]) -> set[int]:
    """VNIs of the ports whose groups stand in these rows."""
    groups = _flagged(state, keys)
    groups |= {key.key.group for key in keys if isinstance(key.key, PolicyRuleKey)}
    vnis = _users(state, groups)
    for key in keys:
        if isinstance(key.key, SetMemberKey):
            users = _users(state, _namers(state, key.key.set))
            vnis |= users & _joined(state, {key.key.network}) if key.key.network else users
    return vnis


def _users(state: HostState, groups: set[int]) -> set[int]:
    """VNIs of the ports that have one of these groups."""
    return {
        row.network
        for row in state.rows.values()
        if isinstance(row, PortRow) and groups.intersection(row.groups)
    }


def _namers(state: HostState, number: int) -> set[int]:
    """Groups whose rules name the set."""
    keys = (key.key for key in state.rows)
    return {key.group for key in keys if isinstance(key, PolicyRemoteKey) and key.set == number}


def _flagged(state: HostState, keys: set[RowKey]) -> set[int]:
    """Groups that are stateless."""
    rows = ((key.key, state.rows[key]) for key in keys)
    return {
        key.group
        for key, row in rows
        if isinstance(key, PolicyGroupKey) and isinstance(row, PolicyGroupRow) and row.flags.names
    }


def _joined(state: HostState, vnis: set[int]) -> set[int]:
    """With all that routers join to them."""
    routers: dict[int, set[int]] = {}
    for key in state.rows:
        if isinstance(key.key, RouterInterfaceKey):
            routers.setdefault(key.key.router, set()).add(key.key.network)
    found = set(vnis)
    waiting = list(vnis)
    while waiting:
        vni = waiting.pop()
        for joined in routers.values():
            if vni in joined:
                waiting += joined - found
                found |= joined
    return found
