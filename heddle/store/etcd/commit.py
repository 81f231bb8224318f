"""What a transaction of intent comes to in etcd: keys, and conditions on them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from heddle.errors import ConflictError
from heddle.intent.claims import Claim, claims_of, describe
from heddle.intent.model import AnyResource, Kind
from heddle.store.etcd.client import EtcdClient, OutOfSpaceError, UnsureError
from heddle.store.etcd.journal import (
    BYTES_MAX,
    STEPS_MAX,
    carry_out,
    happened,
    write_large,
)
from heddle.store.etcd.layout import (
    HEAD,
    PENDING,
    claim_key,
    index_key,
    object_key,
    scope_name,
    scope_named,
    signpost_key,
)
from heddle.store.etcd.messages import (
    KeyValue,
    RangeAnswer,
    delete,
    has_value,
    is_absent,
    is_of,
    put,
    read,
)
from heddle.store.interface import Transaction
from heddle.store.scopes import homes, signposts
from heddle.store.stamps import next_value, now, parse

_ATTEMPTS = 50  # of a commit that others overtake; each one that fails is another's success
_READS_AT_ONCE = 120

ObjectKey = tuple[Kind, str]


def commit(client: EtcdClient, transaction: Transaction) -> int:
    """Write a transaction; return the revision of intent that it makes."""
    name = f"{int(time.time()):x}-{os.urandom(8).hex()}"
    puts = {(item.kind, item.id): item for item in transaction.put}
    deletes = dict.fromkeys(transaction.delete)
    for _ in range(_ATTEMPTS):
        draft = _draft(client, puts, deletes)
        expected = transaction.expected_revision
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


@dataclass(slots=True)
class _Draft:
    """``head``: intent's revision when everything was read."""

    head: int
    writes: dict[bytes, bytes | None] = field(default_factory=dict)
    conditions: list[bytes] = field(default_factory=list)
    claims: dict[Claim, tuple[str, str | None]] = field(default_factory=dict)
    """Newly claimed: by whom, and whose it must be until now (None: nobody's)."""

    @property
    def is_small(self) -> bool:
        size = sum(len(key) + len(value or b"") for key, value in self.writes.items())
        operations = max(len(self.writes), len(self.conditions))
        return operations < STEPS_MAX and size < BYTES_MAX


def _write(client: EtcdClient, name: str, draft: _Draft, expected: int | None) -> int | None:
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


def _draft(
    client: EtcdClient, puts: dict[ObjectKey, AnyResource], deletes: Iterable[ObjectKey]
) -> _Draft:
    """What is to be written, given what is stored now."""
    deletes = list(deletes)
    stored = _Stored(client, dict.fromkeys([*puts, *deletes]))
    draft, at = _Draft(stored.head), now()
    released: dict[Claim, str] = {}
    claimed: dict[Claim, str] = {}
    gone: dict[bytes, None] = {}  # keys that objects had
    for key, resource in puts.items():
        if key in deletes:
            continue
        old = stored.objects.get(key)
        text = next_value(resource, old, stored.text(key), at)
        if text is None:
            continue
        draft.conditions.append(stored.condition(key))
        before = dict(_keys_of(old, b"")) if old is not None else {}
        after = dict(_keys_of(resource, text.encode()))
        draft.writes.update((k, v) for k, v in after.items() if before.get(k) != v)
        gone.update(dict.fromkeys(before.keys() - after.keys()))
        _claim(claimed, resource)
        if old is not None:
            released.update(dict.fromkeys(claims_of(old), _owner(old)))
    for key in deletes:
        old = stored.objects.get(key)
        if old is not None:
            draft.conditions.append(stored.condition(key))
            gone.update(dict.fromkeys(key for key, _ in _keys_of(old, b"")))
            released.update(dict.fromkeys(claims_of(old), _owner(old)))
    _settle_claims(draft, claimed, released)
    # Deletions last: who follows a commit sees what is new before what is gone.
    draft.writes.update({key: None for key in gone if key not in draft.writes})
    draft.writes.update({claim_key(c): None for c in released if c not in claimed})
    return draft


def _settle_claims(draft: _Draft, claimed: dict[Claim, str], released: dict[Claim, str]) -> None:
    for claim, owner in claimed.items():
        before = released.get(claim)
        if before == owner:
            continue
        key = claim_key(claim)
        draft.claims[claim] = owner, before
        draft.conditions.append(
            is_absent(key) if before is None else has_value(key, before.encode())
        )
        draft.writes[key] = owner.encode()


def _claim(claimed: dict[Claim, str], resource: AnyResource) -> None:
    owner = _owner(resource)
    for claim in claims_of(resource):
        if claimed.setdefault(claim, owner) != owner:
            raise ConflictError(f"{describe(claim)}: two objects of one commit want it")


def _keys_of(resource: AnyResource, value: bytes) -> Iterator[tuple[bytes, bytes]]:
    """All keys of an object but its claims, and what they hold."""
    kind, places = resource.kind.value, homes(resource)
    for place in places:
        yield object_key(place, kind, resource.id), value
    for scope in signposts(resource):
        yield signpost_key(scope, kind, resource.id), scope_name(places[0])
    yield index_key(kind, resource.id), scope_name(places[0])


def _owner(resource: AnyResource) -> str:
    return f"{resource.kind.value}/{resource.id}"


def _check_claims(client: EtcdClient, draft: _Draft) -> None:
    """ConflictError when somebody else has what the commit claims."""
    claims = list(draft.claims.items())
    found = _read_all(client, [claim_key(claim) for claim, _ in claims])
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
    found = _Stored(client, [key]).objects.get(key)
    return found.name if found is not None else object_id


class _Stored:
    """Some objects as they are stored, all as of one revision."""

    def __init__(self, client: EtcdClient, keys: Iterable[ObjectKey]) -> None:
        wanted = list(keys)
        self._items: dict[ObjectKey, KeyValue] = {}
        self.objects: dict[ObjectKey, AnyResource] = {}
        self.head, revision = _steady(client)
        indices = _read_all(client, [index_key(*key) for key in wanted], revision)
        there = [
            (key, object_key(scope_named(index.value), *key))
            for key, index in zip(wanted, indices, strict=True)
            if index is not None
        ]
        found = _read_all(client, [place for _, place in there], revision)
        for (key, _), item in zip(there, found, strict=True):
            if item is not None:
                self._items[key] = item
                self.objects[key] = parse(key[0].value, item.value, client.name)

    def text(self, key: ObjectKey) -> str:
        return self._items[key].value.decode() if key in self._items else ""

    def condition(self, key: ObjectKey) -> bytes:
        """That nobody has changed the object meanwhile."""
        if key in self._items:
            return is_of(self._items[key].key, self._items[key].mod_revision)
        return is_absent(index_key(*key))


def _steady(client: EtcdClient) -> tuple[int, int]:
    """Intent's revision and etcd's, with no large commit under way."""
    while True:
        answer = client.reads([read(HEAD), read(PENDING)])
        head, pending = answer.ranges
        if not pending.items:
            return (head.items[0].mod_revision if head.items else 0), answer.revision
        carry_out(client)


def _read_all(client: EtcdClient, keys: list[bytes], revision: int = 0) -> list[KeyValue | None]:
    ranges: list[RangeAnswer] = []
    for start in range(0, len(keys), _READS_AT_ONCE):
        part = keys[start : start + _READS_AT_ONCE]
        ranges += client.reads([read(key, revision=revision) for key in part]).ranges
    return [one.items[0] if one.items else None for one in ranges]
