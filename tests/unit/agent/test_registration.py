"""How a host makes itself known."""

from __future__ import annotations

from pathlib import Path

import pytest

from heddle import paths
from heddle.agent.registration import register
from heddle.errors import ConflictError
from heddle.intent.hosts import host_id
from heddle.intent.model import Host, Kind
from heddle.settings import HostSettings
from heddle.store.interface import Snapshot, Transaction
from heddle.store.sqlite import SqliteStore


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SqliteStore:
    """Several hosts, each of which is a machine of its own, share it."""
    monkeypatch.setattr(paths, "MACHINE_ID", tmp_path / "machine-id")
    return SqliteStore(tmp_path / "store.sqlite")


def hosts(store: SqliteStore) -> dict[str, Host]:
    found = store.snapshot().objects[Kind.HOST].values()
    return {host.name: host for host in found if isinstance(host, Host)}


def test_a_host_by_itself_stays_so(store: SqliteStore) -> None:
    register(store, "h1", HostSettings())
    assert not hosts(store)


def test_hosts_get_numbers_and_keep_them(store: SqliteStore) -> None:
    register(store, "h1", HostSettings(vtep="198.18.0.1"))
    register(store, "h2", HostSettings(vtep="198.18.0.2", udp_port=8472))
    register(store, "h1", HostSettings(vtep="198.18.0.7"))
    found = hosts(store)
    assert (found["h1"].vtep, found["h2"].vtep) == ("198.18.0.7", "198.18.0.2")
    assert (found["h1"].udp_port, found["h2"].udp_port) == (4789, 8472)
    assert found["h1"].number != found["h2"].number


def test_a_taken_vtep_is_an_error_that_names_both(store: SqliteStore) -> None:
    register(store, "h1", HostSettings(vtep="198.18.0.1"))
    with pytest.raises(ConflictError, match=r"host h2: VTEP 198.18.0.1 is taken by host h1"):
        register(store, "h2", HostSettings(vtep="198.18.0.1"))


def test_another_machine_of_the_name_is_an_error(store: SqliteStore) -> None:
    paths.MACHINE_ID.write_text("one\n")
    register(store, "h1", HostSettings(vtep="198.18.0.1"))
    paths.MACHINE_ID.write_text("other\n")
    with pytest.raises(ConflictError, match="another machine has this name already"):
        register(store, "h1", HostSettings(vtep="198.18.0.2"))


class Busy(SqliteStore):
    """Another host is faster, once."""

    raced = False

    def commit(self, transaction: Transaction) -> int:
        if not self.raced:
            self.raced = True
            register(self, "h2", HostSettings(vtep="198.18.0.2"))
        return super().commit(transaction)


def test_a_lost_race_is_run_again(store: SqliteStore, tmp_path: Path) -> None:
    busy = Busy(tmp_path / "store.sqlite")
    register(busy, "h1", HostSettings(vtep="198.18.0.1"))
    snapshot: Snapshot = busy.snapshot()
    assert {host_id("h1"), host_id("h2")} == snapshot.objects[Kind.HOST].keys()
