"""Reads a store without the intent model, for commands that must answer early.

Objects come as plain dicts, as JSON holds them, with their ``kind`` in front.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from heddle.errors import StoreError
from heddle.store.database import medium, open_for_reading


class Life(NamedTuple):
    """Whether a host is up, and since when."""

    up: bool
    since: str


class Reader(Protocol):
    """What read commands need of a store. StoreError when reading fails."""

    def objects(
        self, kind: str | None = None, *, without: Sequence[str] = ()
    ) -> list[dict[str, Any]]:
        """All objects, or those of one kind, ordered by kind and name;
        ``without`` names kinds to leave out."""
        ...

    def statuses(self) -> dict[tuple[str, str], dict[str, Any]]:
        """All recorded facts by (kind, id)."""
        ...

    def revision(self) -> int:
        """The revision of the last change of intent; 0 before the first."""
        ...

    def lives(self) -> dict[str, Life]:
        """Which hosts are up, by name; a host alone says nothing of itself."""
        ...

    def close(self) -> None: ...


class SqliteReader:
    """Reads the file of one host; a file that is not there is an empty store."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def objects(
        self, kind: str | None = None, *, without: Sequence[str] = ()
    ) -> list[dict[str, Any]]:
        return read_objects(self._path, kind, without=without)

    def statuses(self) -> dict[tuple[str, str], dict[str, Any]]:
        return read_statuses(self._path)

    def revision(self) -> int:
        return read_revision(self._path)

    def lives(self) -> dict[str, Life]:
        return {}

    def close(self) -> None:
        """Nothing is kept open."""


def plain_object(kind: str, value: str | bytes, store: str) -> dict[str, Any]:
    """An object from its JSON; ``store`` names the store in the StoreError."""
    try:
        found = json.loads(value)
    except ValueError as error:
        raise unreadable(kind, store) from error
    if not isinstance(found, dict) or not {"id", "name"} <= found.keys():
        raise unreadable(kind, store)
    return {"kind": kind, **found}


def unreadable(kind: str, store: str) -> StoreError:
    return StoreError(
        f"{store}: holds a {kind} that can't be read; it was written by another version of "
        "heddle or damaged: restore it from a copy, or move it away and apply the topology "
        "files again"
    )


def read_objects(
    path: Path, kind: str | None = None, *, without: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """All objects, or those of one kind, ordered by kind and name; ``without``
    names kinds to leave out.

    Nothing stored yet is an empty list; StoreError when reading fails.
    """
    left_out = ",".join("?" * len(without))
    query = "SELECT kind, value FROM objects WHERE kind = coalesce(?, kind)"
    query += f" AND kind NOT IN ({left_out})"
    rows = _read(path, query, (kind, *without))
    objects = [plain_object(row_kind, value, str(path)) for row_kind, value in rows]
    return sorted(objects, key=lambda item: (item["kind"], item["name"]))


def read_statuses(path: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """All recorded facts by (kind, id)."""
    rows = _read(path, "SELECT kind, id, value FROM statuses", ())
    return {(kind, object_id): json.loads(value) for kind, object_id, value in rows}


def read_revision(path: Path) -> int:
    """The revision of the last change of intent; 0 before the first."""
    rows = _read(path, "SELECT value FROM counters WHERE name = 'revision'", ())
    return int(rows[0][0]) if rows else 0


def _read(path: Path, query: str, arguments: tuple[str | None, ...]) -> list[tuple[Any, ...]]:
    with medium(path):
        connection = open_for_reading(path)
        if connection is None:
            return []
        with closing(connection):
            return connection.execute(query, arguments).fetchall()
