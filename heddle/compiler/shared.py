"""Rows that many objects make together. Each gives its shares; the row follows
from all shares that there are, and exists as long as there is one."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from typing import NamedTuple, Protocol

from heddle.compiler.state import (
    PolicyGroupRow,
    PolicyRemoteRow,
    RowKey,
    RowValue,
    SetRow,
)
from heddle.compiler.symbols import STATEFUL, STATELESS

# A part is a plain tuple whose first item says what it is, unless its table has
# only one kind of part.
Part = tuple[str | int, ...]

MEMBER: Part = ()
STATELESS_PART: Part = ("stateless",)


def rule_part(rule_id: str, number: int) -> Part:
    """Of ``policy_rules``: the rule with the smallest id gives its number."""
    return (rule_id, number)


def port_length(protocol: str, bits: int) -> Part:
    """Of ``policy_remotes``: a rule of this field of PolicyRemoteRow has a port
    prefix of this length."""
    return (protocol, bits)


def prefix_in_use(bits: int) -> Part:
    """Of ``policy_groups``."""
    return ("prefix", bits)


def set_in_use(number: int) -> Part:
    """Of ``policy_groups``."""
    return ("set", number)


def member_length(in_network: bool, ip_version: int, bits: int) -> Part:
    """Of ``sets``: there is a member with a prefix of this length."""
    return (int(in_network), ip_version, bits)


class Share(NamedTuple):
    """What one object adds to a row, given at most once by each object."""

    row: RowKey
    part: Part


class _Tally(Protocol):
    """The parts of one row. No method may walk all shares."""

    def add(self, part: Part) -> None: ...

    def discard(self, part: Part) -> bool:
        """Returns whether any part is left."""

    def value(self) -> RowValue: ...


class _Members:
    """A row without content."""

    __slots__ = ("_count",)

    def __init__(self) -> None:
        self._count = 0

    def add(self, part: Part) -> None:
        self._count += 1

    def discard(self, part: Part) -> bool:
        self._count -= 1
        return self._count > 0

    def value(self) -> RowValue:
        return 1


class _First:
    """The row of the first of some rules."""

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts: list[Part] = []

    def add(self, part: Part) -> None:
        insort(self._parts, part)

    def discard(self, part: Part) -> bool:
        del self._parts[bisect_left(self._parts, part)]
        return bool(self._parts)

    def value(self) -> RowValue:
        return int(self._parts[0][1])


class _Counted:
    """A row of what there is at least one of: a handful, whatever their number."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[Part, int] = {}

    def add(self, part: Part) -> None:
        self._counts[part] = self._counts.get(part, 0) + 1

    def discard(self, part: Part) -> bool:
        left = self._counts[part] - 1
        if left:
            self._counts[part] = left
        else:
            del self._counts[part]
        return bool(self._counts)

    def _numbers(self, *start: str | int) -> tuple[int, ...]:
        """Last items of the parts that start so, ascending."""
        found = (part[-1] for part in self._counts if part[:-1] == start)
        return tuple(sorted(int(number) for number in found))


class _Remote(_Counted):
    __slots__ = ()

    def value(self) -> PolicyRemoteRow:
        fields = PolicyRemoteRow._fields
        return PolicyRemoteRow(*(sum(1 << bits for bits in self._numbers(f)) for f in fields))


class _Group(_Counted):
    __slots__ = ()

    def value(self) -> PolicyGroupRow:
        prefixes, sets = self._numbers("prefix"), self._numbers("set")
        return PolicyGroupRow(
            flags=STATELESS if STATELESS_PART in self._counts else STATEFUL,
            prefix_count=len(prefixes),
            set_count=len(sets),
            prefix_bits=bytes(prefixes),
            sets=sets,
        )


class _Set(_Counted):
    __slots__ = ()

    def value(self) -> SetRow:
        in_network = next(iter(self._counts))[0]  # the same in all
        lengths4 = self._numbers(in_network, 4)
        lengths6 = self._numbers(in_network, 6)
        return SetRow(
            in_network=int(in_network),
            prefix_count4=len(lengths4),
            prefix_count6=len(lengths6),
            prefix_bits4=bytes(lengths4),
            prefix_bits6=bytes(lengths6),
        )


_TALLIES: dict[str, type[_Tally]] = {
    "set_members": _Members,
    "policy_rules": _First,
    "policy_remotes": _Remote,
    "policy_groups": _Group,
    "sets": _Set,
}


class SharedRows:
    """All shares. ``take_changes`` then gives the rows."""

    def __init__(self) -> None:
        self._tallies: dict[RowKey, _Tally] = {}
        self._stale: dict[RowKey, None] = {}

    def add(self, shares: Iterable[Share]) -> None:
        for row, part in shares:
            tally = self._tallies.get(row)
            if tally is None:
                tally = self._tallies[row] = _TALLIES[row.table]()
            tally.add(part)
            self._stale[row] = None

    def discard(self, shares: Iterable[Share]) -> None:
        for row, part in shares:
            if not self._tallies[row].discard(part):
                del self._tallies[row]
            self._stale[row] = None

    def take_changes(self) -> dict[RowKey, RowValue | None]:
        """Rows whose shares changed since the last call, None for those without
        any. Most are as they were."""
        stale, self._stale = self._stale, {}
        tallies = self._tallies
        return {row: tallies[row].value() if row in tallies else None for row in stale}
