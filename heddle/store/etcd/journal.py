"""Commits that are larger than a transaction of etcd may be.

Their steps are written to a journal first, where nobody looks. One transaction
then decides: it sets ``PENDING`` if intent is still what the commit was made
for. From there on everybody who wants to read or write carries the rest out,
step by step; each step is a transaction that moves ``PENDING`` on, so that it
happens once. No other commit can come in between, and a writer may die at any
moment: before the decision nothing has happened, after it all will.
"""

from __future__ import annotations

import json
import time
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress

from heddle.errors import StoreError
from heddle.store.etcd.client import EtcdClient, OutOfSpaceError, UnsureError
from heddle.store.etcd.layout import (
    HEAD,
    JOURNALS,
    PENDING,
    PROGRESS,
    journal_key,
    journal_prefix,
)
from heddle.store.etcd.messages import (
    KeyValue,
    TxnAnswer,
    delete,
    end_of,
    has_value,
    is_absent,
    is_of,
    is_present,
    put,
    read,
)

# etcd takes 128 operations and 1.5 MiB at once, unless told otherwise.
STEPS_MAX = 120
BYTES_MAX = 1_000_000
_ABANDONED_SECONDS = 3600.0

Writes = Mapping[bytes, bytes | None]  # key -> value, None: delete


def write_large(client: EtcdClient, commit: str, writes: Writes, head: int) -> bool:
    """Decide on a commit and carry it out; False, with nothing done, when
    intent has changed since revision ``head``."""
    _sweep(client)
    try:
        count = _write_journal(client, commit, writes)
    except StoreError:
        with suppress(StoreError):  # if not even that goes, a later commit sweeps it
            _forget(client, commit)
        raise
    begins = [put(PENDING, _state(commit, count)), put(PROGRESS, b"0")]
    conditions = [is_absent(PENDING), is_of(HEAD, head), is_present(journal_key(commit, 0))]
    try:
        decided = client.transaction(conditions, begins).succeeded
    except UnsureError as error:
        decided = _is_decided(client, commit, head)
        if not decided and isinstance(error, OutOfSpaceError):
            raise
    if not decided:
        _forget(client, commit)
        return False
    carry_out(client)
    return True


def _write_journal(client: EtcdClient, commit: str, writes: Writes) -> int:
    """Returns of how many steps it is."""
    count = 0
    for part in _parts(writes):
        client.overwrite([put(journal_key(commit, count), _packed(part))])
        count += 1
    return count


def _forget(client: EtcdClient, commit: str) -> None:
    prefix = journal_prefix(commit)
    client.overwrite([delete(prefix, end_of(prefix))])


def carry_out(client: EtcdClient) -> None:
    """Finish the large commit that is under way, if there is one."""
    while True:
        pending, progress = client.reads([read(PENDING), read(PROGRESS)]).ranges
        if not pending.items:
            return
        try:
            _step(client, pending.items[0], progress.items[0])
        except OutOfSpaceError:
            raise
        except UnsureError:
            continue  # another look tells what became of it


def _step(client: EtcdClient, pending: KeyValue, progress: KeyValue) -> TxnAnswer:
    state = json.loads(pending.value)
    commit, number = state["commit"], int(progress.value)
    here = [has_value(PENDING, pending.value), has_value(PROGRESS, progress.value)]
    if number == state["of"]:
        prefix = journal_prefix(commit)
        gone = [delete(PENDING), delete(PROGRESS), delete(prefix, end_of(prefix))]
        return client.transaction(here, [put(HEAD, commit.encode()), *gone])
    found = client.range(journal_key(commit, number), revision=progress.mod_revision).items
    if not found:
        raise StoreError(
            f"{client.name}: the journal of commit {commit} is gone; restore etcd from a snapshot"
        )
    steps = [
        delete(key) if value is None else put(key, value) for key, value in _unpacked(found[0])
    ]
    return client.transaction(here, [*steps, put(PROGRESS, str(number + 1).encode())])


def progress_of(client: EtcdClient) -> bytes:
    """Something that is another whenever a step has been made, and empty when no
    large commit is under way."""
    pending, progress = client.reads([read(PENDING), read(PROGRESS)]).ranges
    return b" ".join(item.value for item in (*pending.items, *progress.items))


def happened(client: EtcdClient, commit: str, after: int) -> int | None:
    """The revision of a commit among those after a revision; None: it never
    happened. Each commit leaves its name in ``HEAD``, and etcd keeps the past."""
    revision = 0
    while True:
        found = client.range(HEAD, revision=revision).items
        if not found or found[0].mod_revision <= after:
            return None
        if found[0].value == commit.encode():
            return found[0].mod_revision
        revision = found[0].mod_revision - 1


def _is_decided(client: EtcdClient, commit: str, head: int) -> bool:
    found = client.reads([read(PENDING)]).ranges[0].items
    if found and json.loads(found[0].value)["commit"] == commit:
        return True
    return happened(client, commit, head) is not None


def _sweep(client: EtcdClient) -> None:
    """Remove journals whose writers died before they had decided. Should one
    live, and only its clock be wrong, its decision fails and it begins anew."""
    found = client.reads([read(PENDING), read(JOURNALS, end_of(JOURNALS), limit=1)]).ranges
    pending, journals = found[0].items, found[1].items
    for journal in journals:
        commit = journal.key[len(JOURNALS) :].split(b"/")[0].decode()
        begun = int(commit.split("-")[0], 16)
        if not pending and time.time() - begun > _ABANDONED_SECONDS:
            prefix = journal_prefix(commit)
            client.transaction([is_absent(PENDING)], [delete(prefix, end_of(prefix))])


def _parts(writes: Writes) -> Iterator[list[tuple[bytes, bytes | None]]]:
    part: list[tuple[bytes, bytes | None]] = []
    size = 0
    for key, value in writes.items():
        length = len(key) + len(value or b"")
        # In the journal it is text, by a third longer.
        if part and (len(part) >= STEPS_MAX or size + length > BYTES_MAX / 2):
            yield part
            part, size = [], 0
        part.append((key, value))
        size += length
    yield part


def _packed(part: Iterable[tuple[bytes, bytes | None]]) -> bytes:
    pairs = [[_text(key), None if value is None else _text(value)] for key, value in part]
    return json.dumps(pairs).encode()


def _unpacked(journal: KeyValue) -> Iterator[tuple[bytes, bytes | None]]:
    for key, value in json.loads(journal.value):
        yield b64decode(key), None if value is None else b64decode(value)


def _text(data: bytes) -> str:
    return b64encode(data).decode()


def _state(commit: str, count: int) -> bytes:
    return json.dumps({"commit": commit, "of": count}).encode()
