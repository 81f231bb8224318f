"""The store of one host: a SQLite file that several processes share.

The command line writes intent while the agent watches. Write-ahead logging
lets both go on at once, and ``synchronous = FULL`` puts each commit on the
medium before it is acknowledged.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
import threading
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from heddle.errors import ConflictError
from heddle.intent.model import AnyResource, Kind
from heddle.store.database import medium, open_database
from heddle.store.interface import (
    Batch,
    Change,
    CompactedError,
    Followed,
    Snapshot,
    Transaction,
)
from heddle.store.stamps import check_as_read, next_value, now, parse

log = logging.getLogger(__name__)

WATCH_INTERVAL_S = 0.02
CHANGES_KEPT = 50_000

_ALL_OBJECTS = "SELECT kind, value FROM objects"
_OBJECTS_OF_KIND = "SELECT kind, value FROM objects WHERE kind = ?"
_PUT_OBJECT = "INSERT OR REPLACE INTO objects VALUES (?, ?, ?)"
_DELETE_OBJECT = "DELETE FROM objects WHERE kind = ? AND id = ?"
_GET_OBJECT = "SELECT value FROM objects WHERE kind = ? AND id = ?"
_LOG = "INSERT INTO changes (revision, kind, id, value) VALUES (?, ?, ?, ?)"

_LogEntry = tuple[str, str, str | None]  # kind, id, JSON


class SqliteStore:
    """Implements heddle.store.interface.Store. Usable from any thread."""

    def __init__(
        self,
        path: Path,
        *,
        watch_interval: float = WATCH_INTERVAL_S,
        changes_kept: int = CHANGES_KEPT,
    ) -> None:
        """Open the store at ``path``, making it when missing.

        ``watch_interval`` (seconds) is how often a watch looks for commits;
        the newest ``changes_kept`` changes are kept for watchers to resume.
        """
        self._path = path
        self._watch_interval = watch_interval
        self._changes_kept = changes_kept
        self._lock = threading.Lock()
        with medium(path):
            self._connection = open_database(path)
            # Facts can be found out again: losing the last ones with the power
            # is no harm, and not waiting for the disk keeps the agent quick.
            self._facts = open_database(path, durable=False)

    def snapshot(self, *kinds: Kind) -> Snapshot:
        with self._transaction(self._connection, "DEFERRED"):
            revision = _counter(self._connection, "revision")
            rows = self._connection.execute(_ALL_OBJECTS).fetchall() if not kinds else []
            for kind in kinds:
                rows += self._connection.execute(_OBJECTS_OF_KIND, (kind.value,)).fetchall()
        objects: dict[Kind, dict[str, AnyResource]] = {kind: {} for kind in Kind}
        for name, value in rows:
            resource = self._parse(name, value)
            objects[resource.kind][resource.id] = resource
        return Snapshot(revision, objects)

    def commit(self, transaction: Transaction) -> int:
        with self._transaction(self._connection, "IMMEDIATE"):
            revision = _counter(self._connection, "revision")
            self._check_expected(transaction, revision)
            log = [*self._put_all(transaction), *self._delete_all(transaction)]
            if not log:
                return revision
            revision += 1
            _set_counter(self._connection, "revision", revision)
            self._connection.executemany(_LOG, ((revision, *entry) for entry in log))
            self._compact(revision)
        return revision

    async def watch(self, after_revision: int) -> AsyncGenerator[list[Change], None]:
        with medium(self._path):
            connection = open_database(self._path)
        with closing(connection):
            seen_version = None
            while True:
                # data_version changes with each commit of another connection,
                # and costs next to nothing to ask for.
                version = self._data_version(connection)
                if version == seen_version:
                    await asyncio.sleep(self._watch_interval)
                    continue
                seen_version = version
                while changes := self._changes_after(connection, after_revision):
                    after_revision = changes[0].revision
                    yield changes

    async def follow(self, host: str) -> AsyncGenerator[Followed, None]:
        """Everything: all that is here is of the one host that has this store."""
        while True:
            snapshot = self.snapshot()
            yield snapshot
            try:
                async for changes in self.watch(snapshot.revision):
                    yield Batch(changes[-1].revision, changes)
            except CompactedError:
                log.info("fell behind the store's log of changes: reading everything")

    def catch_up(self, host: str) -> None:
        """Each revision is told in any case."""

    def beat(self, host: str, note: Mapping[str, Any]) -> None:
        """Nobody else would know."""

    def put_status(self, statuses: Mapping[tuple[str, str], Mapping[str, Any] | None]) -> None:
        put = [(*key, json.dumps(value)) for key, value in statuses.items() if value is not None]
        forget = [key for key, value in statuses.items() if value is None]
        with self._transaction(self._facts, "IMMEDIATE"):
            self._facts.executemany("INSERT OR REPLACE INTO statuses VALUES (?, ?, ?)", put)
            self._facts.executemany("DELETE FROM statuses WHERE kind = ? AND id = ?", forget)

    def statuses(self, host: str | None = None) -> dict[tuple[str, str], dict[str, Any]]:
        """Facts by (kind, id); all are of the one host that has this store."""
        with self._transaction(self._facts, "DEFERRED"):
            rows = self._facts.execute("SELECT kind, id, value FROM statuses").fetchall()
        return {(kind, object_id): json.loads(value) for kind, object_id, value in rows}

    def close(self) -> None:
        with self._lock, medium(self._path):
            self._facts.close()
            self._connection.close()

    @contextmanager
    def _transaction(self, connection: sqlite3.Connection, mode: str) -> Iterator[None]:
        """All or nothing, also when the body raises or the disk is full."""
        with self._lock, medium(self._path):
            connection.execute(f"BEGIN {mode}")
            try:
                yield
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    def _check_expected(self, transaction: Transaction, revision: int) -> None:
        expected = transaction.expected_revision
        if expected is not None and expected != revision:
            raise ConflictError(
                f"store {self._path}: someone else changed it meanwhile (revision {revision}, "
                f"expected {expected}); try again"
            )

    def _put_all(self, transaction: Transaction) -> Iterator[_LogEntry]:
        at = now()
        for resource in transaction.put:
            key = (resource.kind.value, resource.id)
            row = self._connection.execute(_GET_OBJECT, key).fetchone()
            old = self._parse(key[0], row[0]) if row else None
            if transaction.as_read:
                check_as_read(resource, old)
            value = next_value(resource, old, row[0] if row else "", at)
            if value is not None:
                self._connection.execute(_PUT_OBJECT, (*key, value))
                yield (*key, value)

    def _delete_all(self, transaction: Transaction) -> Iterator[_LogEntry]:
        for kind, object_id in transaction.delete:
            key = (kind.value, object_id)
            if self._connection.execute(_DELETE_OBJECT, key).rowcount:
                yield (*key, None)

    def _compact(self, revision: int) -> None:
        """Forget the oldest whole revisions beyond ``changes_kept`` changes."""
        row = self._connection.execute(
            "SELECT revision FROM changes WHERE sequence <= "
            "(SELECT max(sequence) FROM changes) - ? ORDER BY sequence DESC LIMIT 1",
            (self._changes_kept,),
        ).fetchone()
        if row is None:
            return
        floor = min(row[0], revision - 1)
        self._connection.execute("DELETE FROM changes WHERE revision <= ?", (floor,))
        _set_counter(self._connection, "compacted", floor)

    def _data_version(self, connection: sqlite3.Connection) -> int:
        with medium(self._path):
            version: int = connection.execute("PRAGMA data_version").fetchone()[0]
        return version

    def _changes_after(self, connection: sqlite3.Connection, revision: int) -> list[Change]:
        """The changes of the first revision after the given one."""
        with medium(self._path):
            rows = connection.execute(
                "SELECT revision, kind, id, value FROM changes WHERE revision = "
                "(SELECT min(revision) FROM changes WHERE revision > ?) ORDER BY sequence",
                (revision,),
            ).fetchall()
            # Read after the rows: compaction in between can only raise it.
            compacted = _counter(connection, "compacted")
        if compacted > revision:
            raise CompactedError(
                f"store {self._path}: changes up to revision {compacted} are no longer kept, "
                f"revision {revision} was asked for; take a new snapshot"
            )
        return [self._change(*row) for row in rows]

    def _change(self, revision: int, kind: str, object_id: str, value: str | None) -> Change:
        resource = None if value is None else self._parse(kind, value)
        return Change(revision, Kind(kind), object_id, resource)

    def _parse(self, kind: str, value: str) -> AnyResource:
        return parse(kind, value, f"store {self._path}")


def _counter(connection: sqlite3.Connection, name: str) -> int:
    query = "SELECT value FROM counters WHERE name = ?"
    value: int = connection.execute(query, (name,)).fetchone()[0]
    return value


def _set_counter(connection: sqlite3.Connection, name: str, value: int) -> None:
    connection.execute("UPDATE counters SET value = ? WHERE name = ?", (value, name))
