"""The store of many hosts: intent and facts in etcd."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from heddle.intent.model import AnyResource, Kind
from heddle.paths import machine_id
from heddle.settings import EtcdSettings
from heddle.store.cache import IntentCache
from heddle.store.etcd.client import EtcdClient
from heddle.store.etcd.commit import commit
from heddle.store.etcd.connection import LostError
from heddle.store.etcd.follow import Follower
from heddle.store.etcd.layout import (
    INTENT,
    PENDING,
    SCOPE_OF_KIND,
    SEE,
    kind_prefix,
    place_of,
    status_key,
    wake_key,
)
from heddle.store.etcd.liveness import Pulse
from heddle.store.etcd.messages import Event, delete, put
from heddle.store.etcd.reading import moment, objects_below, read_statuses
from heddle.store.etcd.watch import Waker, Watching
from heddle.store.interface import Change, Followed, Snapshot, Transaction
from heddle.store.stamps import parse

_FACTS_AT_ONCE = 100
_RETRY_SECONDS = 0.5


class EtcdStore:
    """Implements heddle.store.interface.Store. Usable from any thread.

    ``host`` is whose facts ``put_status`` records. ``cache`` is a file for what
    ``follow`` last told, from which it begins when etcd is out of reach.
    """

    def __init__(self, settings: EtcdSettings, host: str, cache: Path | None = None) -> None:
        self._client = EtcdClient(settings)
        self._host = host
        self._pulse: Pulse | None = None
        self._cache = IntentCache(cache) if cache is not None else None

    def snapshot(self, *kinds: Kind) -> Snapshot:
        now = moment(self._client)
        wanted = {kind.value for kind in kinds or Kind}
        scopes = dict.fromkeys(SCOPE_OF_KIND[kind] for kind in kinds)
        objects: dict[Kind, dict[str, AnyResource]] = {kind: {} for kind in Kind}
        for prefix in map(kind_prefix, scopes) if kinds else [INTENT]:
            for place, item in objects_below(self._client, prefix, now.revision):
                if place.kind in wanted:
                    resource = parse(place.kind, item.value, self._client.name)
                    objects[resource.kind][resource.id] = resource
        return Snapshot(now.head, objects)

    def commit(self, transaction: Transaction) -> int:
        return commit(self._client, transaction)

    async def watch(self, after_revision: int) -> AsyncGenerator[list[Change], None]:
        waker = Waker()
        following = _Everything(self._client, waker, after_revision)
        try:
            while True:
                for changes in await asyncio.to_thread(following.next):
                    yield changes
        finally:
            waker.end()

    async def follow(self, host: str) -> AsyncGenerator[Followed, None]:
        follower = Follower(self._client, host, Waker(), self._cache)
        try:
            while True:
                for told in await asyncio.to_thread(follower.next):
                    yield told
        finally:
            follower.close()

    def catch_up(self, host: str) -> None:
        self._client.overwrite([put(wake_key(host), b"")])

    def beat(self, host: str, note: Mapping[str, Any]) -> None:
        if self._pulse is None:
            self._pulse = Pulse(self._client, host, machine_id())
        self._pulse.beat(note)

    def put_status(self, statuses: Mapping[tuple[str, str], Mapping[str, Any] | None]) -> None:
        steps = []
        for (kind, object_id), fact in statuses.items():
            key = status_key(self._host, kind, object_id)
            steps.append(delete(key) if fact is None else put(key, json.dumps(fact).encode()))
        for start in range(0, len(steps), _FACTS_AT_ONCE):
            self._client.overwrite(steps[start : start + _FACTS_AT_ONCE])

    def statuses(self, host: str | None = None) -> dict[tuple[str, str], dict[str, Any]]:
        return read_statuses(self._client, host)

    def close(self) -> None:
        self._client.close()


class _Everything:
    """Follows all of intent, transaction by transaction. Blocks its thread."""

    def __init__(self, client: EtcdClient, waker: Waker, after_revision: int) -> None:
        self._client = client
        self._watching = waker.watching = Watching(client)
        self._watching.add(INTENT, after_revision + 1)
        self._waker = waker
        self._held: list[Event] = []  # of a large commit that is not yet complete
        self._holds = False

    def next(self) -> list[list[Change]]:
        """What has come, at least one transaction of it unless woken."""
        try:
            answer = self._watching.next(None)
        except LostError:
            self._waker.sleep(_RETRY_SECONDS)
            return []
        events = answer.events if answer is not None else []
        by_revision = groupby(events, key=lambda event: event.mod_revision)
        found = (self._transaction(revision, list(group)) for revision, group in by_revision)
        return [changes for changes in found if changes]

    def _transaction(self, revision: int, events: list[Event]) -> list[Change]:
        marks = [event for event in events if event.key == PENDING]
        self._held += [event for event in events if event.key != PENDING]
        if marks:
            self._holds = marks[-1].value is not None
        if self._holds:
            return []
        held, self._held = self._held, []
        return _changes(self._client.name, revision, held)


def _changes(store: str, revision: int, events: list[Event]) -> list[Change]:
    """Writes, then deletions. An object that has moved was not deleted."""
    put: dict[tuple[str, str], Change] = {}
    gone: dict[tuple[str, str], Change] = {}
    for event in events:
        place = place_of(event.key)
        if place is None or place.kind == SEE:
            continue
        key, kind = (place.kind, place.id), Kind(place.kind)
        if event.value is None:
            gone[key] = Change(revision, kind, place.id, None)
        else:
            put[key] = Change(revision, kind, place.id, parse(place.kind, event.value, store))
    return [*put.values(), *(change for key, change in gone.items() if key not in put)]
