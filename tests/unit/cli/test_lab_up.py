"""What ``heddle lab up`` waits for while VMs move, on a real store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from heddle.cli import lab_up
from heddle.cli.lab_up import Places
from heddle.cli.waiting import Facts
from heddle.intent.model import Machine, Port
from heddle.store.interface import Transaction
from heddle.store.sqlite import SqliteStore

VM = Machine(id="m", name="vm0", machine_kind="vm", host="h1")
BOX = Machine(id="b", name="box", machine_kind="container", host="h1")
PORT = Port(
    id="p", name="vm0/0", network_id="n", mac="fa:16:3e:00:00:01", machine_id="m", nic=0, host="h1"
)
READY = {"state": "running", "ready": True, "error": None}
LOOK = 5


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqliteStore]:
    monkeypatch.setattr(lab_up, "_READ_AGAIN_SECONDS", 0.0)
    made = SqliteStore(tmp_path / "store.sqlite")
    made.commit(Transaction(put=[VM, BOX, PORT]))
    yield made
    made.close()


def facts(host: str, **machines: dict[str, object]) -> Facts:
    """What the agent of a host tells."""
    told: Facts = {("machine", name): fact for name, fact in machines.items()}
    return {("agent", host): {"revision": 1}, **told}


def test_one_that_moves_meanwhile_is_waited_for_where_it_is(store: SqliteStore) -> None:
    places = Places(store, [VM, BOX, PORT])
    here = places.ready(1, "h1")
    assert here(facts("h1", b=READY), LOOK) == "1 of 2 machines ready, waiting for vm0"
    moved = {"host": "h2", "moved_from": "h1"}
    store.commit(Transaction(put=[item.model_copy(update=moved) for item in (VM, PORT)]))
    assert here(facts("h1", b=READY), LOOK) == ""
    there = places.ready(1, "h2")
    assert there(facts("h2"), LOOK) == "0 of 1 machines ready, waiting for vm0"
    active: Facts = {("port", "p"): {"state": "active"}}
    assert there({**facts("h2", m=READY), **active}, LOOK) == ""
    assert places.hosts == {"m": "h2", "b": "h1", "p": "h2"}


def test_one_that_is_removed_meanwhile_is_waited_for_no_more(store: SqliteStore) -> None:
    places = Places(store, [VM, PORT])
    store.commit(Transaction(delete=[(VM.kind, VM.id), (PORT.kind, PORT.id)]))
    assert places.ready(1, "h1")(facts("h1"), LOOK) == ""
    assert places.hosts == {}
