"""Mail between agents, on a real etcd."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping

import pytest
from etcd_server import EtcdCluster

from heddle.errors import StoreError
from heddle.store.etcd.mail import EtcdMail
from heddle.store.mail import NoMail

DEADLINE = 60


@pytest.fixture
def pair(etcd: EtcdCluster) -> Iterator[tuple[EtcdMail, EtcdMail]]:
    etcd.clear()
    one, other = EtcdMail(etcd.settings, "h1"), EtcdMail(etcd.settings, "h1/x")
    yield one, other
    one.close()
    other.close()


async def following(source: AsyncGenerator[Mapping[str, bytes], None]) -> Mapping[str, bytes]:
    return await asyncio.wait_for(anext(source), DEADLINE)


def test_what_waits_comes_first(pair: tuple[EtcdMail, EtcdMail]) -> None:
    one, other = pair
    one.post("h1/x", "m/2", b"two")
    one.post("h1/x", "m/1", b"one")
    one.post("h1", "m/1", b"for myself")

    async def run() -> None:
        source = other.follow()
        assert await following(source) == {"m/1": b"one", "m/2": b"two"}
        await asyncio.to_thread(one.post, "h1/x", "m/1", b"again")
        assert await following(source) == {"m/1": b"again"}
        await source.aclose()

    asyncio.run(run())


def test_what_is_dropped_comes_no_more(pair: tuple[EtcdMail, EtcdMail]) -> None:
    one, other = pair
    for number in range(250):
        one.post("h1/x", f"m/{number:03}", bytes(1000))
    other.drop([f"m/{number:03}" for number in range(249)])

    async def run() -> None:
        source = other.follow()
        assert (await following(source)).keys() == {"m/249"}
        await source.aclose()

    asyncio.run(run())


def test_a_large_message(pair: tuple[EtcdMail, EtcdMail]) -> None:
    one, other = pair
    one.post("h1/x", "large", bytes(1 << 20))

    async def run() -> None:
        source = other.follow()
        assert await following(source) == {"large": bytes(1 << 20)}
        await source.aclose()

    asyncio.run(run())


def test_an_outage_is_waited_for(pair: tuple[EtcdMail, EtcdMail], etcd: EtcdCluster) -> None:
    one, other = pair

    async def run() -> None:
        source = other.follow()
        waiting = asyncio.ensure_future(following(source))
        await asyncio.sleep(0)
        await asyncio.to_thread(etcd.members[0].kill)
        await asyncio.to_thread(etcd.members[0].start)
        await asyncio.to_thread(one.post, "h1/x", "after", b"it")
        assert await waiting == {"after": b"it"}
        await source.aclose()

    asyncio.run(run())


def test_a_host_by_itself_writes_to_nobody() -> None:
    with pytest.raises(StoreError, match="host h2 can't be written to"):
        NoMail().post("h2", "key", b"value")
