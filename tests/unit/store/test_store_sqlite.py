"""What one process sees of the SQLite store."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from heddle.errors import ConflictError, StoreError
from heddle.intent.model import Kind, Machine, Network
from heddle.store import database
from heddle.store.interface import Transaction
from heddle.store.reader import read_objects, read_revision, read_statuses
from heddle.store.sqlite import SqliteStore


def network(name: str, mtu: int = 1450) -> Network:
    return Network(id=f"id-{name}", name=name, vni=7, mtu=mtu, origin="file")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "store.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    opened = SqliteStore(path)
    yield opened
    opened.close()


def test_a_new_store_is_empty_and_has_every_kind(store: SqliteStore) -> None:
    snapshot = store.snapshot()
    assert snapshot.revision == 0
    assert snapshot.objects == {kind: {} for kind in Kind}


def test_the_file_is_for_its_owner_and_the_folder_is_not_listed(path: Path) -> None:
    SqliteStore(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o711


def test_files_beside_the_store_are_for_its_owner_too(store: SqliteStore, path: Path) -> None:
    store.commit(Transaction(put=[network("web")]))
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == {f"store.sqlite{end}": 0o600 for end in ("", "-wal", "-shm")}


def test_what_is_committed_is_there_after_reopening(path: Path) -> None:
    first = SqliteStore(path)
    first.commit(Transaction(put=[network("web"), network("db")]))
    first.close()
    second = SqliteStore(path)
    assert set(second.snapshot().objects[Kind.NETWORK]) == {"id-web", "id-db"}
    second.close()


def test_commits_reach_the_medium_before_they_are_acknowledged(path: Path) -> None:
    connection = database.open_database(path)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_the_store_stamps_objects(store: SqliteStore) -> None:
    store.commit(Transaction(put=[network("web")]))
    first = store.snapshot().objects[Kind.NETWORK]["id-web"]
    store.commit(Transaction(put=[network("web", mtu=1400)]))
    second = store.snapshot().objects[Kind.NETWORK]["id-web"]
    assert (first.revision_number, second.revision_number) == (1, 2)
    assert first.created_at == second.created_at
    assert first.created_at.endswith("Z")
    assert second.updated_at >= first.updated_at


def test_an_equal_object_makes_no_revision(store: SqliteStore) -> None:
    assert store.commit(Transaction(put=[network("web")])) == 1
    stored = store.snapshot().objects[Kind.NETWORK]["id-web"]
    assert store.commit(Transaction(put=[network("web")])) == 1
    assert store.commit(Transaction(put=[stored])) == 1
    assert store.snapshot().objects[Kind.NETWORK]["id-web"] == stored


def test_deleting_what_is_not_there_makes_no_revision(store: SqliteStore) -> None:
    assert store.commit(Transaction(delete=[(Kind.NETWORK, "nothing")])) == 0


def test_a_transaction_writes_and_deletes_at_once(store: SqliteStore) -> None:
    store.commit(Transaction(put=[network("web")]))
    deleted = [(Kind.NETWORK, "id-web")]
    assert store.commit(Transaction(put=[network("db")], delete=deleted)) == 2
    assert set(store.snapshot().objects[Kind.NETWORK]) == {"id-db"}


def test_a_lost_race_is_refused_and_writes_nothing(store: SqliteStore) -> None:
    store.commit(Transaction(put=[network("web")]))
    with pytest.raises(ConflictError, match="revision 1, expected 0"):
        store.commit(Transaction(put=[network("db")], expected_revision=0))
    assert set(store.snapshot().objects[Kind.NETWORK]) == {"id-web"}
    assert store.commit(Transaction(put=[network("db")], expected_revision=1)) == 2


def test_a_transaction_that_fails_halfway_writes_nothing(store: SqliteStore) -> None:
    def half() -> Iterator[Network]:
        yield network("web")
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError):
        store.commit(Transaction(put=half()))
    assert store.snapshot().objects[Kind.NETWORK] == {}
    assert store.commit(Transaction(put=[network("web")])) == 1


def test_every_kind_comes_back_as_it_was(store: SqliteStore) -> None:
    machine = Machine(id="m", name="vm0", machine_kind="vm", host="h", memory=1 << 30)
    store.commit(Transaction(put=[machine]))
    stored = store.snapshot().objects[Kind.MACHINE]["m"]
    stamps = {"revision_number": 0, "created_at": "", "updated_at": ""}
    assert stored.model_copy(update=stamps) == machine


def test_facts_are_kept_beside_intent(store: SqliteStore) -> None:
    store.put_status({("port", "p"): {"state": "active"}, ("machine", "m"): {"ready": True}})
    store.put_status({("port", "p"): {"state": "down"}, ("machine", "m"): None})
    assert store.statuses() == {("port", "p"): {"state": "down"}}
    assert store.snapshot().revision == 0


def test_a_store_of_a_newer_heddle_is_left_alone(path: Path) -> None:
    SqliteStore(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="has format 99, this heddle knows 1; use the heddle"):
        SqliteStore(path)
    with pytest.raises(StoreError, match="has format 99"):
        read_objects(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_store_is_named(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("this is not a database, but it is long enough to have a header\n" * 100)
    with pytest.raises(StoreError, match=rf"store {path}: this is no heddle store; move the file"):
        SqliteStore(path)
    with pytest.raises(StoreError, match="this is no heddle store"):
        read_objects(path)


def test_a_damaged_store_is_named(path: Path) -> None:
    store = SqliteStore(path)
    store.commit(Transaction(put=[network(f"n{i}") for i in range(1000)]))
    store.close()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(StoreError, match="damaged; restore it from a copy"):
        SqliteStore(path).snapshot()


def test_an_object_that_can_not_be_read_is_an_error(store: SqliteStore, path: Path) -> None:
    store.commit(Transaction(put=[network("web")]))
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE objects SET value = '{\"id\": 5}'")
    connection.close()
    with pytest.raises(StoreError, match="holds a network that can't be read"):
        store.snapshot()


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(StoreError, match=r"store\.sqlite: check its folder, .*\(Not a dir"):
        SqliteStore(tmp_path / "state" / "store.sqlite")


def test_a_file_left_empty_by_a_crash_becomes_a_store(path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    assert read_objects(path) == []
    store = SqliteStore(path)
    assert store.commit(Transaction(put=[network("web")])) == 1
    store.close()


def test_readers_get_plain_objects_ordered_by_kind_and_name(store: SqliteStore, path: Path) -> None:
    machine = Machine(id="m", name="vm0", machine_kind="vm", host="h")
    store.commit(Transaction(put=[network("web"), machine, network("db")]))
    store.put_status({("port", "p"): {"state": "active"}})
    names = [(item["kind"], item["name"]) for item in read_objects(path)]
    assert names == [("machine", "vm0"), ("network", "db"), ("network", "web")]
    assert [item["name"] for item in read_objects(path, "network")] == ["db", "web"]
    assert read_objects(path, "network")[0]["mtu"] == 1450
    left = read_objects(path, without=("network",))
    assert [item["kind"] for item in left] == [kind for kind, _ in names if kind != "network"]
    assert read_statuses(path) == {("port", "p"): {"state": "active"}}
    assert read_revision(path) == 1


def test_reading_before_anything_was_stored_is_empty_and_makes_no_file(path: Path) -> None:
    assert read_objects(path) == []
    assert read_statuses(path) == {}
    assert read_revision(path) == 0
    assert not path.exists()


@pytest.mark.parametrize("module", ["heddle.store.reader", "heddle.store.interface"])
def test_reading_commands_do_not_pay_for_the_model(module: str) -> None:
    code = f"import sys, {module}; sys.exit('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
