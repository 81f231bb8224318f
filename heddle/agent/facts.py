"""What is so, as opposed to what is wanted: kept in memory, written to the
store in batches, and streamed to whoever waits for it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Executor
from typing import Any

from heddle.errors import StoreError
from heddle.store.interface import Store

log = logging.getLogger(__name__)

Key = tuple[str, str]  # kind, id
Fact = Mapping[str, Any]


RETRY_SECONDS = 2.0


class Facts:
    """The facts this agent knows. ``put`` and ``forget`` are cheap and touch
    one fact; ``flush`` has what has changed since written in one go."""

    def __init__(self, store: Store, host: str | None = None) -> None:
        """Begins with what ``host`` has recorded earlier, if the store tells."""
        self._store = store
        self._host = host
        self._current: dict[Key, Fact] = {}
        self._unwritten: set[Key] = set()
        self._followers: set[_Follower] = set()
        self._due: asyncio.Event | None = None  # set: the writer has something to do
        self._recalled = False
        self._failing = False
        self._lock = threading.Lock()
        try:
            self._recall(store.statuses(host))
        except StoreError as error:
            log.warning("earlier states are not known yet: %s", error)

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
        """Write to the store, or let the writer do it if there is one."""
        if self._due is not None:
            self._due.set()
        else:
            self.write()

    def write(self) -> None:
        """Write to the store. When it can't (a full disk), the facts stay
        unwritten and the next flush tries again: traffic must not wait for it.
        """
        batch = self._taken()
        if not batch:
            return
        try:
            self._put(batch)
        except StoreError as error:
            self._unwritten |= batch.keys()
            log.warning("states are not stored, will retry: %s", error)

    async def keep_written(self, thread: Executor, recalled: Callable[[], None]) -> None:
        """Be the writer, for ever: a store may take its time, and the event loop
        has none. ``recalled`` is called when earlier facts became known late."""
        self._due = asyncio.Event()
        self._due.set()
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._due.wait()
                self._due.clear()
                if not self._recalled:
                    self._recall(
                        await loop.run_in_executor(thread, self._store.statuses, self._host)
                    )
                    recalled()
                await self._write_in(thread)
                self._failing = False
        except StoreError as error:
            if not self._failing:  # once is enough, however long it takes
                log.warning("states are not stored, will retry: %s", error)
            self._failing = True
            await asyncio.sleep(RETRY_SECONDS)
        finally:
            self._due = None

    async def _write_in(self, thread: Executor) -> None:
        batch = self._taken()
        if not batch:
            return
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(thread, self._put, batch)
        except BaseException:
            self._unwritten |= batch.keys()
            raise

    def _put(self, batch: Mapping[Key, Fact | None]) -> None:
        with self._lock:  # what was taken first is written first
            self._store.put_status(batch)

    def _taken(self) -> dict[Key, Fact | None]:
        unwritten, self._unwritten = self._unwritten, set()
        return {key: self._current.get(key) for key in unwritten}

    def _recall(self, earlier: Mapping[Key, Fact]) -> None:
        for key in earlier.keys() - self._current.keys() - self._unwritten:
            self._current[key] = earlier[key]
            for follower in self._followers:
                follower.add(key, earlier[key])
        self._recalled = True

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
