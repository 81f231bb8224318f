"""Watchers of every store see every change once and in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, closing

from store_places import DEADLINE_S, Place, network, take
from store_processes import exit_code, in_child

from heddle.intent.model import Kind, Machine, Network
from heddle.store.interface import Change, Store, Transaction

MANY = 700


def commit(store: Store, index: int, mtu: int = 1450) -> int:
    return store.commit(Transaction(put=[network(f"n{index}", index + 1, mtu)]))


def test_a_watch_starts_with_what_is_already_there(store: Store) -> None:
    revisions = [commit(store, index) for index in range(3)]
    batches = take(store, 2, after=revisions[0])
    assert [[change.id for change in batch] for batch in batches] == [["id-n1"], ["id-n2"]]
    assert [batch[0].revision for batch in batches] == revisions[1:]


def test_one_list_per_transaction_with_writes_before_deletions(store: Store) -> None:
    first = store.commit(Transaction(put=[network("a", 1)]))
    second = store.commit(
        Transaction(put=[network("b", 2), network("c", 3)], delete=[(Kind.NETWORK, "id-a")])
    )
    (batch,) = take(store, 1, after=first)
    assert [(change.id, change.value is None) for change in batch] == [
        ("id-b", False),
        ("id-c", False),
        ("id-a", True),
    ]
    assert {change.revision for change in batch} == {second}
    assert {change.kind for change in batch} == {Kind.NETWORK}


def test_a_large_transaction_is_one_list(store: Store) -> None:
    put = [network(f"n{index}", index + 1) for index in range(MANY)]
    revision = store.commit(Transaction(put=put))
    commit(store, MANY)
    large, small = take(store, 2, after=0)
    assert {change.id for change in large} == {one.id for one in put}
    assert {change.revision for change in large} == {revision}
    assert [change.id for change in small] == [f"id-n{MANY}"]


def test_values_are_those_of_their_revision(store: Store) -> None:
    for mtu in (1000, 1100, 1200):
        commit(store, 0, mtu)
    values = [batch[0].value for batch in take(store, 3, after=0)]
    assert [value.mtu for value in values if isinstance(value, Network)] == [1000, 1100, 1200]
    assert [value.revision_number for value in values if value] == [1, 2, 3]


def test_what_moves_is_not_deleted(store: Store) -> None:
    machine = Machine(id="m", name="vm0", machine_kind="vm", host="h1")
    first = store.commit(Transaction(put=[machine]))
    store.commit(Transaction(put=[machine.model_copy(update={"host": "h2"})]))
    (batch,) = take(store, 1, after=first)
    assert [(change.id, change.value is None) for change in batch] == [("m", False)]


def test_a_change_while_watching_is_seen(store: Store) -> None:
    commit(store, 0)

    def one_more(seen: int) -> None:
        if seen < 5:
            commit(store, seen)

    batches = take(store, 5, after=0, then=one_more)
    assert [batch[0].id for batch in batches] == [f"id-n{index}" for index in range(5)]


def test_another_process_is_seen_change_by_change(place: Place, store: Store) -> None:
    count = 100

    def write() -> None:
        with closing(place.open()) as own:
            for index in range(count):
                put = [network("same", 5000, 600 + index), network(f"n{index}", index + 1)]
                own.commit(Transaction(put=put))

    pid = in_child(write)
    batches = take(store, count, after=0)
    assert exit_code(pid) == 0
    revisions = [batch[0].revision for batch in batches]
    assert sorted(set(revisions)) == revisions
    values = [change.value for batch in batches for change in batch]
    assert [value.mtu for value in values[::2] if isinstance(value, Network)] == [
        600 + index for index in range(count)
    ]
    assert [value.name for value in values[1::2] if value] == [f"n{i}" for i in range(count)]


def test_facts_do_not_disturb_a_watch(store: Store) -> None:
    commit(store, 0)
    store.put_status({("port", "p"): {"state": "active"}})
    commit(store, 1)
    assert [batch[0].id for batch in take(store, 2, after=0)] == ["id-n0", "id-n1"]


def test_two_watchers_do_not_take_from_each_other(store: Store) -> None:
    async def both() -> list[list[str]]:
        async def ids(changes: AsyncIterator[list[Change]]) -> list[str]:
            return [(await anext(changes))[0].id for _ in range(2)]

        async with asyncio.timeout(DEADLINE_S):
            first, second = store.watch(0), store.watch(0)
            async with aclosing(first), aclosing(second):  # type: ignore[type-var]
                return list(await asyncio.gather(ids(first), ids(second)))

    commit(store, 0)
    commit(store, 1)
    assert asyncio.run(both()) == [["id-n0", "id-n1"]] * 2
