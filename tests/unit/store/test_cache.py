"""What an agent last saw, in a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from heddle.errors import StoreError
from heddle.intent.model import AnyResource, Kind, Network
from heddle.store.cache import IntentCache
from heddle.store.interface import Change, Snapshot
from heddle.store.reader import read_objects


def network(name: str, vni: int) -> Network:
    return Network(id=f"id-{name}", name=name, vni=vni, revision_number=3)


def snapshot(revision: int, *networks: Network) -> Snapshot:
    objects: dict[Kind, dict[str, AnyResource]] = {kind: {} for kind in Kind}
    objects[Kind.NETWORK] = {one.id: one for one in networks}
    return Snapshot(revision, objects)


def test_nothing_was_seen_yet(tmp_path: Path) -> None:
    assert IntentCache(tmp_path / "state" / "cache.sqlite").load() is None


def test_it_comes_back_as_it_was(tmp_path: Path) -> None:
    cache = IntentCache(tmp_path / "state" / "cache.sqlite")
    cache.replace(snapshot(5, network("a", 1), network("b", 2)))
    assert cache.load() == snapshot(5, network("a", 1), network("b", 2))
    changes = [
        Change(7, Kind.NETWORK, "id-a", network("a", 9)),
        Change(7, Kind.NETWORK, "id-b", None),
    ]
    cache.update(7, changes)
    assert cache.load() == snapshot(7, network("a", 9))
    cache.replace(snapshot(8, network("c", 1)))
    assert cache.load() == snapshot(8, network("c", 1))


def test_commands_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    IntentCache(path).replace(snapshot(5, network("a", 1)))
    assert [(item["kind"], item["name"]) for item in read_objects(path)] == [("network", "a")]


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    path.write_text("this is no database, but it is long enough to look like one\n" * 100)
    with pytest.raises(StoreError, match="this is no heddle store"):
        IntentCache(path).load()
