"""Which security groups the ports of this host use, and which sets of addresses
the rules of those name: a host holds only what its ports need.

Everything is counted, so that one port or rule of ten thousand costs the same as
one of ten.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Hashable, Iterable, Iterator
from typing import NamedTuple, TypeVar

from heddle.compiler.questions import (
    ObjectKey,
    Question,
    fits,
    number_of_group,
    number_of_set,
)
from heddle.compiler.roles import role_of
from heddle.intent.model import (
    AddressGroup,
    AddressGroupEntry,
    AnyResource,
    Direction,
    Kind,
    Port,
    SecurityGroup,
    SecurityGroupRule,
)

_Key = TypeVar("_Key", bound=Hashable)


class Side(NamedTuple):
    """Of a security group: what one row of ``policy_groups`` is about."""

    group_id: str
    direction: Direction
    ip_version: int


class Naming(NamedTuple):
    """Rules of this side name the set."""

    side: Side
    set: ObjectKey


class Use(NamedTuple):
    """Ports of the network use the group."""

    group_id: str
    network_id: str


class _Sets:
    """The sets that the rules of a side name, with the number of rules."""

    __slots__ = ("counts", "order")

    def __init__(self) -> None:
        self.counts: dict[ObjectKey, int] = {}
        self.order: list[ObjectKey] = []


def set_of(rule: SecurityGroupRule) -> ObjectKey | None:
    """The set of addresses that a rule names as its remote end."""
    if rule.remote_group_id is not None:
        return Kind.SECURITY_GROUP, rule.remote_group_id
    if rule.address_group_id is not None:
        return Kind.ADDRESS_GROUP, rule.address_group_id
    return None


def side_of(rule: SecurityGroupRule) -> Side:
    return Side(rule.security_group_id, rule.direction, rule.ip_version)


class Usage:
    """``sets_max`` is how many sets the rules of one side may name."""

    def __init__(self, host: str, sets_max: int) -> None:
        self._host = host
        self._sets_max = sets_max
        self._users: dict[str, dict[str, int]] = {}  # by group: network -> local ports
        self._sides: dict[Side, _Sets] = {}
        self._named: dict[str, dict[ObjectKey, int]] = {}  # by group: set -> sides
        self._namers: dict[ObjectKey, set[str]] = {}  # groups
        self._set_uses: dict[ObjectKey, int] = {}  # groups that are in use and name it
        self._numbers: dict[ObjectKey, int] = {}
        self._stateless: set[str] = set()

    # ---- answers ---------------------------------------------------------

    def group_number(self, group_id: str) -> int | None:
        """None when no port of this host uses it, or it is absent."""
        if group_id not in self._users:
            return None
        return self._numbers.get((Kind.SECURITY_GROUP, group_id))

    def set_number(self, key: ObjectKey) -> int | None:
        """None when no group in use names it, or it is absent."""
        return self._numbers.get(key) if key in self._set_uses else None

    def fits(self, side: Side, key: ObjectKey) -> bool:
        """Whether the set is among the first that the side may name, by kind and id."""
        return bisect_left(self._sides[side].order, key) < self._sets_max

    def any_stateless(self) -> bool:
        """Whether a port of this host uses a stateless group."""
        return any(group_id in self._users for group_id in self._stateless)

    def networks_ruled_by(self, resources: Iterable[AnyResource | None]) -> set[str]:
        """Networks of the local ports on whose rules these objects have a bearing.
        Ports are left out: as a member of a set, a port counts in its own network
        alone, so only flows that can reach that are concerned."""
        groups: set[str] = set()
        sets: set[ObjectKey] = set()
        for resource in resources:
            match resource:
                case SecurityGroup():
                    groups.add(resource.id)
                case SecurityGroupRule():
                    groups.add(resource.security_group_id)
                case AddressGroupEntry():
                    sets.add((Kind.ADDRESS_GROUP, resource.address_group_id))
        for key in sets:
            groups |= self._namers.get(key, set())
        return {network for group in groups for network in self._users.get(group, ())}

    # ---- changes ---------------------------------------------------------

    def replace(self, old: AnyResource | None, new: AnyResource | None) -> set[Question]:
        """Returns the questions whose answer changed, and maybe some more."""
        match new or old:
            case Port():
                return set(self._replace_uses(set(self._uses(old)), set(self._uses(new))))
            case SecurityGroupRule():
                return set(self._replace_namings(set(_namings(old)), set(_namings(new))))
            case SecurityGroup() | AddressGroup() as group:
                key = (group.kind, group.id)
                return set(self._replace_group(key, group if group is new else None))
            case _:
                return set()

    # In these two what is new comes first: a group whose only port changes, or a set
    # whose only rule does, is in use all the time.

    def _replace_uses(self, before: set[Use], after: set[Use]) -> Iterator[Question]:
        for use in after - before:
            yield from self._add_use(use)
        for use in before - after:
            yield from self._drop_use(use)

    def _replace_namings(self, before: set[Naming], after: set[Naming]) -> Iterator[Question]:
        for naming in after - before:
            yield from self._add_naming(naming)
        for naming in before - after:
            yield from self._drop_naming(naming)

    def _replace_group(
        self, key: ObjectKey, group: SecurityGroup | AddressGroup | None
    ) -> Iterator[Question]:
        number = group.number if group else None
        if self._numbers.pop(key, None) != number:
            yield number_of_set(key)
            if key[0] is Kind.SECURITY_GROUP:
                yield number_of_group(key[1])
        if number is not None:
            self._numbers[key] = number
        if key[0] is Kind.SECURITY_GROUP:
            self._stateless.discard(key[1])
        if isinstance(group, SecurityGroup) and not group.stateful:
            self._stateless.add(group.id)

    def _uses(self, resource: AnyResource | None) -> Iterator[Use]:
        is_here = isinstance(resource, Port) and role_of(resource, self._host) is not None
        if isinstance(resource, Port) and is_here and resource.port_security:
            for group_id in resource.security_group_ids:
                yield Use(group_id, resource.network_id)

    def _add_use(self, use: Use) -> Iterator[Question]:
        networks = self._users.setdefault(use.group_id, {})
        is_first = not networks
        networks[use.network_id] = networks.get(use.network_id, 0) + 1
        if is_first:
            yield number_of_group(use.group_id)
            for key in self._named.get(use.group_id, ()):
                yield from self._add_set_use(key)

    def _drop_use(self, use: Use) -> Iterator[Question]:
        networks = self._users[use.group_id]
        if _drop_one(networks, use.network_id) and not networks:
            del self._users[use.group_id]
            yield number_of_group(use.group_id)
            for key in self._named.get(use.group_id, ()):
                yield from self._drop_set_use(key)

    def _add_naming(self, naming: Naming) -> Iterator[Question]:
        side, key = naming
        sets = self._sides.setdefault(side, _Sets())
        sets.counts[key] = sets.counts.get(key, 0) + 1
        if sets.counts[key] > 1:
            return
        insort(sets.order, key)
        if len(sets.order) > self._sets_max:
            yield fits(*side, sets.order[self._sets_max])
        yield from self._add_namer(side.group_id, key)

    def _drop_naming(self, naming: Naming) -> Iterator[Question]:
        side, key = naming
        sets = self._sides[side]
        if not _drop_one(sets.counts, key):
            return
        del sets.order[bisect_left(sets.order, key)]
        if len(sets.order) >= self._sets_max:
            yield fits(*side, sets.order[self._sets_max - 1])
        if not sets.order:
            del self._sides[side]
        yield from self._drop_namer(side.group_id, key)

    def _add_namer(self, group_id: str, key: ObjectKey) -> Iterator[Question]:
        named = self._named.setdefault(group_id, {})
        named[key] = named.get(key, 0) + 1
        if named[key] == 1:
            self._namers.setdefault(key, set()).add(group_id)
            if group_id in self._users:
                yield from self._add_set_use(key)

    def _drop_namer(self, group_id: str, key: ObjectKey) -> Iterator[Question]:
        named = self._named[group_id]
        if not _drop_one(named, key):
            return
        if not named:
            del self._named[group_id]
        self._namers[key].discard(group_id)
        if not self._namers[key]:
            del self._namers[key]
        if group_id in self._users:
            yield from self._drop_set_use(key)

    def _add_set_use(self, key: ObjectKey) -> Iterator[Question]:
        self._set_uses[key] = self._set_uses.get(key, 0) + 1
        if self._set_uses[key] == 1:
            yield number_of_set(key)

    def _drop_set_use(self, key: ObjectKey) -> Iterator[Question]:
        if _drop_one(self._set_uses, key):
            yield number_of_set(key)


def _namings(resource: AnyResource | None) -> Iterator[Naming]:
    if isinstance(resource, SecurityGroupRule):
        key = set_of(resource)
        if key is not None:
            yield Naming(side_of(resource), key)


def _drop_one(counts: dict[_Key, int], key: _Key) -> bool:
    """Returns whether that was the last one."""
    counts[key] -= 1
    if counts[key]:
        return False
    del counts[key]
    return True
