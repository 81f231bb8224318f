"""etcd that dies, hangs, forgets the past or has no space left."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import aclosing, closing
from pathlib import Path

import pytest
from etcd_server import EtcdCluster, etcd_cluster, free_ports
from store_places import EtcdPlace, network, take

from heddle.errors import StoreError
from heddle.intent.model import Kind, Network
from heddle.settings import EtcdSettings, Member
from heddle.store.etcd import messages
from heddle.store.etcd.client import EtcdClient
from heddle.store.etcd.layout import PENDING
from heddle.store.etcd.store import EtcdStore
from heddle.store.etcd.wire import fields, number
from heddle.store.interface import CompactedError, Outage, Snapshot, Transaction

QUOTA = 16 << 20


@pytest.fixture
def three(tmp_path: Path) -> Iterator[EtcdCluster]:
    with etcd_cluster(tmp_path / "etcd" / "data", members=3) as cluster:
        yield cluster


def test_nobody_there_is_told_with_the_endpoints() -> None:
    (port,) = free_ports(1)
    settings = EtcdSettings((Member(f"http://127.0.0.1:{port}", "127.0.0.1", port, False),))
    with (
        closing(EtcdStore(settings, "h1")) as store,
        pytest.raises(StoreError, match=rf"etcd .*127\.0\.0\.1:{port}: Connection refused"),
    ):
        store.snapshot()


def test_one_of_three_killed_at_a_time_loses_nothing(three: EtcdCluster) -> None:
    each = 40
    with closing(EtcdStore(three.settings, "h1")) as store:
        for number, member in enumerate(three.members):
            killing = threading.Timer(0.1, member.kill)  # in the middle of it
            killing.start()
            for index in range(number * each, (number + 1) * each):
                store.commit(Transaction(put=[network(f"n{index}", index + 1)]))
            killing.join()
            store.put_status({("port", "p"): {"killed": number}})
            member.start()
        count = len(three.members) * each
        assert len(store.snapshot().objects[Kind.NETWORK]) == count
        batches = take(store, count, after=0)
    assert [batch[0].id for batch in batches] == [f"id-n{index}" for index in range(count)]


def test_a_member_that_hangs_is_left_for_another(three: EtcdCluster) -> None:
    with closing(EtcdStore(three.settings, "h1")) as store:
        store.commit(Transaction(put=[network("n0", 1)]))
        for index, member in enumerate(three.members, start=1):
            member.freeze(True)
            try:
                store.commit(Transaction(put=[network(f"n{index}", index + 1)]))
            finally:
                member.freeze(False)
            three.wait(three.settings)
        assert len(store.snapshot().objects[Kind.NETWORK]) == 4


def test_without_a_majority_a_follower_is_told_so(three: EtcdCluster) -> None:
    async def scenario(store: EtcdStore) -> None:
        told = store.follow("h1")
        async with asyncio.timeout(90), aclosing(told):
            assert isinstance(await anext(told), Snapshot)
            for member in three.members[:2]:
                member.kill()
            found = await anext(told)
            assert isinstance(found, Outage)
            assert found.reason
            for member in three.members[:2]:
                member.start()
            assert await anext(told) == Outage("")

    with closing(EtcdStore(three.settings, "h1")) as store:
        asyncio.run(scenario(store))


def test_a_watch_goes_on_after_etcd_was_gone(tmp_path: Path) -> None:
    with etcd_cluster(tmp_path / "etcd" / "data") as cluster:
        (member,) = cluster.members
        with closing(EtcdStore(cluster.settings, "h1")) as store:
            store.commit(Transaction(put=[network("n0", 1)]))

            def interrupt(seen: int) -> None:
                member.kill()
                member.start()
                cluster.wait(cluster.settings)
                store.commit(Transaction(put=[network(f"n{seen}", seen + 1)]))

            batches = take(
                store, 4, after=0, then=lambda seen: interrupt(seen) if seen < 4 else None
            )
    assert [batch[0].id for batch in batches] == [f"id-n{index}" for index in range(4)]


def test_a_watch_of_what_etcd_has_forgotten_is_told(
    etcd: EtcdCluster, etcd_place: EtcdPlace
) -> None:
    with closing(etcd_place.open()) as store:
        first = store.commit(Transaction(put=[network("a", 1)]))
        store.commit(Transaction(put=[network("b", 2)]))
        last = store.commit(Transaction(put=[network("c", 3)]))
        etcd.compact()
        with pytest.raises(CompactedError, match="no longer kept"):
            take(store, 1, after=first)
        assert store.snapshot().revision == last


def test_a_watch_goes_on_when_only_facts_were_forgotten(
    etcd: EtcdCluster, etcd_place: EtcdPlace
) -> None:
    with closing(etcd_place.open()) as store:
        revision = store.commit(Transaction(put=[network("a", 1)]))
        for number in range(10):
            store.put_status({("port", "p"): {"number": number}})
        etcd.compact()
        store.commit(Transaction(put=[network("b", 2)]))
        assert [batch[0].id for batch in take(store, 1, after=revision)] == ["id-b"]


@pytest.fixture
def small(tmp_path: Path) -> Iterator[EtcdCluster]:
    """etcd with room for 16 MiB."""
    options = [f"--quota-backend-bytes={QUOTA}"]
    with etcd_cluster(tmp_path / "etcd" / "data", options=options) as cluster:
        yield cluster


def make_room(cluster: EtcdCluster) -> None:
    """What an operator does about it."""
    cluster.compact()
    with closing(EtcdClient(cluster.settings)) as client:
        client.read("/etcdserverpb.Maintenance/Defragment", b"", patience=30)
        for name, raised in fields(client.read(messages.ALARM, b"")):
            if name == 2 and isinstance(raised, bytes):
                member = dict(fields(raised))[1]
                assert isinstance(member, int)
                disarm = number(1, 2) + number(2, member) + number(3, messages.ALARM_NOSPACE)
                client.write(messages.ALARM, disarm)


def commit_until_full(store: EtcdStore, transactions: Iterator[Transaction]) -> tuple[int, str]:
    """How many were committed, and what was said about the next."""
    for count, transaction in enumerate(transactions):
        try:
            store.commit(transaction)
        except StoreError as error:
            return count, str(error)
    raise AssertionError("16 MiB held all of it")


def domains(store: EtcdStore) -> set[str]:
    """First letters of what networks have as their domain."""
    networks = store.snapshot().objects[Kind.NETWORK].values()
    return {one.domain[:1] for one in networks if isinstance(one, Network)}


def test_out_of_space_is_named_and_loses_nothing(small: EtcdCluster) -> None:
    def bulky(number: int) -> Transaction:
        put = [network("a", 1, domain="x" * 100_000 + str(number))]
        return Transaction(put=[*put, network(f"n{number}", number + 2)])

    with closing(EtcdStore(small.settings, "h1")) as store:
        count, message = commit_until_full(store, map(bulky, range(1000)))
        assert "etcd is out of space (alarm NOSPACE)" in message
        assert "\n" not in message
        before = store.snapshot()
        assert len(before.objects[Kind.NETWORK]) == count + 1
        with pytest.raises(StoreError, match="etcd is out of space"):
            store.put_status({("port", "p"): {"state": "active"}})
        make_room(small)
        assert store.commit(Transaction(put=[network("last", 9999)])) > before.revision
        assert len(store.snapshot().objects[Kind.NETWORK]) == count + 2


def test_out_of_space_within_a_large_commit_halves_nothing(small: EtcdCluster) -> None:
    marks = "abcdefghijklmnop"

    def large(mark: str) -> Transaction:
        put = [network(f"n{i}", i + 1, domain=mark * 4000) for i in range(500)]
        return Transaction(put=put)

    with closing(EtcdStore(small.settings, "h1")) as store:
        count, message = commit_until_full(store, map(large, marks))
        assert "etcd is out of space" in message
        before = domains(store)
        with closing(EtcdClient(small.settings)) as client:
            was_decided = bool(client.range(PENDING).items)
        # The last step may have been the one that found out.
        assert before in ({marks[count - 1]}, {marks[count]})
        assert not was_decided or before == {marks[count - 1]}
        make_room(small)
        assert domains(store) == ({marks[count]} if was_decided else before)
        store.commit(large("z"))
        assert domains(store) == {"z"}


def test_the_answer_to_a_lost_write_is_found_out(tmp_path: Path) -> None:
    """etcd hangs while a commit is on its way, and dies with or without it."""
    with etcd_cluster(tmp_path / "etcd" / "data") as cluster:
        (member,) = cluster.members
        with closing(EtcdStore(cluster.settings, "h1")) as store:
            revisions = [store.commit(Transaction(put=[network("a", 1)]))]
            for number in range(5):

                def restart() -> None:
                    member.kill()
                    member.start()

                timer = threading.Timer(0.002 * number, restart)
                timer.start()
                for index in range(5):
                    put = [network("a", 1, domain=f"{number}.{index}")]
                    revisions.append(store.commit(Transaction(put=put)))
                timer.join()
            assert sorted(set(revisions)) == revisions
            found = store.snapshot().objects[Kind.NETWORK]["id-a"]
            assert found.revision_number == len(revisions)
