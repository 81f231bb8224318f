"""Where a store is, what tests put there, and how they take its changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from heddle.intent.model import Network
from heddle.settings import EtcdSettings
from heddle.store.etcd.client import EtcdClient
from heddle.store.etcd.reading import EtcdReader
from heddle.store.etcd.store import EtcdStore
from heddle.store.interface import Change, Store
from heddle.store.reader import Reader, SqliteReader
from heddle.store.sqlite import SqliteStore

DEADLINE_S = 60


class Place(Protocol):
    def open(self, host: str = "h1") -> Store: ...

    def reader(self) -> Reader: ...


@dataclass
class SqlitePlace:
    path: Path

    def open(self, host: str = "h1") -> Store:
        return SqliteStore(self.path)

    def reader(self) -> Reader:
        return SqliteReader(self.path)


@dataclass
class EtcdPlace:
    settings: EtcdSettings

    def open(self, host: str = "h1") -> EtcdStore:
        return EtcdStore(self.settings, host)

    def reader(self) -> Reader:
        return EtcdReader(EtcdClient(self.settings))


def network(name: str, vni: int, mtu: int = 1450, domain: str = "") -> Network:
    return Network(id=f"id-{name}", name=name, vni=vni, mtu=mtu, domain=domain, origin="file")


def take(
    store: Store, count: int, *, after: int, then: Callable[[int], None] | None = None
) -> list[list[Change]]:
    """The next ``count`` transactions; ``then`` is called with how many came."""

    async def collect() -> list[list[Change]]:
        batches: list[list[Change]] = []
        watch = cast(AsyncGenerator[list[Change], None], store.watch(after))
        async with asyncio.timeout(DEADLINE_S), aclosing(watch) as changes:
            async for batch in changes:
                batches.append(batch)
                if then:
                    then(len(batches))
                if len(batches) == count:
                    break
        return batches

    return asyncio.run(collect())
