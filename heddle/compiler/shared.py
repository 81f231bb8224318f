"""Rows that many objects make together. Each gives its shares; the row follows
from all shares that there are, and exists as long as there is one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from heddle.compiler.state import RowKey, RowValue
from heddle.compiler.summaries import summary_of
from heddle.compiler.tallies import TALLIES, Part, Tally


class Share(NamedTuple):
    """What one object adds to a row, given at most once by each object."""

    row: RowKey
    part: Part


class SharedRows:
    """All shares. ``take_changes`` then gives the rows."""

    def __init__(self) -> None:
        self._tallies: dict[RowKey, Tally] = {}
        self._stale: dict[RowKey, None] = {}

    def add(self, shares: Iterable[Share]) -> None:
        for row, part in shares:
            self._add(row, part)

    def discard(self, shares: Iterable[Share]) -> None:
        for row, part in shares:
            self._discard(row, part)

    def take_changes(self) -> dict[RowKey, RowValue | None]:
        """Rows whose shares changed since the last call, None for those without
        any. Some are as they were."""
        stale, self._stale = self._stale, {}
        found = ((row, self._tallies.get(row)) for row in stale)
        return {row: tally.value() if tally else None for row, tally in found}

    def _add(self, row: RowKey, part: Part) -> None:
        self._stale[row] = None
        tally = self._tallies.get(row)
        if tally is None:
            tally = self._tallies[row] = TALLIES[row.table]()
            summary = summary_of(row)
            if summary is not None:
                self._add(*summary)
        tally.add(part)

    def _discard(self, row: RowKey, part: Part) -> None:
        self._stale[row] = None
        if self._tallies[row].discard(part):
            return
        del self._tallies[row]
        summary = summary_of(row)
        if summary is not None:
            self._discard(*summary)
