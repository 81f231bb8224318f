"""What the agents of two hosts write to each other: neither intent nor facts, but
messages that are gone when they have been read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping
from typing import Protocol

from heddle.errors import StoreError


class Mail(Protocol):
    """The mail of one host. StoreError when the medium fails."""

    def post(self, host: str, key: str, value: bytes) -> None:
        """Write to a host's agent, in place of what has this key; blocks. Up to 1 MB."""
        ...

    def follow(self) -> AsyncGenerator[Mapping[str, bytes], None]:
        """What has been written to this host by key, first what waits. It stays
        until it is dropped. A medium that fails is waited for."""
        ...

    def drop(self, keys: Iterable[str]) -> None:
        """Forget what was written to this host; blocks."""
        ...

    def close(self) -> None: ...


class NoMail:
    """Of a host by itself."""

    def post(self, host: str, key: str, value: bytes) -> None:
        raise StoreError(f"host {host} can't be written to: this host has a store of its own")

    async def follow(self) -> AsyncGenerator[Mapping[str, bytes], None]:
        await asyncio.Event().wait()
        yield {}

    def drop(self, keys: Iterable[str]) -> None:
        pass

    def close(self) -> None:
        pass
