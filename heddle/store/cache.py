"""What an agent last saw of its store, in a file of its own: with the store out
of reach an agent can start from it, and commands can read it.

It is a SQLite store as database.py lays it out, and is lost without harm.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from heddle.intent.model import AnyResource, Kind
from heddle.store.database import medium, open_database, open_for_reading
from heddle.store.interface import Change, Snapshot
from heddle.store.stamps import parse

_PUT = "INSERT OR REPLACE INTO objects VALUES (?, ?, ?)"
_DELETE = "DELETE FROM objects WHERE kind = ? AND id = ?"
_REVISION = "UPDATE counters SET value = ? WHERE name = 'revision'"


class IntentCache:
    """StoreError when the file can't be read or written."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def path(self) -> Path:
        return self._path

    def revision(self) -> int:
        """Of what was seen last; 0 when that was nothing."""
        with medium(self._path):
            connection = open_for_reading(self._path)
            if connection is None:
                return 0
            with closing(connection):
                return _revision_in(connection)

    def load(self) -> Snapshot | None:
        """What was seen last; None when that was nothing."""
        with medium(self._path):
            connection = open_for_reading(self._path)
            if connection is None:
                return None
            with closing(connection):
                rows = connection.execute("SELECT kind, value FROM objects").fetchall()
                revision = _revision_in(connection)
        if not revision:
            return None
        objects: dict[Kind, dict[str, AnyResource]] = {kind: {} for kind in Kind}
        for kind, value in rows:
            resource = parse(kind, value, f"cache {self._path}")
            objects[resource.kind][resource.id] = resource
        return Snapshot(revision, objects)

    def replace(self, snapshot: Snapshot) -> None:
        """Keep this, and nothing of before."""
        rows = (
            (kind.value, name, value.model_dump_json())
            for kind, objects in snapshot.objects.items()
            for name, value in objects.items()
        )
        with medium(self._path), closing(open_database(self._path, durable=False)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("DELETE FROM objects")
            connection.executemany(_PUT, rows)
            connection.execute(_REVISION, (snapshot.revision,))
            connection.execute("COMMIT")

    def update(self, revision: int, changes: Iterable[Change]) -> None:
        """Keep what has changed."""
        put, gone = [], []
        for change in changes:
            if change.value is None:
                gone.append((change.kind.value, change.id))
            else:
                put.append((change.kind.value, change.id, change.value.model_dump_json()))
        with medium(self._path), closing(open_database(self._path, durable=False)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_PUT, put)
            connection.executemany(_DELETE, gone)
            connection.execute(_REVISION, (revision,))
            connection.execute("COMMIT")


def _revision_in(connection: sqlite3.Connection) -> int:
    found: int = connection.execute(
        "SELECT value FROM counters WHERE name = 'revision'"
    ).fetchone()[0]
    return found
