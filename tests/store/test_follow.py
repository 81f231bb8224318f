"""What a host follows: all that it needs, and no more, through whatever happens."""

from __future__ import annotations

import asyncio
import random
import shutil
import threading
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, closing, suppress
from pathlib import Path

import pytest
from compiler_intents import (
    dual_stack,
    group,
    machine,
    network,
    port,
    qos,
    rule,
    subnet4,
)
from compiler_states import STATES
from etcd_server import EtcdCluster, etcd_cluster
from store_places import DEADLINE_S, EtcdPlace, Place

from heddle.compiler.fragment import UNLIMITED
from heddle.compiler.host import Compiler
from heddle.intent.claims import claims_of
from heddle.intent.model import MODELS, AnyResource, Kind
from heddle.store.cache import IntentCache
from heddle.store.etcd import follow, journal
from heddle.store.etcd.client import EtcdClient
from heddle.store.etcd.connection import LostError
from heddle.store.etcd.follow import Follower, Key
from heddle.store.etcd.layout import PENDING, PROGRESS, wake_key
from heddle.store.etcd.messages import Event, WatchAnswer, read
from heddle.store.etcd.store import EtcdStore
from heddle.store.etcd.watch import Waker, Watching
from heddle.store.interface import Batch, Outage, Snapshot, Store, Transaction
from heddle.store.scope import Scope

HOST = "h1"
ME = machine("m1", host=HOST)


class Followed:
    """What a follower has been told, put together."""

    def __init__(self, store: Store, host: str = HOST) -> None:
        self._store, self._host = store, host
        self._told = store.follow(host)
        self.objects: dict[tuple[Kind, str], AnyResource] = {}
        self.compiler = Compiler(host, UNLIMITED)
        self.revision = 0
        self.outages: list[str] = []
        self.batches = 0

    async def until(self, done: Callable[[], bool]) -> None:
        """Take what is told until that holds."""
        while not done():
            self.take(await anext(self._told))

    async def catch_up(self) -> None:
        """Take everything that is stored now."""
        revision = await asyncio.to_thread(lambda: self._store.snapshot().revision)
        await asyncio.to_thread(self._store.catch_up, self._host)
        await self.until(lambda: self.revision >= revision)

    def take(self, told: Snapshot | Batch | Outage) -> None:
        match told:
            case Snapshot():
                self.objects = {
                    (kind, name): value
                    for kind, objects in told.objects.items()
                    for name, value in objects.items()
                }
                self.compiler = Compiler(self._host, UNLIMITED)
                self.compiler.update((*key, value) for key, value in self.objects.items())
                self.revision = told.revision
            case Batch():
                self.batches += 1
                for change in told.changes:
                    if change.value is None:
                        del self.objects[change.kind, change.id]
                    else:
                        self.objects[change.kind, change.id] = change.value
                self.compiler.update((c.kind, c.id, c.value) for c in told.changes)
                self.revision = told.revision
            case Outage():
                self.outages.append(told.reason)

    def field(self, one: AnyResource, name: str) -> object:
        """A field of an object, as it was told last."""
        return getattr(self.objects[one.kind, one.id], name)

    @property
    def names(self) -> set[str]:
        return {f"{kind}:{name}" for kind, name in self.objects}


def following(
    store: Store, scenario: Callable[[Followed], Awaitable[None]], host: str = HOST
) -> None:
    async def run() -> None:
        followed = Followed(store, host)
        async with asyncio.timeout(DEADLINE_S), aclosing(followed._told):
            await scenario(followed)

    asyncio.run(run())


def replace_all(store: Store, wanted: list[AnyResource]) -> None:
    """Make the store hold these and no others."""
    stored = store.snapshot().objects
    keys = {(one.kind, one.id) for one in wanted}
    gone = [(k, i) for k, objects in stored.items() for i in objects if (k, i) not in keys]
    store.commit(Transaction(put=wanted, delete=gone))


def names_of(*objects: AnyResource) -> set[str]:
    return {f"{one.kind}:{one.id}" for one in objects}


def compatible(wanted: list[AnyResource]) -> bool:
    """Whether etcd takes it: no two objects claim the same."""
    claims = [claim for one in wanted for claim in claims_of(one)]
    return len(claims) == len(set(claims))


def test_any_state_after_any_other_compiles_as_if_all_were_followed(place: Place) -> None:
    # Without what agents tell their compilers by themselves, as of paths.
    stored = {name: [one for one in state if one.kind in MODELS] for name, state in STATES.items()}
    states = {name: state for name, state in stored.items() if compatible(state)}
    chance = random.Random(7)  # noqa: S311 - no secret
    order = [name for _ in range(3) for name in chance.sample(sorted(states), len(states))]
    with closing(place.open()) as store:

        async def scenario(followed: Followed) -> None:
            for name in order:
                await asyncio.to_thread(replace_all, store, states[name])
                await followed.catch_up()
                whole = Compiler(HOST, UNLIMITED)
                whole.update((one.kind, one.id, one) for one in states[name])
                assert followed.compiler.state == whole.state, name

        following(store, scenario)


def test_a_host_without_ports_follows_nothing_of_others(etcd_place: EtcdPlace) -> None:
    others = [*dual_stack(1, 2), machine("m9", host="h2"), port(1, 5, "m9", host="h2")]
    with closing(etcd_place.open()) as store:
        store.commit(Transaction(put=others))

        async def scenario(followed: Followed) -> None:
            await followed.catch_up()
            assert followed.objects == {}
            await asyncio.to_thread(store.commit, Transaction(put=[network(3)]))
            await followed.catch_up()
            assert followed.objects == {}
            assert followed.batches <= 2  # of catching up alone

        following(store, scenario)


def test_interest_grows_and_shrinks_with_ports(etcd_place: EtcdPlace) -> None:
    routed = list(dual_stack(1, 2))
    far = [network(3), subnet4(3), port(3, 7, "m9", host="h2")]
    near = [port(2, 8, "m9", host="h2", security_group_ids=("db",))]
    web, db = [group(), rule()], [group("db", 2), rule(2, "db")]
    mine = [ME, port(1, 5, "m1", security_group_ids=("web",))]
    with closing(etcd_place.open()) as store:
        store.commit(Transaction(put=[*routed, *far, *near, *web, *db]))

        async def scenario(followed: Followed) -> None:
            await followed.catch_up()
            assert followed.objects == {}
            await asyncio.to_thread(store.commit, Transaction(put=mine))
            await followed.catch_up()
            assert followed.names == names_of(*routed, *near, *mine, *web)
            # A change in the network behind the router is followed.
            moved = near[0].model_copy(update={"host": "h3"})
            await asyncio.to_thread(store.commit, Transaction(put=[moved]))
            await followed.until(
                lambda: getattr(followed.objects[Kind.PORT, moved.id], "host", "") == "h3"
            )
            gone = [(one.kind, one.id) for one in mine]
            await asyncio.to_thread(store.commit, Transaction(delete=gone))
            await followed.catch_up()
            assert followed.objects == {}

        following(store, scenario)


def test_a_port_that_comes_and_goes_to_another_host(etcd_place: EtcdPlace) -> None:
    mine = port(1, 5, "m1", host="h2", qos_policy_id="q")
    with closing(etcd_place.open()) as store:
        store.commit(
            Transaction(put=[network(1), subnet4(1), machine("m1", host="h2"), mine, qos("q")])
        )

        def move(**fields: str) -> None:
            put = [mine.model_copy(update=fields), ME.model_copy(update=fields)]
            store.commit(Transaction(put=put))

        async def scenario(followed: Followed) -> None:
            await followed.catch_up()
            assert followed.objects == {}
            await asyncio.to_thread(move, host="h2", migrating_to=HOST)
            await followed.catch_up()
            everything = names_of(network(1), subnet4(1), ME, mine, qos("q"))
            assert followed.names == everything
            await asyncio.to_thread(move, host=HOST, migrating_to="")
            await followed.catch_up()
            assert followed.names == everything
            await asyncio.to_thread(move, host="h2", migrating_to="")
            await followed.catch_up()
            assert followed.objects == {}

        following(store, scenario)


def test_a_large_commit_comes_whole(etcd_place: EtcdPlace) -> None:
    many = [port(1, n, f"m{n}", host="h2") for n in range(10, 250)]
    with closing(etcd_place.open()) as store:
        store.commit(Transaction(put=[network(1), subnet4(1), ME, port(1, 5, "m1")]))

        async def scenario(followed: Followed) -> None:
            await followed.catch_up()
            before = followed.batches
            await asyncio.to_thread(store.commit, Transaction(put=many))
            await followed.until(lambda: len(followed.objects) == 4 + len(many))
            assert followed.batches == before + 1

        following(store, scenario)


def write_and_die(place: EtcdPlace, objects: list[AnyResource]) -> None:
    """Decide on a large commit, and leave it to others to carry it out."""

    def die(client: object) -> None:
        raise KeyboardInterrupt

    with (
        closing(place.open()) as store,
        pytest.MonkeyPatch.context() as patch,
        suppress(KeyboardInterrupt),
    ):
        patch.setattr(journal, "carry_out", die)
        store.commit(Transaction(put=objects))


def test_a_large_commit_whose_writer_died_is_finished_by_who_follows(
    etcd_place: EtcdPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    many: list[AnyResource] = [port(1, n, f"m{n}", host="h2") for n in range(10, 250)]
    monkeypatch.setattr(follow, "_HOLD_SECONDS", (0.3, 0.3))
    with closing(etcd_place.open()) as store:
        store.commit(Transaction(put=[network(1), subnet4(1), ME, port(1, 5, "m1")]))

        async def scenario(followed: Followed) -> None:
            await followed.catch_up()
            await asyncio.to_thread(write_and_die, etcd_place, many)
            assert len(followed.objects) == 4
            await followed.until(lambda: len(followed.objects) == 4 + len(many))

        following(store, scenario)


def test_not_all_who_follow_finish_it_at_once(
    etcd_place: EtcdPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = [f"h{number}" for number in range(1, 5)]
    mine = [port(1, n, f"m{n}", host=host) for n, host in enumerate(hosts, 2)]
    many: list[AnyResource] = [port(1, n, f"m{n}", host="h9") for n in range(10, 250)]
    finishers = []

    def finish(client: EtcdClient) -> None:
        finishers.append(client)
        journal.carry_out(client)

    monkeypatch.setattr(follow, "_HOLD_SECONDS", (0.3, 6.0))
    monkeypatch.setattr(follow, "carry_out", finish)
    with closing(etcd_place.open()) as store:
        store.commit(Transaction(put=[network(1), subnet4(1), *mine]))

        async def has_all(one: Followed) -> None:
            await one.until(lambda: len(one.objects) == 2 + len(mine) + len(many))

        async def scenario(first: Followed) -> None:
            followers = [first, *(Followed(store, host) for host in hosts[1:])]
            async with AsyncExitStack() as stack:
                for one in followers:
                    await stack.enter_async_context(aclosing(one._told))
                    await one.catch_up()
                await asyncio.to_thread(write_and_die, etcd_place, many)
                await asyncio.gather(*map(has_all, followers))

        following(store, scenario)
    assert 1 <= len(finishers) < len(hosts)


def test_who_is_not_concerned_hears_little_of_a_large_commit(etcd_place: EtcdPlace) -> None:
    many = [port(1, n, f"m{n}", host="h2") for n in range(10, 250)]
    heard: list[bytes] = []

    def hear(follower: follow.Follower, events: list[Event]) -> None:
        heard.extend(event.key for event in events)
        hear_them(follower, events)

    with closing(etcd_place.open()) as store, pytest.MonkeyPatch.context() as patch:
        store.commit(Transaction(put=[network(1), subnet4(1), ME]))
        hear_them = follow.Follower._hear
        patch.setattr(follow.Follower, "_hear", hear)

        async def scenario(followed: Followed) -> None:
            await followed.catch_up()
            batches = followed.batches
            heard.clear()
            await asyncio.to_thread(store.commit, Transaction(put=many))
            await followed.catch_up()
            assert followed.batches - batches == heard.count(wake_key(HOST))  # by catch_up
            assert followed.names == names_of(ME)

        following(store, scenario)
    assert heard.count(PENDING) == 2
    assert set(heard) == {PENDING, wake_key(HOST)}


def test_a_large_commit_comes_whole_though_etcd_is_lost_within(
    etcd_place: EtcdPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    many: list[AnyResource] = [port(1, n, f"m{n}", host="h2") for n in range(10, 250)]
    heard = threading.Event()

    def hear(follower: follow.Follower, events: list[Event]) -> None:
        hear_them(follower, events)
        if any(b"/port/" in event.key for event in events):
            heard.set()

    def one_step(client: EtcdClient) -> None:
        pending, progress = client.reads([read(PENDING), read(PROGRESS)]).ranges
        journal._step(client, pending.items[0], progress.items[0])

    hear_them = follow.Follower._hear
    monkeypatch.setattr(follow.Follower, "_hear", hear)
    with closing(etcd_place.open()) as store, closing(etcd_place.open()) as other:
        store.commit(Transaction(put=[network(1), subnet4(1), ME, port(1, 5, "m1")]))

        def lose_it() -> None:
            assert heard.wait(DEADLINE_S)
            store._client._connection.fail("cut by the test")  # type: ignore[union-attr]
            other.snapshot()  # which finishes it

        async def scenario(followed: Followed) -> None:
            await followed.catch_up()
            heard.clear()
            await asyncio.to_thread(write_and_die, etcd_place, many)
            with closing(EtcdClient(etcd_place.settings)) as client:
                await asyncio.to_thread(one_step, client)
            losing = asyncio.create_task(asyncio.to_thread(lose_it))
            await followed.until(lambda: len(followed.objects) == 4 + len(many))
            await losing

        following(store, scenario)


class Order:
    """Lets a follower hear of a large commit itself before all that it changed, or
    after: watches that catch up do so one by one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, itself_first: bool) -> None:
        self._itself_first = itself_first
        self._next = Watching.next
        self._ready: list[WatchAnswer | None] = []

        def told(watching: Watching, seconds: float | None) -> WatchAnswer | None:
            return self._told(watching, seconds)

        monkeypatch.setattr(Watching, "next", told)

    def _told(self, watching: Watching, seconds: float | None) -> WatchAnswer | None:
        if not self._ready:
            self._ready = self._all(watching, self._next(watching, seconds))
        return self._ready.pop(0)

    def _all(self, watching: Watching, first: WatchAnswer | None) -> list[WatchAnswer | None]:
        of_changes: list[WatchAnswer | None] = []
        of_itself: list[WatchAnswer | None] = []
        answer = first
        while answer is not None:
            is_itself = any(event.key == PENDING for event in answer.events)
            (of_itself if is_itself else of_changes).append(answer)
            answer = self._next(watching, 0.5)
        parts = [of_itself, of_changes] if self._itself_first else [of_changes, of_itself]
        return [*parts[0], None, *parts[1], None]  # None: nothing more for now


@pytest.mark.parametrize("itself_first", [True, False])
def test_the_revision_of_a_large_commit_is_told_in_whatever_order_it_comes(
    etcd_place: EtcdPlace, monkeypatch: pytest.MonkeyPatch, itself_first: bool
) -> None:
    many: list[AnyResource] = [port(1, n, f"m{n}", host="h2") for n in range(10, 100)]
    with closing(etcd_place.open()) as store:
        store.commit(Transaction(put=[network(1), subnet4(1), ME, port(1, 5, "m1")]))

        async def scenario(followed: Followed) -> None:
            await followed.catch_up()
            Order(monkeypatch, itself_first=itself_first)
            revision = await asyncio.to_thread(store.commit, Transaction(put=many))
            await followed.until(lambda: followed.revision >= revision)
            assert followed.revision == revision
            assert len(followed.objects) == 4 + len(many)

        following(store, scenario)


def test_what_could_not_be_loaded_is_told_later(
    etcd_place: EtcdPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = follow.Follower._load
    failures = [LostError("cut by the test"), LostError("cut by the test")]

    def load_or_fail(follower: follow.Follower, scopes: list[Scope], revision: int) -> list[Key]:
        if failures and any(scope.kind == "network" for scope in scopes):
            raise failures.pop()
        return load(follower, scopes, revision)

    monkeypatch.setattr(follow.Follower, "_load", load_or_fail)
    with closing(etcd_place.open()) as store:
        store.commit(Transaction(put=[network(1), subnet4(1), ME]))

        async def scenario(followed: Followed) -> None:
            await followed.catch_up()
            mine = port(1, 5, "m1")
            await asyncio.to_thread(store.commit, Transaction(put=[mine]))
            await followed.until(lambda: len(followed.objects) == 4)
            assert followed.names == names_of(ME, network(1), subnet4(1), mine)

        following(store, scenario)
    assert not failures


def test_what_etcd_has_forgotten_meanwhile_is_read_anew(
    etcd: EtcdCluster, etcd_place: EtcdPlace
) -> None:
    wanted = [network(1), subnet4(1), ME, port(1, 5, "m1")]
    with closing(etcd_place.open()) as store, closing(etcd_place.open()) as other:
        store.commit(Transaction(put=[*wanted, network(2)]))

        def meanwhile() -> None:
            other.commit(Transaction(delete=[(Kind.PORT, wanted[-1].id)]))
            other.commit(Transaction(put=[network(1).model_copy(update={"mtu": 1400})]))
            other.commit(Transaction(put=[port(2, 5, "m1")]))
            etcd.compact()

        async def scenario(followed: Followed) -> None:
            await followed.catch_up()
            assert followed.names == names_of(*wanted)
            # Its connection is cut while all of that happens.
            store._client._connection.fail("cut by the test")  # type: ignore[union-attr]
            await asyncio.to_thread(meanwhile)
            await followed.catch_up()
            assert followed.names == names_of(ME, network(2), port(2, 5, "m1"))

        following(store, scenario)


def test_an_outage_is_told_once_and_what_changed_comes_after_it(tmp_path: Path) -> None:
    with etcd_cluster(tmp_path / "etcd" / "data") as cluster:
        (member,) = cluster.members
        wanted = [network(1), subnet4(1), ME, port(1, 5, "m1")]
        cache = tmp_path / "cache.sqlite"
        with closing(EtcdStore(cluster.settings, HOST, cache)) as store:
            store.commit(Transaction(put=wanted))

            async def scenario(followed: Followed) -> None:
                await followed.catch_up()
                member.kill()
                await followed.until(lambda: bool(followed.outages))
                assert "Connection refused" in followed.outages[0]
                assert followed.names == names_of(*wanted)
                member.start()
                await asyncio.to_thread(cluster.wait, cluster.settings)
                with closing(EtcdStore(cluster.settings, "h2")) as other:
                    put = [network(1).model_copy(update={"mtu": 1400})]
                    await asyncio.to_thread(other.commit, Transaction(put=put))
                await followed.until(lambda: len(followed.outages) == 2)
                assert followed.outages[1] == ""
                await followed.until(lambda: followed.field(network(1), "mtu") == 1400)

            following(store, scenario)


@pytest.mark.parametrize("restarted", [False, True])
def test_an_etcd_that_has_lost_its_data_takes_nothing_away(tmp_path: Path, restarted: bool) -> None:
    """Also not once it has grown to the revisions of before."""
    cache = tmp_path / "cache.sqlite"
    folder = tmp_path / "etcd" / "data"
    with etcd_cluster(folder) as cluster, closing(EtcdClient(cluster.settings)) as client:
        follower = Follower(client, HOST, Waker(), IntentCache(cache))
        follower.next()
        with closing(EtcdStore(cluster.settings, "h2")) as other:
            other.commit(Transaction(put=[network(1), subnet4(1), ME, port(1, 5, "m1")]))
        follower.next()
        if restarted:
            follower.close()
            follower = Follower(client, HOST, Waker(), IntentCache(cache))
        _lose_data(cluster)
        begun = _told_until_lost(follower)
        assert len(begun) == restarted
        assert all(ME.id in snapshot.objects[Kind.MACHINE] for snapshot in begun)
        with closing(EtcdStore(cluster.settings, "h2")) as other:
            for mtu in range(1400, 1420):
                put = [network(2).model_copy(update={"mtu": mtu})]
                other.commit(Transaction(put=put))
        for _ in range(3):
            assert follower.next() == []
        follower.close()
        cache.unlink()
        (anew,) = Follower(client, HOST, Waker(), IntentCache(cache)).next()
        assert isinstance(anew, Snapshot)
        assert ME.id not in anew.objects[Kind.MACHINE]


def _told_until_lost(follower: Follower) -> list[Snapshot]:
    """What it begins with, if it does."""
    found: list[Snapshot] = []
    while True:
        for told in follower.next():
            assert not isinstance(told, Batch)
            if isinstance(told, Snapshot):
                found.append(told)
            elif "its data is lost" in told.reason:
                return found


def _lose_data(cluster: EtcdCluster) -> None:
    for member in cluster.members:
        member.kill()
        shutil.rmtree(member.folder)
        member.start()
    cluster.wait(cluster.settings)


def test_without_etcd_it_begins_with_what_was_seen_last(tmp_path: Path) -> None:
    with etcd_cluster(tmp_path / "etcd" / "data") as cluster:
        (member,) = cluster.members
        wanted = [network(1), subnet4(1), ME, port(1, 5, "m1")]
        cache = tmp_path / "state" / "cache.sqlite"
        with closing(EtcdStore(cluster.settings, HOST, cache)) as store:
            store.commit(Transaction(put=wanted))
            following(store, lambda followed: followed.catch_up())
            store.commit(Transaction(delete=[(Kind.PORT, wanted[-1].id)], put=[network(2)]))
        member.kill()
        with closing(EtcdStore(cluster.settings, HOST, cache)) as store:

            async def scenario(followed: Followed) -> None:
                await followed.until(lambda: bool(followed.objects))
                assert followed.names == names_of(*wanted)
                await followed.until(lambda: bool(followed.outages))
                member.start()
                await followed.until(lambda: followed.outages[-1] == "")
                await followed.catch_up()
                assert followed.names == names_of(ME)

            following(store, scenario)
