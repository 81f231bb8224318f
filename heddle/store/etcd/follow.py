"""Follows the part of intent that one host needs.

A watch per scope, all in one call. What the host needs follows from what it
has (scopes.py, interest.py): a new port makes it load networks and groups, the
last one that goes lets it forget them.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable
from typing import NamedTuple

from heddle.errors import StoreError
from heddle.intent.model import AnyResource, Kind
from heddle.store.cache import IntentCache
from heddle.store.etcd.client import EtcdClient
from heddle.store.etcd.connection import LostError
from heddle.store.etcd.continuity import Continuity
from heddle.store.etcd.journal import carry_out, progress_of
from heddle.store.etcd.layout import (
    PENDING,
    SEE,
    Place,
    place_of,
    scope_named,
    scope_prefix,
    wake_key,
)
from heddle.store.etcd.messages import Event, KeyValue, end_of, read
from heddle.store.etcd.reading import keys_between, moment
from heddle.store.etcd.watch import Waker, Watching
from heddle.store.interest import Interest
from heddle.store.interface import Batch, Change, CompactedError, Followed, Outage, Snapshot
from heddle.store.scope import Scope
from heddle.store.scopes import needs, roots
from heddle.store.stamps import parse

log = logging.getLogger(__name__)

_SETTLE_SECONDS = 0.005  # for what else a transaction has changed, in other scopes
_SETTLE_ROUNDS = 20
# Without a step, and a large commit is finished for its writer. Each host looks at times
# of its own: the first one's steps are seen by the others, which go on waiting.
_HOLD_SECONDS = (2.5, 4.0)
_RETRY_SECONDS = (0.2, 1.0)  # the first and the longest pause
_SCOPES_AT_ONCE = 50
_PAGE = 1000

Key = tuple[str, str]  # kind and id; of a signpost ``see`` and its name


class _View:
    """Scopes as they are held, and what lies in them."""

    def __init__(self, host: str, store: str) -> None:
        self._host = host
        self._store = store
        self._places: dict[Key, tuple[Scope, ...]] = {}
        self.interest = Interest(roots(host))
        self.held: dict[Scope, dict[Key, AnyResource | None]] = {}
        """What lies in each scope; None: a signpost."""

    @property
    def missing(self) -> list[Scope]:
        return [scope for scope in self.interest.wanted if scope not in self.held]

    @property
    def surplus(self) -> list[Scope]:
        wanted = self.interest.wanted
        return [scope for scope in self.held if scope not in wanted]

    def put(self, place: Place, value: bytes) -> Key | None:
        """Take in an object or signpost; return the key of an object."""
        scope, key = place.scope, (place.kind, place.id)
        if place.kind == SEE:
            self.held[scope][key] = None
            self.interest.point(scope, key, (scope_named(value),))
            return None
        resource = parse(place.kind, value, self._store)
        key = (resource.kind, resource.id)
        self.held[scope][key] = resource
        places = self._places.get(key, ())
        if scope not in places:
            self._places[key] = (*places, scope)
        self.interest.point(scope, key, needs(resource, self._host))
        return key

    def delete(self, place: Place) -> Key | None:
        key = (place.kind, place.id)
        self.held[place.scope].pop(key, None)
        self.interest.point(place.scope, key, ())
        self._leaves(key, place.scope)
        return None if place.kind == SEE else key

    def drop(self, scope: Scope) -> list[Key]:
        """Hold a scope no more; return what lay there."""
        keys = self.held.pop(scope)
        self.interest.forget(scope, keys)
        for key in keys:
            self._leaves(key, scope)
        return [key for key in keys if key[0] != SEE]

    def find(self, key: Key) -> AnyResource | None:
        """An object, in whatever scope it lies."""
        places = self._places.get(key)
        return self.held[places[-1]][key] if places else None

    def objects(self) -> dict[Key, AnyResource]:
        return {key: found for key in self._places if (found := self.find(key)) is not None}

    def _leaves(self, key: Key, scope: Scope) -> None:
        left = tuple(one for one in self._places.pop(key, ()) if one != scope)
        if left:
            self._places[key] = left


class _Large(NamedTuple):
    """Revisions of the last large commit that was heard of: all that it changed came
    between them."""

    begun: int = 0
    ended: int = 0

    def moved_on(self, event: Event) -> _Large:
        if event.value is not None:
            return _Large(event.mod_revision)
        return self._replace(ended=event.mod_revision)


class Follower:
    """Blocks its thread; ``close`` ends that."""

    def __init__(
        self, client: EtcdClient, host: str, waker: Waker, cache: IntentCache | None
    ) -> None:
        self._client = client
        self._host = host
        self._waker = waker
        self._cache = cache
        self._watching = waker.watching = Watching(client)
        self._view = _View(host, client.name)
        self._watches: dict[Scope, int] = {}
        self._known: dict[Key, AnyResource] | None = None  # None: nothing told yet
        self._in_step = False  # the view was loaded, and watched since
        self._heard: list[Event] = []  # not yet taken in
        self._pending = False  # they are part of a large commit, which is not complete
        self._large = _Large()
        self._told = 0  # up to which revision
        self._continuity = Continuity(client, cache)
        self._doubtful = True  # whether etcd answers, and goes on where it was
        self._unkept: list[Callable[[IntentCache], None]] = []
        self._outage = ""
        self._pause = _RETRY_SECONDS[0]

    def next(self) -> list[Followed]:
        """What there is to tell, which may be nothing. What was told before has been
        carried out by then."""
        self._keep_told()
        try:
            if self._doubtful:
                self._continuity.check(self._told)
                self._doubtful = False
            if self._outage:
                self._outage = ""
                return [Outage("")]
            told = self._go_on() if self._in_step else [self._load_all()]
        except CompactedError:
            self._in_step = False
            return []
        except StoreError as error:
            return self._failed(error)
        self._pause = _RETRY_SECONDS[0]
        return told

    def close(self) -> None:
        """From any thread."""
        self._waker.end()
        self._keep_told()

    # ---- trouble ---------------------------------------------------------

    def _failed(self, error: StoreError) -> list[Followed]:
        told: list[Followed] = []
        self._doubtful = True
        if self._known is None and (snapshot := self._cached()) is not None:
            self._known = _by_key(snapshot)
            told.append(snapshot)
        # The first word is often about a connection that will be there again in
        # a moment; it is an outage when the next attempt fails as well.
        if isinstance(error, LostError) and self._in_step and self._pause == _RETRY_SECONDS[0]:
            self._pause *= 2
            return told
        if not self._outage or str(error) == self._continuity.broken != self._outage:
            told.append(Outage(str(error)))
            self._outage = str(error)
        self._waker.sleep(self._pause * random.uniform(0.5, 1))  # noqa: S311 (no secret)
        self._pause = min(self._pause * 2, _RETRY_SECONDS[1])
        return told

    def _cached(self) -> Snapshot | None:
        if self._cache is None:
            return None
        try:
            return self._cache.load()
        except StoreError as error:
            log.warning("%s", error)
            return None

    # ---- all of it -------------------------------------------------------

    def _load_all(self) -> Followed:
        """Load what the host needs, as of one revision, and watch it from there."""
        revision = moment(self._client).revision
        self._view = _View(self._host, self._client.name)
        self._grow(revision)
        self._heard, self._pending = [], False
        self._watching.close()
        self._watching = self._waker.watching = Watching(self._client)
        self._watches = {
            scope: self._watching.add(scope_prefix(scope), revision + 1)
            for scope in self._view.held
        }
        self._watching.add(PENDING, revision + 1)
        self._watching.add(wake_key(self._host), revision + 1)
        self._in_step = True
        return self._loaded(revision)

    def _loaded(self, revision: int) -> Followed:
        found = self._view.objects()
        if self._known is None:
            self._known, self._told = found, revision
            objects: dict[Kind, dict[str, AnyResource]] = {kind: {} for kind in Kind}
            for (kind, name), resource in found.items():
                objects[Kind(kind)][name] = resource
            snapshot = Snapshot(revision, objects)
            self._keep(lambda cache: cache.replace(snapshot))
            return snapshot
        return self._batch(revision, [*found, *(key for key in self._known if key not in found)])

    # ---- change by change ------------------------------------------------

    def _go_on(self) -> list[Followed]:
        events = self._events()
        if not events:
            return []
        revision = max(event.mod_revision for event in events)
        if self._large.begun <= revision <= self._large.ended:
            revision = self._large.ended  # watches that catch up do so one by one
        if all(event.key == PENDING for event in events) and self._told < self._large.begun:
            return []  # a large commit that is not for this host, or not yet
        touched: dict[Key, None] = {}
        for event in events:
            place = place_of(event.key)
            if place is None or place.scope not in self._view.held:
                continue
            key = (
                self._view.delete(place)
                if event.value is None
                else self._view.put(place, event.value)
            )
            if key is not None:
                touched[key] = None
        try:
            touched.update(dict.fromkeys(self._grow(revision)))
        except StoreError:
            self._in_step = False  # half of it may be there: all is compared
            raise
        for scope in self._view.surplus:
            touched.update(dict.fromkeys(self._view.drop(scope)))
            if (watch := self._watches.pop(scope, None)) is not None:
                self._watching.remove(watch)
        return [self._batch(revision, touched)]

    def _events(self) -> list[Event]:
        """What has come; of a transaction that changed several scopes, all. What came
        before a fault is kept for the next attempt."""
        rounds = 0
        progress = b""  # of a large commit, when it was looked at last
        while rounds <= _SETTLE_ROUNDS or self._pending:
            answer = self._watching.next(self._patience())
            if answer is not None:
                self._hear(answer.events)
                rounds += 1
            elif not self._pending or self._waker.ended:
                break
            else:
                progress = self._look_after(progress)
        heard, self._heard = self._heard, []
        return sorted(heard, key=lambda event: event.mod_revision)

    def _patience(self) -> float | None:
        """Seconds to wait for more; None: until there is something."""
        if self._pending:
            return random.uniform(*_HOLD_SECONDS)  # noqa: S311 (no secret)
        return _SETTLE_SECONDS if self._heard else None

    def _hear(self, events: Iterable[Event]) -> None:
        for event in events:
            if event.key == PENDING:
                self._pending = event.value is not None
                self._large = self._large.moved_on(event)
            self._heard.append(event)

    def _look_after(self, before: bytes) -> bytes:
        """Finish a large commit that has not moved on since it was looked at ``before``:
        its writer seems to have died. Returns how far it is."""
        progress = progress_of(self._client)
        if not progress:
            self._pending = False
        elif progress == before:
            carry_out(self._client)
        return progress

    def _grow(self, revision: int) -> list[Key]:
        """Load the scopes that have come to be needed; return what lies there."""
        found: list[Key] = []
        while missing := self._view.missing:
            for start in range(0, len(missing), _SCOPES_AT_ONCE):
                found += self._load(missing[start : start + _SCOPES_AT_ONCE], revision)
            if self._in_step:
                for scope in missing:
                    prefix = scope_prefix(scope)
                    self._watches[scope] = self._watching.add(prefix, revision + 1)
        return found

    def _load(self, scopes: list[Scope], revision: int) -> list[Key]:
        prefixes = [scope_prefix(scope) for scope in scopes]
        pages = self._client.reads(
            [read(p, end_of(p), limit=_PAGE, revision=revision) for p in prefixes]
        ).ranges
        found: list[Key] = []
        for scope, prefix, page in zip(scopes, prefixes, pages, strict=True):
            self._view.held[scope] = {}
            found += self._take(page.items)
            if page.more:
                rest = page.items[-1].key + b"\0"
                found += self._take(keys_between(self._client, rest, end_of(prefix), revision))
        return found

    def _take(self, items: Iterable[KeyValue]) -> list[Key]:
        found = []
        for item in items:
            place = place_of(item.key)
            key = self._view.put(place, item.value) if place is not None else None
            if key is not None:
                found.append(key)
        return found

    # ---- telling ---------------------------------------------------------

    def _batch(self, revision: int, touched: Iterable[Key]) -> Batch:
        """The changes that make what was told what is so now."""
        assert self._known is not None
        self._told = revision
        changes = []
        for key in touched:
            before, now = self._known.get(key), self._view.find(key)
            if now is None:
                if self._known.pop(key, None) is not None:
                    changes.append(Change(revision, Kind(key[0]), key[1], None))
            elif now != before:
                self._known[key] = now
                changes.append(Change(revision, now.kind, now.id, now))
        if changes:
            self._keep(lambda cache: cache.update(revision, changes))
        return Batch(revision, changes)

    def _keep(self, write: Callable[[IntentCache], None]) -> None:
        """In the cache, once it is carried out: a disk may take longer than that does."""
        self._unkept.append(write)

    def _keep_told(self) -> None:
        """Without a cache an agent only starts later."""
        unkept, self._unkept = self._unkept, []
        if self._cache is None:
            return
        for write in unkept:
            try:
                write(self._cache)
            except StoreError as error:
                log.warning("what is wanted is not kept for a start without etcd: %s", error)


def _by_key(snapshot: Snapshot) -> dict[Key, AnyResource]:
    return {
        (kind, name): resource
        for kind, objects in snapshot.objects.items()
        for name, resource in objects.items()
    }
