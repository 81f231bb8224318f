"""What a row is made of that many objects, or many other rows, make together.

A part is a plain tuple. A row exists as long as it has a part; no tally walks
more than the parts that differ from each other and matter.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import Protocol

from heddle.compiler.state import PolicyGroupRow, PolicyRemoteRow, RowValue, SetRow
from heddle.compiler.symbols import STATEFUL, STATELESS

Part = tuple[str | int, ...]

MEMBER: Part = ()
STATELESS_PART: Part = ("stateless",)


def rule_part(rule_id: str, number: int) -> Part:
    """Of ``policy_rules``: the rule with the smallest id gives its number."""
    return (rule_id, number)


def port_length(field: str, bits: int) -> Part:
    """Of ``policy_remotes``: there is a rule with a port prefix of this length, for
    a protocol of this field of PolicyRemoteRow."""
    return (field, bits)


def prefix_in_use(bits: int) -> Part:
    """Of ``policy_groups``: there is a remote end with a prefix of this length."""
    return ("prefix", bits)


def set_in_use(number: int) -> Part:
    """Of ``policy_groups``: there is a remote end that is this set."""
    return ("set", number)


def member_length(in_network: bool, ip_version: int, bits: int) -> Part:
    """Of ``sets``: there is a member with a prefix of this length."""
    return (int(in_network), ip_version, bits)


class Tally(Protocol):
    """The parts of one row."""

    def add(self, part: Part) -> None: ...

    def discard(self, part: Part) -> bool:
        """Returns whether any part is left."""

    def value(self) -> RowValue:
        """Of the row, given at least one part."""


class MemberTally:
    """A row that says no more than that it is there."""

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


class RuleTally:
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
    """A row that says of what there is at least one."""

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
        """Last items of the parts that begin so, ascending."""
        found = (part[-1] for part in self._counts if part[:-1] == start)
        return tuple(sorted(int(number) for number in found))


class RemoteTally(_Counted):
    __slots__ = ()

    def value(self) -> RowValue:
        fields = PolicyRemoteRow._fields
        return PolicyRemoteRow(*(sum(1 << bits for bits in self._numbers(f)) for f in fields))


class GroupTally(_Counted):
    __slots__ = ()

    def value(self) -> RowValue:
        prefixes, sets = self._numbers("prefix"), self._numbers("set")
        return PolicyGroupRow(
            flags=STATELESS if STATELESS_PART in self._counts else STATEFUL,
            prefix_count=len(prefixes),
            set_count=len(sets),
            prefix_bits=bytes(prefixes),
            sets=sets,
        )


class SetTally(_Counted):
    __slots__ = ()

    def value(self) -> RowValue:
        in_network = next(iter(self._counts))[0]  # the same in all
        lengths4, lengths6 = self._numbers(in_network, 4), self._numbers(in_network, 6)
        return SetRow(
            in_network=int(in_network),
            prefix_count4=len(lengths4),
            prefix_count6=len(lengths6),
            prefix_bits4=bytes(lengths4),
            prefix_bits6=bytes(lengths6),
        )


TALLIES: dict[str, type[Tally]] = {
    "policy_rules": RuleTally,
    "policy_remotes": RemoteTally,
    "policy_groups": GroupTally,
    "set_members": MemberTally,
    "sets": SetTally,
    "open_networks": MemberTally,
}
