"""What the applier did, and what it could not do."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeVar

Verb = Literal["+", "~", "-"]
T = TypeVar("T")

# More things of one kind than this are told as one action.
_TOLD_ONE_BY_ONE = 20


class Action(NamedTuple):
    """Something added, changed or removed. In the report of an audit: what
    was missing, altered, or not wanted."""

    verb: Verb
    what: str


@dataclass(slots=True)
class Report:
    """What one call did. ``failures`` holds what it tried in vain, by device
    where a device is concerned, else by what it is."""

    changes: list[Action] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.changes or self.failures)

    def add(self, verb: Verb, what: str) -> None:
        self.changes.append(Action(verb, what))

    def continue_with(self, later: Report) -> None:
        """What a later call did; what it tried in vain is all that there is."""
        self.changes += later.changes
        self.failures = later.failures

    def add_all(
        self, verb: Verb, kind: str, items: Collection[T], name_of: Callable[[T], str] = str
    ) -> None:
        """Things of one kind: by name, or only their number when they are many."""
        if len(items) > _TOLD_ONE_BY_ONE:
            self.add(verb, f"{kind}: {len(items)}")
        else:
            self.changes += [Action(verb, f"{kind} {name_of(item)}") for item in items]
