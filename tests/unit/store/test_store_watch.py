"""Watchers see every change once and in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
from store_processes import exit_code, in_child

from heddle.intent.model import Kind, Network
from heddle.store.interface import Change, CompactedError, Transaction
from heddle.store.sqlite import SqliteStore

DEADLINE_S = 30


def network(name: str, mtu: int = 1450) -> Network:
    return Network(id=f"id-{name}", name=name, vni=7, mtu=mtu)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    opened = SqliteStore(path)
    yield opened
    opened.close()


def take(
    store: SqliteStore, count: int, *, after: int, then: Callable[[int], None] | None = None
) -> list[list[Change]]:
    """The next ``count`` transactions; ``then`` is called with how many came."""

    async def collect() -> list[list[Change]]:
        batches: list[list[Change]] = []
        async with asyncio.timeout(DEADLINE_S), aclosing(store.watch(after)) as changes:
            async for batch in changes:
                batches.append(batch)
                if then:
                    then(len(batches))
                if len(batches) == count:
                    break
        return batches

    return asyncio.run(collect())


def test_a_watch_starts_with_what_is_already_there(store: SqliteStore) -> None:
    for index in range(3):
        store.commit(Transaction(put=[network(f"n{index}")]))
    batches = take(store, 2, after=1)
    assert [[change.id for change in batch] for batch in batches] == [["id-n1"], ["id-n2"]]
    assert [batch[0].revision for batch in batches] == [2, 3]


def test_one_list_per_transaction_with_writes_before_deletions(store: SqliteStore) -> None:
    store.commit(Transaction(put=[network("a")]))
    deleted = [(Kind.NETWORK, "id-a")]
    store.commit(Transaction(put=[network("b"), network("c")], delete=deleted))
    (batch,) = take(store, 1, after=1)
    assert [(change.id, change.value is None) for change in batch] == [
        ("id-b", False),
        ("id-c", False),
        ("id-a", True),
    ]
    assert {change.revision for change in batch} == {2}
    assert {change.kind for change in batch} == {Kind.NETWORK}


def test_values_are_those_of_their_revision(store: SqliteStore) -> None:
    for mtu in (1000, 1100, 1200):
        store.commit(Transaction(put=[network("a", mtu)]))
    batches = take(store, 3, after=0)
    values = [batch[0].value for batch in batches]
    assert [value.mtu for value in values if isinstance(value, Network)] == [1000, 1100, 1200]
    assert [value.revision_number for value in values if value] == [1, 2, 3]


def test_a_change_while_watching_is_seen(store: SqliteStore) -> None:
    store.commit(Transaction(put=[network("n0")]))
    batches = take(
        store, 5, after=0, then=lambda seen: commit_network(store, seen) if seen < 5 else None
    )
    assert [batch[0].id for batch in batches] == [f"id-n{index}" for index in range(5)]


def commit_network(store: SqliteStore, index: int) -> None:
    store.commit(Transaction(put=[network(f"n{index}")]))


def test_another_process_is_seen_change_by_change(store: SqliteStore, path: Path) -> None:
    count = 300

    def write() -> None:
        own = SqliteStore(path)
        for index in range(count):
            own.commit(Transaction(put=[network("same", 600 + index), network(f"n{index}")]))

    pid = in_child(write)
    batches = take(store, count, after=0)
    assert exit_code(pid) == 0
    assert [batch[0].revision for batch in batches] == list(range(1, count + 1))
    values = [change.value for batch in batches for change in batch]
    assert [value.mtu for value in values[::2] if isinstance(value, Network)] == [
        600 + index for index in range(count)
    ]
    assert [value.name for value in values[1::2] if value] == [f"n{i}" for i in range(count)]


def test_facts_do_not_disturb_a_watch(store: SqliteStore) -> None:
    store.commit(Transaction(put=[network("a")]))
    store.put_status({("port", "p"): {"state": "active"}})
    store.commit(Transaction(put=[network("b")]))
    assert [batch[0].id for batch in take(store, 2, after=0)] == ["id-a", "id-b"]


def test_old_revisions_are_forgotten_whole_and_a_late_watcher_is_told(path: Path) -> None:
    store = SqliteStore(path, changes_kept=10)
    for index in range(20):
        store.commit(Transaction(put=[network(f"a{index}"), network(f"b{index}")]))
    # 10 changes are 5 revisions.
    with pytest.raises(CompactedError, match="up to revision 15 are no longer kept"):
        take(store, 1, after=14)
    assert [batch[0].revision for batch in take(store, 5, after=15)] == [16, 17, 18, 19, 20]
    store.close()


def test_the_newest_revision_is_kept_however_large(path: Path) -> None:
    store = SqliteStore(path, changes_kept=10)
    store.commit(Transaction(put=[network("first")]))
    store.commit(Transaction(put=[network(f"n{index}") for index in range(50)]))
    (batch,) = take(store, 1, after=1)
    assert len(batch) == 50
    store.close()


def test_two_watchers_do_not_take_from_each_other(store: SqliteStore) -> None:
    async def both() -> list[list[str]]:
        async def ids(changes: AsyncIterator[list[Change]]) -> list[str]:
            return [(await anext(changes))[0].id for _ in range(2)]

        async with asyncio.timeout(DEADLINE_S):
            first, second = store.watch(0), store.watch(0)
            async with aclosing(first), aclosing(second):
                return list(await asyncio.gather(ids(first), ids(second)))

    commit_network(store, 0)
    commit_network(store, 1)
    assert asyncio.run(both()) == [["id-n0", "id-n1"]] * 2
