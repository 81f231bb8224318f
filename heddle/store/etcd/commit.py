"""Writes a transaction of intent, whatever others write at the same time."""

from __future__ import annotations

import os
import time

from heddle.errors import ConflictError
from heddle.intent.claims import describe
from heddle.intent.model import Kind
from heddle.store.etcd.client import EtcdClient, OutOfSpaceError, UnsureError
from heddle.store.etcd.draft import Draft, Stored, read_all
from heddle.store.etcd.journal import happened, write_large
from heddle.store.etcd.layout import HEAD, PENDING, claim_key
from heddle.store.etcd.messages import delete, is_absent, is_of, put
from heddle.store.interface import Transaction
from heddle.store.stamps import now

_ATTEMPTS = 50  # of a commit that others overtake; each one that fails is another's success


def commit(client: EtcdClient, transaction: Transaction) -> int:
    """Write a transaction; return the revision of intent that it makes."""
    name = f"{int(time.time()):x}-{os.urandom(8).hex()}"
    deletes = dict.fromkeys(transaction.delete)
    puts = {(one.kind, one.id): one for one in transaction.put}
    puts = {key: one for key, one in puts.items() if key not in deletes}
    expected = transaction.expected_revision
    first: int | None = None  # intent's revision at the first attempt
    for _ in range(_ATTEMPTS):
        draft = Draft(Stored(client, [*puts, *deletes]), now())
        if first is None:
            first = draft.head
        elif (late := happened(client, name, first)) is not None:
            return late  # an attempt that seemed lost
        draft.change(puts, deletes, as_read=transaction.as_read)
        if expected is not None and expected != draft.head:
            raise ConflictError(
                f"{client.name}: someone else changed it meanwhile (revision {draft.head}, "
                f"expected {expected}); try again"
            )
        if not draft.writes:
            return draft.head
        if (revision := _write(client, name, draft, expected)) is not None:
            return revision
        _check_claims(client, draft)
    raise ConflictError(f"{client.name}: others write all the time; try again")


def _write(client: EtcdClient, name: str, draft: Draft, expected: int | None) -> int | None:
    """The new revision; None when others were faster, or nobody knows."""
    if not draft.is_small:
        _check_claims(client, draft)
        if not write_large(client, name, draft.writes, draft.head):
            return None
        return happened(client, name, draft.head)
    conditions = [is_absent(PENDING), *draft.conditions]
    if expected is not None:
        conditions.append(is_of(HEAD, expected))
    steps = [
        delete(key) if value is None else put(key, value) for key, value in draft.writes.items()
    ]
    try:
        answer = client.transaction(conditions, [*steps, put(HEAD, name.encode())])
    except UnsureError as error:
        revision = happened(client, name, draft.head)
        if revision is None and isinstance(error, OutOfSpaceError):
            raise
        return revision
    return answer.revision if answer.succeeded else None


def _check_claims(client: EtcdClient, draft: Draft) -> None:
    """ConflictError when somebody else has what the commit claims."""
    claims = list(draft.claims.items())
    found = read_all(client, [claim_key(claim) for claim, _ in claims])
    for (claim, (owner, before)), item in zip(claims, found, strict=True):
        holder = item.value.decode() if item is not None else None
        if holder not in (owner, before, None):
            kind, _, object_id = holder.partition("/")
            raise ConflictError(
                f"{describe(claim)} is taken by {kind} {_name(client, kind, object_id)}; "
                "choose another"
            )


def _name(client: EtcdClient, kind: str, object_id: str) -> str:
    key = (Kind(kind), object_id)
    found = Stored(client, [key]).objects.get(key)
    return found.name if found is not None else object_id
