"""Follows ranges of keys in one call, over whatever connection there is.

Whatever breaks, each range goes on from the revision that it has seen.
"""

from __future__ import annotations

import queue
import threading
import time
from contextlib import suppress
from dataclasses import dataclass

from heddle.errors import StoreError
from heddle.store.etcd.client import EtcdClient
from heddle.store.etcd.connection import Connection, LostError, RefusedError, Stream
from heddle.store.etcd.layout import HEAD, PENDING
from heddle.store.etcd.messages import (
    WATCH,
    WatchAnswer,
    cancel_watch,
    create_watch,
    end_of,
    read,
    read_watch,
)
from heddle.store.interface import CompactedError

_LOG_IN_AGAIN = ("auth token", "auth store is old", "permission denied")


@dataclass(slots=True)
class _Range:
    prefix: bytes
    next_revision: int


class Watching:
    """Used by one thread, but for ``wake``."""

    def __init__(self, client: EtcdClient) -> None:
        self._client = client
        self._ranges: dict[int, _Range] = {}
        self._last_id = 0
        self._connection: Connection | None = None
        self._stream: Stream | None = None
        # What the connection's thread hands over: an answer, or how the call
        # ended; None is ``wake``.
        self._queue: queue.SimpleQueue[tuple[int, bytes | StoreError | None] | None] = (
            queue.SimpleQueue()
        )
        self._call = 0  # so that words of an earlier call are known as such
        self._denied = False  # by the last word of etcd

    def add(self, prefix: bytes, start_revision: int) -> int:
        """Follow what begins with ``prefix``; return the number of that."""
        self._last_id += 1
        self._ranges[self._last_id] = _Range(prefix, start_revision)
        if self._stream is not None:
            self._send(create_watch(self._last_id, prefix, end_of(prefix), start_revision))
        return self._last_id

    def remove(self, watch_id: int) -> None:
        del self._ranges[watch_id]
        if self._stream is not None:
            self._send(cancel_watch(watch_id))

    def next(self, seconds: float | None) -> WatchAnswer | None:
        """The next answer that has events; None when none comes within so long,
        or on ``wake``. LostError when etcd can't be reached, or the call broke:
        call again to go on. CompactedError when a range can't."""
        self._begin()
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            left = None if deadline is None else max(deadline - time.monotonic(), 0)
            try:
                found = self._queue.get(timeout=left)
            except queue.Empty:
                return None
            if found is None:
                return None
            call, what = found
            if call != self._call:
                continue
            if not isinstance(what, bytes):
                self._end()
                raise self._explained(what)
            answer = self._take(read_watch(what))
            if answer is not None:
                return answer

    def wake(self) -> None:
        """Let ``next`` return now; from any thread."""
        self._queue.put(None)

    def close(self) -> None:
        if self._connection is not None and self._stream is not None:
            self._connection.abandon(self._stream)
        self._end()

    def _begin(self) -> None:
        if self._stream is not None:
            return
        self._call += 1
        call = self._call
        self._connection, self._stream = self._client.begin(
            WATCH,
            lambda message: self._queue.put((call, message)),
            lambda error: self._queue.put((call, error)),
        )
        for watch_id, one in self._ranges.items():
            self._send(create_watch(watch_id, one.prefix, end_of(one.prefix), one.next_revision))

    def _send(self, request: bytes) -> None:
        # Should it fail, the end of the call is in the queue.
        if self._connection is not None and self._stream is not None:
            with suppress(LostError):
                self._connection.send(self._stream, request)

    def _end(self) -> None:
        self._connection = self._stream = None

    def _take(self, answer: WatchAnswer) -> WatchAnswer | None:
        one = self._ranges.get(answer.watch_id)
        if answer.canceled and (one is not None or answer.reason):
            self._canceled(answer, one)
            return None
        if one is None:
            return None
        self._denied = False
        if not answer.events:
            return None
        fresh = [event for event in answer.events if event.mod_revision >= one.next_revision]
        if not fresh:
            return None
        one.next_revision = fresh[-1].mod_revision + 1
        answer.events = fresh
        return answer

    def _canceled(self, answer: WatchAnswer, one: _Range | None) -> None:
        forgotten = answer.compact_revision
        if not forgotten or one is None:
            self.close()
            raise self._explained(RefusedError(0, answer.reason or "the watch was ended"))
        if not self._nothing_happened(one, forgotten):
            raise CompactedError(
                f"{self._client.name}: changes up to revision {forgotten} are no longer kept, "
                f"those after {one.next_revision - 1} were asked for; take a new snapshot"
            )
        one.next_revision = forgotten + 1
        request = create_watch(answer.watch_id, one.prefix, end_of(one.prefix), one.next_revision)
        self._send(request)

    def _nothing_happened(self, one: _Range, forgotten: int) -> bool:
        """Whether all that a range could miss were facts: intent was last
        changed before, and no large commit was under way."""
        steps = [read(HEAD, revision=forgotten), read(PENDING, revision=forgotten)]
        head, pending = self._client.reads(steps).ranges
        last = head.items[0].mod_revision if head.items else 0
        return not pending.items and last < one.next_revision

    def _explained(self, error: StoreError | None) -> StoreError:
        text = str(error or "the watch ended")
        if any(words in text for words in _LOG_IN_AGAIN):
            self._client.log_in_again()
            # To a watch etcd says the same of a token that it does not know.
            if "permission denied" in text and self._denied:
                return StoreError(f"{self._client.name}: {text}; the user may not read all of it")
            self._denied = "permission denied" in text
        return LostError(f"{self._client.name}: {text}")


class Waker:
    """Lets a thread that sleeps, or waits for a watch, be woken to end."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        self.watching: Watching | None = None

    @property
    def ended(self) -> bool:
        return self._ended.is_set()

    def sleep(self, seconds: float) -> None:
        self._ended.wait(seconds)

    def end(self) -> None:
        self._ended.set()
        if self.watching is not None:
            self.watching.wake()
