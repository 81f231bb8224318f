"""What a transaction of intent comes to in etcd: keys, and conditions on them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from heddle.errors import ConflictError
from heddle.intent.claims import Claim, claims_of, describe
from heddle.intent.model import AnyResource, Kind
from heddle.store.etcd.client import EtcdClient
from heddle.store.etcd.journal import BYTES_MAX, STEPS_MAX, carry_out
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
from heddle.store.etcd.messages import KeyValue, RangeAnswer, has_value, is_absent, is_of, read
from heddle.store.scopes import homes, signposts
from heddle.store.stamps import check_as_read, next_value, parse

_READS_AT_ONCE = 120

ObjectKey = tuple[Kind, str]


class Stored:
    """Some objects as they are stored, all as of one revision."""

    def __init__(self, client: EtcdClient, keys: Iterable[ObjectKey]) -> None:
        wanted = list(keys)
        self._items: dict[ObjectKey, KeyValue] = {}
        self.objects: dict[ObjectKey, AnyResource] = {}
        self.head, revision = _steady(client)
        indices = read_all(client, [index_key(*key) for key in wanted], revision)
        there = [
            (key, object_key(scope_named(index.value), *key))
            for key, index in zip(wanted, indices, strict=True)
            if index is not None
        ]
        found = read_all(client, [place for _, place in there], revision)
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


def read_all(client: EtcdClient, keys: list[bytes], revision: int = 0) -> list[KeyValue | None]:
    ranges: list[RangeAnswer] = []
    for start in range(0, len(keys), _READS_AT_ONCE):
        part = keys[start : start + _READS_AT_ONCE]
        ranges += client.reads([read(key, revision=revision) for key in part]).ranges
    return [one.items[0] if one.items else None for one in ranges]


class Draft:
    """Writes, and what must be so for them to be right."""

    def __init__(self, stored: Stored, at: str) -> None:
        """``at``: the time that objects are to carry."""
        self._stored = stored
        self._at = at
        self._claimed: dict[Claim, str] = {}  # by whom
        self._released: dict[Claim, str] = {}
        self._gone: dict[bytes, None] = {}  # keys that objects had
        self.head = stored.head
        self.writes: dict[bytes, bytes | None] = {}  # None: delete
        self.conditions: list[bytes] = []
        self.claims: dict[Claim, tuple[str, str | None]] = {}
        """Newly claimed: by whom, and whose it must be until now (None: nobody's)."""

    @property
    def is_small(self) -> bool:
        """Whether one transaction of etcd can hold it."""
        size = sum(len(key) + len(value or b"") for key, value in self.writes.items())
        operations = max(len(self.writes), len(self.conditions))
        return operations < STEPS_MAX and size < BYTES_MAX

    def change(
        self,
        puts: Mapping[ObjectKey, AnyResource],
        deletes: Iterable[ObjectKey],
        *,
        as_read: bool = False,
    ) -> None:
        """Draw it up. ConflictError when two of the objects claim the same, or
        with ``as_read`` when one has changed since it was read."""
        for key, resource in puts.items():
            if as_read:
                check_as_read(resource, self._stored.objects.get(key))
            self._put(key, resource)
        for key in deletes:
            self._delete(key)
        self._settle_claims()
        # Deletions last: who follows a commit sees what is new before what is gone.
        self.writes.update({key: None for key in self._gone if key not in self.writes})
        self.writes.update({claim_key(c): None for c in self._released if c not in self._claimed})

    def _put(self, key: ObjectKey, resource: AnyResource) -> None:
        old = self._stored.objects.get(key)
        text = next_value(resource, old, self._stored.text(key), self._at)
        if text is None:
            return
        self.conditions.append(self._stored.condition(key))
        before = dict(_keys_of(old, b"")) if old is not None else {}
        after = dict(_keys_of(resource, text.encode()))
        self.writes.update((k, value) for k, value in after.items() if before.get(k) != value)
        self._gone.update(dict.fromkeys(k for k in before if k not in after))
        for claim in claims_of(resource):
            if self._claimed.setdefault(claim, _owner(resource)) != _owner(resource):
                raise ConflictError(f"{describe(claim)}: two objects of one commit want it")
        if old is not None:
            self._release(old)

    def _delete(self, key: ObjectKey) -> None:
        old = self._stored.objects.get(key)
        if old is not None:
            self.conditions.append(self._stored.condition(key))
            self._gone.update(dict.fromkeys(k for k, _ in _keys_of(old, b"")))
            self._release(old)

    def _release(self, old: AnyResource) -> None:
        self._released.update(dict.fromkeys(claims_of(old), _owner(old)))

    def _settle_claims(self) -> None:
        for claim, owner in self._claimed.items():
            before = self._released.get(claim)
            if before == owner:
                continue
            key = claim_key(claim)
            is_free = is_absent(key) if before is None else has_value(key, before.encode())
            self.claims[claim] = owner, before
            self.conditions.append(is_free)
            self.writes[key] = owner.encode()


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
