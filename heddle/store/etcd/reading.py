"""Reads intent as of one revision, in pages, without knowing the model."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from heddle.errors import StoreError
from heddle.store.etcd.client import EtcdClient
from heddle.store.etcd.journal import carry_out
from heddle.store.etcd.layout import (
    HEAD,
    PENDING,
    SCOPE_OF_KIND,
    STATUS,
    Place,
    kind_prefix,
    place_of,
    status_of,
    status_prefix,
)
from heddle.store.etcd.liveness import read_lives
from heddle.store.etcd.messages import KeyValue, end_of, read
from heddle.store.reader import Life, plain_object

_PAGE = 2000  # keys


class Moment(NamedTuple):
    """A revision of etcd at which intent is whole, and intent's own then."""

    revision: int
    head: int


def moment(client: EtcdClient) -> Moment:
    """Now; or, when a large commit can't be finished now, just before it."""
    while True:
        answer = client.reads([read(HEAD), read(PENDING)])
        head, pending = answer.ranges
        revision = head.items[0].mod_revision if head.items else 0
        if not pending.items:
            return Moment(answer.revision, revision)
        try:
            carry_out(client)
        except StoreError:
            return Moment(pending.items[0].create_revision - 1, revision)


def keys_of(client: EtcdClient, prefix: bytes, revision: int) -> Iterator[KeyValue]:
    """All keys that begin with ``prefix``, as of a revision."""
    return keys_between(client, prefix, end_of(prefix), revision)


def keys_between(client: EtcdClient, start: bytes, end: bytes, revision: int) -> Iterator[KeyValue]:
    """All keys from ``start`` up to before ``end``, as of a revision."""
    more = True
    while more:
        page = client.range(start, end, limit=_PAGE, revision=revision)
        yield from page.items
        more = page.more and bool(page.items)
        if more:
            start = page.items[-1].key + b"\0"


def objects_below(
    client: EtcdClient, prefix: bytes, revision: int
) -> Iterator[tuple[Place, KeyValue]]:
    """Objects and signposts below a prefix of ``intent/``."""
    for item in keys_of(client, prefix, revision):
        place = place_of(item.key)
        if place is not None:
            yield place, item


class EtcdReader:
    """heddle.store.reader.Reader for etcd."""

    def __init__(self, client: EtcdClient) -> None:
        self._client = client

    def objects(
        self, kind: str | None = None, *, without: Sequence[str] = ()
    ) -> list[dict[str, Any]]:
        now = moment(self._client)
        kinds = [kind] if kind is not None else [k for k in SCOPE_OF_KIND if k not in without]
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for scope_kind in dict.fromkeys(SCOPE_OF_KIND[k] for k in kinds):
            for place, item in objects_below(self._client, kind_prefix(scope_kind), now.revision):
                if place.kind in kinds:
                    where = f"{self._client.name}: {item.key.decode(errors='replace')}"
                    found[place.kind, place.id] = plain_object(place.kind, item.value, where)
        return sorted(found.values(), key=lambda item: (item["kind"], item["name"]))

    def statuses(self) -> dict[tuple[str, str], dict[str, Any]]:
        return read_statuses(self._client)

    def revision(self) -> int:
        return moment(self._client).head

    def lives(self) -> dict[str, Life]:
        return read_lives(self._client)

    def close(self) -> None:
        self._client.close()


def read_statuses(
    client: EtcdClient, host: str | None = None
) -> dict[tuple[str, str], dict[str, Any]]:
    """Facts by (kind, id), of one host or of all. Where two hosts know of an
    object, the later word counts. Spoilt ones are left out: their host tells them anew."""
    prefix = STATUS if host is None else status_prefix(host)
    items = sorted(keys_of(client, prefix, 0), key=lambda item: item.mod_revision)
    facts = {}
    for item in items:
        _, kind, object_id = status_of(item.key)
        with contextlib.suppress(ValueError):
            facts[kind, object_id] = json.loads(item.value)
    return facts
