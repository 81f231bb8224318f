"""What a migration writes to the store, on a real one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from heddle.agent.residents import Residents
from heddle.errors import NotFoundError
from heddle.intent.model import Kind, Machine, Port
from heddle.store.interface import Change, Transaction
from heddle.store.sqlite import SqliteStore

MACHINE = Machine(id="m", name="vm0", machine_kind="vm", host="h1", migrating_to="h2")
PORTS = [
    Port(
        id=f"p{nic}",
        name=f"vm0/{nic}",
        network_id="n",
        mac=f"fa:16:3e:00:00:0{nic}",
        machine_id="m",
        nic=nic,
        host="h1",
        migrating_to="h2",
    )
    for nic in (1, 0)
]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore(tmp_path / "store.sqlite")
    made.commit(Transaction(put=[MACHINE, *PORTS]))
    yield made
    made.close()


@pytest.fixture
def residents(store: SqliteStore) -> Residents:
    made = Residents(store)
    made.restart(store.snapshot())
    return made


def places(store: SqliteStore) -> set[tuple[str, str, str]]:
    objects = store.snapshot().objects
    found = [*objects[Kind.MACHINE].values(), *objects[Kind.PORT].values()]
    return {(o.host, o.migrating_to, o.moved_from) for o in found if isinstance(o, Machine | Port)}


def test_it_has_moved_with_all_its_ports(store: SqliteStore, residents: Residents) -> None:
    residents.has_moved("m")
    assert places(store) == {("h2", "", "h1")}


def test_it_has_stayed(store: SqliteStore, residents: Residents) -> None:
    residents.has_stayed("m")
    assert places(store) == {("h1", "", "")}


def test_it_is_settled(store: SqliteStore, residents: Residents) -> None:
    residents.has_moved("m")
    residents.restart(store.snapshot())
    residents.is_settled("m")
    assert places(store) == {("h2", "", "")}


def test_both_hosts_may_write_it(store: SqliteStore, residents: Residents) -> None:
    residents.has_moved("m")
    revision = store.snapshot().revision
    residents.restart(store.snapshot())
    residents.has_moved("m")
    residents.has_stayed("m")
    assert store.snapshot().revision == revision
    assert places(store) == {("h2", "", "h1")}


def test_what_others_changed_meanwhile_is_kept(
    store: SqliteStore, residents: Residents, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is known is old: it waits until it has been told."""
    changed = MACHINE.model_copy(update={"cpus": 4, "revision_number": 1})
    store.commit(Transaction(put=[changed]))

    def told(_seconds: float) -> None:
        residents.restart(store.snapshot())

    monkeypatch.setattr("heddle.agent.residents.time.sleep", told)
    residents.has_moved("m")
    machine = store.snapshot().objects[Kind.MACHINE]["m"]
    assert isinstance(machine, Machine)
    assert (machine.cpus, machine.host) == (4, "h2")


def test_a_machine_that_was_removed(store: SqliteStore, residents: Residents) -> None:
    residents.update([Change(2, Kind.MACHINE, "m", None)])
    with pytest.raises(NotFoundError, match="machine m has been removed meanwhile"):
        residents.has_moved("m")


def test_ports_are_in_the_order_of_the_nics(residents: Residents) -> None:
    resident = residents.resident("m")
    assert resident is not None
    assert [port.nic for port in resident.ports] == [0, 1]
    residents.update([Change(2, Kind.PORT, "p0", None)])
    resident = residents.resident("m")
    assert resident is not None
    assert [port.id for port in resident.ports] == ["p1"]


def test_ports_that_leave_a_host(residents: Residents) -> None:
    """The last word of a migration, not its first; and a machine that is restored elsewhere."""

    def leaving(host: str, before: tuple[str, str, str], after: tuple[str, str, str]) -> int:
        fields = ("host", "migrating_to", "moved_from")
        ports = [p.model_copy(update=dict(zip(fields, before, strict=True))) for p in PORTS]
        residents.update(Change(1, Kind.PORT, p.id, p) for p in ports)
        update = dict(zip(fields, after, strict=True))
        changes = [Change(2, Kind.PORT, p.id, p.model_copy(update=update)) for p in ports]
        return len(residents.leaving(host, changes))

    assert leaving("h1", ("h1", "", ""), ("h1", "h2", "")) == 0
    assert leaving("h1", ("h1", "h2", ""), ("h2", "", "h1")) == 0
    assert leaving("h1", ("h2", "", "h1"), ("h2", "", "")) == 2
    assert leaving("h2", ("h2", "", "h1"), ("h2", "", "")) == 0
    assert leaving("h1", ("h1", "", ""), ("h2", "", "")) == 2
    assert leaving("h2", ("h1", "h2", ""), ("h1", "", "")) == 2


def test_ports_that_are_deleted_leave_nothing(residents: Residents) -> None:
    assert residents.leaving("h1", [Change(2, Kind.PORT, port.id, None) for port in PORTS]) == []
