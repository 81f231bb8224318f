"""Facts: written in batches, retried, streamed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from heddle.agent.facts import Facts
from heddle.errors import StoreError
from heddle.store.sqlite import SqliteStore

PORT = ("port", "p1")
OTHER = ("port", "p2")


@pytest.fixture
def store(tmp_path: Path) -> SqliteStore:
    return SqliteStore(tmp_path / "store.sqlite")


class FullDisk(SqliteStore):
    """A store that refuses to write facts until there is room."""

    full = True
    writes = 0

    def put_status(self, statuses: Mapping[tuple[str, str], Mapping[str, Any] | None]) -> None:
        if self.full:
            raise StoreError("the disk is full")
        self.writes += 1
        super().put_status(statuses)


def test_facts_are_stored_when_flushed(store: SqliteStore) -> None:
    facts = Facts(store)
    facts.put(PORT, {"state": "active"})
    assert store.statuses() == {}
    facts.flush()
    assert store.statuses() == {PORT: {"state": "active"}}
    facts.forget(PORT)
    facts.flush()
    assert store.statuses() == {}


def test_an_earlier_run_is_remembered(store: SqliteStore) -> None:
    store.put_status({PORT: {"state": "active"}})
    assert Facts(store).get(PORT) == {"state": "active"}
    assert Facts(store).keys("port") == [PORT]
    assert Facts(store).keys("machine") == []


def test_what_can_not_be_written_is_written_later(tmp_path: Path) -> None:
    store = FullDisk(tmp_path / "store.sqlite")
    facts = Facts(store)
    facts.put(PORT, {"state": "down"})
    facts.flush()
    facts.put(OTHER, {"state": "active"})
    facts.put(PORT, {"state": "active"})
    store.full = False
    facts.flush()
    facts.flush()
    assert store.statuses() == {PORT: {"state": "active"}, OTHER: {"state": "active"}}
    assert store.writes == 1


def test_a_follower_gets_all_then_changes(store: SqliteStore) -> None:
    async def follow() -> list[dict[Any, Any]]:
        facts = Facts(store)
        facts.put(PORT, {"state": "down"})
        batches = []
        async for batch in facts.follow():
            batches.append(batch)
            if len(batches) == 1:
                facts.put(PORT, {"state": "active"})  # overtaken before it is read
                facts.put(PORT, {"state": "error"})
                facts.put(OTHER, {"state": "down"})
                facts.put(OTHER, {"state": "down"})  # no change
                facts.forget(OTHER)
            else:
                return batches
        return batches

    batches = asyncio.run(follow())
    assert batches == [{PORT: {"state": "down"}}, {PORT: {"state": "error"}, OTHER: None}]
