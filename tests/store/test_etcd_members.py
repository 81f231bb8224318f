"""Members of an etcd that are killed at random, beside writers whose clocks disagree."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, closing, contextmanager
from pathlib import Path

import pytest
from compiler_intents import machine, port
from etcd_server import EtcdCluster, etcd_cluster
from store_places import DEADLINE_S, network

from heddle.errors import StoreError
from heddle.intent.model import AnyResource, Kind, Network
from heddle.store.etcd.store import EtcdStore
from heddle.store.interface import Batch, Snapshot, Transaction

KILLS = 8
PAUSES = (0.1, 0.8)  # seconds: a member is down for so long, and all are up
# Seconds by which clocks are wrong. Journals that are an hour old count as abandoned.
SKEWS = (0.0, -7200.0, 7200.0)
LARGE = 60  # networks; more than one transaction of etcd holds, with claims and index


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> threading.local:
    """``skew`` is by how much the clock of a thread is wrong."""
    own, right = threading.local(), time.time
    monkeypatch.setattr(time, "time", lambda: right() + getattr(own, "skew", 0.0))
    return own


class Writer:
    """Writes its networks, one or all, again and again, each time with another number."""

    def __init__(self, number: int, store: EtcdStore, clocks: threading.local) -> None:
        self.number = number
        self.acknowledged: dict[str, int] = {}  # by network
        self.refused: dict[str, list[int]] = {}  # of which nobody knows whether they happened
        self._store = store
        self._clocks = clocks

    def run(self, ended: threading.Event) -> None:
        self._clocks.skew = SKEWS[self.number]
        turn = 0
        while not ended.is_set():
            turn += 1
            names = [f"w{self.number}-{n}" for n in range(LARGE if turn % 3 == 0 else 1)]
            self._write(names, turn)

    def _write(self, names: list[str], turn: int) -> None:
        vnis = range(self.number * LARGE + 1, (self.number + 1) * LARGE + 1)
        put = [
            network(name, vni, domain=f"d{turn}") for name, vni in zip(names, vnis, strict=False)
        ]
        try:
            self._store.commit(Transaction(put=put))
        except StoreError:
            for name in names:
                self.refused.setdefault(name, []).append(turn)
        else:
            self.acknowledged.update(dict.fromkeys(names, turn))

    def check(self, stored: dict[str, int]) -> None:
        """The last that was acknowledged is there, or what was begun after it."""
        mine = {name: turn for name, turn in stored.items() if name.startswith(f"w{self.number}-")}
        assert mine.keys() >= self.acknowledged.keys()
        for name, turn in mine.items():
            last = self.acknowledged.get(name, 0)
            later = [one for one in self.refused.get(name, []) if one > last]
            assert turn in (last, *later), f"{name}: {turn}, of {last} or {later}"


@contextmanager
def writers(cluster: EtcdCluster, clocks: threading.local) -> Iterator[list[Writer]]:
    """They write while the block runs."""
    ended = threading.Event()
    stores = [EtcdStore(cluster.settings, f"h{number}") for number in range(len(SKEWS))]
    found = [Writer(number, store, clocks) for number, store in enumerate(stores)]
    with ThreadPoolExecutor(len(found)) as pool:
        running = [pool.submit(writer.run, ended) for writer in found]
        try:
            yield found
        finally:
            ended.set()
        for one in running:
            one.result()
    for store in stores:
        store.close()


class Following:
    """Follows as the agent of a host does that has a port in a network of each writer."""

    HOST = "h1"

    def __init__(self, store: EtcdStore) -> None:
        self._store = store
        self._heard = threading.Condition()
        self._objects: dict[tuple[Kind, str], AnyResource] = {}
        self._thread = threading.Thread(target=lambda: asyncio.run(self._follow()))
        self._ended = False
        store.commit(Transaction(put=[*self._ports()]))

    def _ports(self) -> Iterator[AnyResource]:
        yield machine("m1", host=self.HOST)
        for number in range(len(SKEWS)):
            network_id = network(f"w{number}-0", 1).id
            yield port(number, 2, "m1", network_id=network_id, host=self.HOST, fixed_ips=())

    def __enter__(self) -> Following:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._store.catch_up(self.HOST)  # so that it is told something
        self._thread.join()

    async def _follow(self) -> None:
        async with aclosing(self._store.follow(self.HOST)) as followed:
            async for told in followed:
                if self._ended:
                    return
                match told:
                    case Snapshot():
                        self._take(
                            (kind, name, value)
                            for kind, objects in told.objects.items()
                            for name, value in objects.items()
                        )
                    case Batch():
                        self._take((c.kind, c.id, c.value) for c in told.changes)

    def _take(self, changes: Iterable[tuple[Kind, str, AnyResource | None]]) -> None:
        with self._heard:
            for kind, name, value in changes:
                if value is not None:
                    self._objects[kind, name] = value
            self._heard.notify_all()

    def wait_for(self, networks: Sequence[AnyResource]) -> None:
        def holds_all() -> bool:
            return all(self._objects.get((one.kind, one.id)) == one for one in networks)

        with self._heard:
            assert self._heard.wait_for(holds_all, DEADLINE_S)


def test_no_acknowledged_write_is_lost(tmp_path: Path, clocks: threading.local) -> None:
    chance = random.Random(4)  # noqa: S311 (no secret)
    with (
        etcd_cluster(tmp_path / "etcd" / "data", members=3) as cluster,
        closing(EtcdStore(cluster.settings, Following.HOST)) as store,
        Following(store) as following,
    ):
        with writers(cluster, clocks) as all_of_them:
            for _ in range(KILLS):
                member = chance.choice(cluster.members)
                member.kill()
                time.sleep(chance.uniform(*PAUSES))
                member.start()
                time.sleep(chance.uniform(*PAUSES))
        cluster.wait(cluster.settings)
        with closing(EtcdStore(cluster.settings, "h9")) as reader:
            networks = reader.snapshot().objects[Kind.NETWORK].values()
        following.wait_for([one for one in networks if one.name.endswith("-0")])
    stored = {one.name: int(one.domain[1:]) for one in networks if isinstance(one, Network)}
    for writer in all_of_them:
        assert any(turn >= 3 for turn in writer.acknowledged.values())
        writer.check(stored)


def test_clocks_that_disagree_cost_no_large_commit(tmp_path: Path, clocks: threading.local) -> None:
    """Journals of who is late look abandoned to the others, which take them away."""
    with (
        etcd_cluster(tmp_path / "etcd" / "data") as cluster,
        ThreadPoolExecutor(len(SKEWS)) as pool,
    ):

        def write(number: int) -> None:
            clocks.skew = SKEWS[number]
            with closing(EtcdStore(cluster.settings, f"h{number}")) as store:
                for turn in range(5):
                    first = (number * 5 + turn) * LARGE + 1
                    put = [network(f"{number}-{turn}-{n}", first + n) for n in range(LARGE)]
                    store.commit(Transaction(put=put))

        list(pool.map(write, range(len(SKEWS))))
        with closing(EtcdStore(cluster.settings, "h9")) as store:
            assert len(store.snapshot().objects[Kind.NETWORK]) == len(SKEWS) * 5 * LARGE
