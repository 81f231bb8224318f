"""Mail between agents in etcd: a key for each message."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping

from heddle.errors import StoreError
from heddle.settings import EtcdSettings
from heddle.store.etcd.client import EtcdClient
from heddle.store.etcd.layout import mail_prefix
from heddle.store.etcd.messages import delete, end_of, put
from heddle.store.etcd.reading import keys_of
from heddle.store.etcd.watch import Waker, Watching
from heddle.store.interface import CompactedError

_RETRY_SECONDS = 0.5
_KEYS_AT_ONCE = 100


class EtcdMail:
    """Implements heddle.store.mail.Mail. Usable from any thread."""

    def __init__(self, settings: EtcdSettings, host: str) -> None:
        self._client = EtcdClient(settings)
        self._own = mail_prefix(host)

    def post(self, host: str, key: str, value: bytes) -> None:
        self._client.overwrite([put(mail_prefix(host) + key.encode(), value)])

    async def follow(self) -> AsyncGenerator[Mapping[str, bytes], None]:
        waker = Waker()
        box = _Box(self._client, self._own, waker)
        try:
            while True:
                if messages := await asyncio.to_thread(box.next):
                    yield messages
        finally:
            waker.end()

    def drop(self, keys: Iterable[str]) -> None:
        steps = [delete(self._own + key.encode()) for key in keys]
        for start in range(0, len(steps), _KEYS_AT_ONCE):
            self._client.overwrite(steps[start : start + _KEYS_AT_ONCE])

    def close(self) -> None:
        self._client.close()


class _Box:
    """Blocks its thread. Begins anew after every fault, with all that lies there."""

    def __init__(self, client: EtcdClient, prefix: bytes, waker: Waker) -> None:
        self._client = client
        self._prefix = prefix
        self._waker = waker
        self._watching: Watching | None = None

    def next(self) -> dict[str, bytes]:
        """Messages that have come; none when woken, or when etcd can't be asked now."""
        try:
            return self._begin() if self._watching is None else self._more(self._watching)
        except StoreError as error:
            self._watching = None  # what was missed still lies there
            if not isinstance(error, CompactedError):
                self._waker.sleep(_RETRY_SECONDS)
        return {}

    def _begin(self) -> dict[str, bytes]:
        revision = self._client.range(self._prefix, end_of(self._prefix), limit=1).revision
        waiting = {
            self._key(item.key): item.value
            for item in keys_of(self._client, self._prefix, revision)
        }
        self._watching = self._waker.watching = Watching(self._client)
        self._watching.add(self._prefix, revision + 1)
        return waiting

    def _more(self, watching: Watching) -> dict[str, bytes]:
        answer = watching.next(None)
        events = answer.events if answer is not None else []
        return {self._key(e.key): e.value for e in events if e.value is not None}

    def _key(self, key: bytes) -> str:
        return key[len(self._prefix) :].decode()
