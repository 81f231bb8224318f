"""What is so, as opposed to what is wanted: kept in memory, written to the
store in batches, and streamed to whoever waits for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any

from heddle.errors import StoreError
from heddle.store.interface import Store

log = logging.getLogger(__name__)

Key = tuple[str, str]  # kind, id
Fact = Mapping[str, Any]


class Facts:
    """The facts this agent knows. ``put`` and ``forget`` are cheap and touch
    one fact; ``flush`` writes what has changed since, in one transaction."""

    def __init__(self, store: Store, host: str | None = None) -> None:
        """Begins with what ``host`` has recorded earlier."""
        self._store = store
        self._current: dict[Key, Fact] = dict(store.statuses(host))
        self._unwritten: set[Key] = set()
        self._followers: set[_Follower] = set()

    def get(self, key: Key) -> Fact | None:
        return self._current.get(key)

    def keys(self, kind: str) -> list[Key]:
        return [key for key in self._current if key[0] == kind]

    def put(self, key: Key, fact: Fact) -> None:
        if self._current.get(key) == fact:
            return
        self._current[key] = fact
        self._changed(key, fact)

    def forget(self, key: Key) -> None:
        if self._current.pop(key, None) is not None:
            self._changed(key, None)

    def flush(self) -> None:
        """Write to the store. When it can't (a full disk), the facts stay
        unwritten and the next flush tries again: traffic must not wait for it.
        """
        if not self._unwritten:
            return
        try:
            self._store.put_status({key: self._current.get(key) for key in self._unwritten})
        except StoreError as error:
            log.warning("states are not stored, will retry: %s", error)
            return
        self._unwritten.clear()

    async def follow(self) -> AsyncIterator[dict[Key, Fact | None]]:
        """All facts, then each batch of changes (None: forgotten). A slow
        reader gets several changes of one fact as the last of them."""
        follower = _Follower(self._current)
        self._followers.add(follower)
        try:
            while True:
                yield await follower.batch()
        finally:
            self._followers.discard(follower)

    def _changed(self, key: Key, fact: Fact | None) -> None:
        self._unwritten.add(key)
        for follower in self._followers:
            follower.add(key, fact)


class _Follower:
    """What one reader has not seen yet."""

    def __init__(self, facts: Mapping[Key, Fact]) -> None:
        self._unseen: dict[Key, Fact | None] = dict(facts)
        self._something = asyncio.Event()
        self._something.set()

    def add(self, key: Key, fact: Fact | None) -> None:
        self._unseen[key] = fact
        self._something.set()

    async def batch(self) -> dict[Key, Fact | None]:
        await self._something.wait()
        self._something.clear()
        batch, self._unseen = self._unseen, {}
        return batch
