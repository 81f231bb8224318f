"""The SQLite file: how it is opened, its tables, and what its failures mean.

Kept free of the intent model, so that a command which only reads answers
early.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from heddle.errors import StoreError

SCHEMA_VERSION = 1
BUSY_TIMEOUT_S = 10.0

# `changes` is the log that watchers follow; it holds whole revisions, each
# later than `compacted`. Its value is NULL for a deletion.
_SCHEMA = """
BEGIN IMMEDIATE;
CREATE TABLE objects (
    kind TEXT NOT NULL, id TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (kind, id)
) WITHOUT ROWID;
CREATE TABLE changes (
    sequence INTEGER PRIMARY KEY, revision INTEGER NOT NULL,
    kind TEXT NOT NULL, id TEXT NOT NULL, value TEXT
);
CREATE INDEX changes_by_revision ON changes (revision);
CREATE TABLE statuses (
    kind TEXT NOT NULL, id TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (kind, id)
) WITHOUT ROWID;
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO counters VALUES ('revision', 0), ('compacted', 0);
"""

# What to do, by primary result code (sqlite.org/rescode.html).
_REMEDIES = {
    sqlite3.SQLITE_FULL: "the disk is full; free space and try again",
    sqlite3.SQLITE_READONLY: "it is read-only; run as root, or remount its file system writable",
    sqlite3.SQLITE_PERM: "permission denied; run as root",
    sqlite3.SQLITE_AUTH: "permission denied; run as root",
    sqlite3.SQLITE_CANTOPEN: "it can't be opened; run as root, and check that its folder exists, "
    "is writable and has free space",
    sqlite3.SQLITE_CORRUPT: "the file is damaged; restore it from a copy, or move it away and "
    "apply the topology files again",
    sqlite3.SQLITE_NOTADB: "this is no heddle store; move the file away and apply the topology "
    "files again",
    sqlite3.SQLITE_BUSY: f"another process kept it locked for {BUSY_TIMEOUT_S:.0f} s; try again",
    sqlite3.SQLITE_IOERR: "the disk failed; look at the kernel's log (dmesg), and for free space",
}

_FILE_REMEDIES = {
    errno.ENOSPC: _REMEDIES[sqlite3.SQLITE_FULL],
    errno.EROFS: _REMEDIES[sqlite3.SQLITE_READONLY],
    errno.EACCES: _REMEDIES[sqlite3.SQLITE_PERM],
}


@contextmanager
def medium(path: Path) -> Iterator[None]:
    """Turn what SQLite and the file system raise into a StoreError."""
    try:
        yield
    except sqlite3.Error as error:
        # Extended codes carry the primary code in their low byte. Errors of
        # the Python module itself have none.
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        remedy = _REMEDIES.get(code, "see the cause, and try again")
        raise StoreError(f"store {path}: {remedy} ({error})") from error
    except OSError as error:
        remedy = _FILE_REMEDIES.get(error.errno or 0, f"check its folder, {path.parent}")
        raise StoreError(f"store {path}: {remedy} ({error.strerror})") from error


def open_database(path: Path, *, durable: bool = True) -> sqlite3.Connection:
    """Open the store for writing; make the file and its tables when missing.

    With ``durable`` a commit returns once it is on the medium, without it once
    it is safe from the death of the process.
    """
    with _alone_in(path.parent):
        if not path.exists():
            # The store is root's alone. SQLite gives the files beside it
            # (-wal, -shm) the same mode.
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        connection = _connect(f"{path.absolute().as_uri()}?mode=rw")
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            if _version(connection) == 0:
                connection.executescript(
                    f"{_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
                )
            _check_version(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def open_for_reading(path: Path) -> sqlite3.Connection | None:
    """Open an existing store; None when nothing was ever stored."""
    if not path.exists():
        return None
    connection = _connect(f"{path.absolute().as_uri()}?mode=ro")
    if not _is_readable(connection):
        # A writer died, and its log has to be recovered: that takes writing.
        connection.close()
        connection = _connect(f"{path.absolute().as_uri()}?mode=rw")
    try:
        if _version(connection) == 0:  # made, but its first transaction never finished
            connection.close()
            return None
        _check_version(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _is_readable(connection: sqlite3.Connection) -> bool:
    try:
        _version(connection)
    except sqlite3.OperationalError as error:
        return error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_READONLY
    return True


def _connect(uri: str) -> sqlite3.Connection:
    # Every caller holds a lock or a connection of its own, so threads may differ.
    return sqlite3.connect(
        uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
    )


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Let one process at a time set up a store in a folder, made when missing.

    SQLite does not wait for a lock when it changes the journal mode.
    """
    if not folder.exists():
        folder.mkdir(parents=True, exist_ok=True)
        # QEMU reads images below it: others may pass through, but not list it.
        folder.chmod(0o711)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _version(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def _check_version(connection: sqlite3.Connection, path: Path) -> None:
    version = _version(connection)
    if version != SCHEMA_VERSION:
        raise StoreError(
            f"store {path}: has format {version}, this heddle knows {SCHEMA_VERSION}; "
            "use the heddle that wrote it, or a newer one"
        )
