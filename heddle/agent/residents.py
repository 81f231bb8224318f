"""The machines of this host and their ports, as the store says, and what a
migration changes of that."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import NamedTuple

from heddle.errors import ConflictError, NotFoundError
from heddle.intent.model import AnyResource, Machine, Port
from heddle.store.interface import Change, Snapshot, Store, Transaction

_ATTEMPTS = 20  # when somebody else writes between our knowing and writing
_PAUSE_SECONDS = 0.05

Place = dict[str, str]
"""The fields of a machine and of its ports that a migration changes."""


class Resident(NamedTuple):
    machine: Machine
    ports: tuple[Port, ...]  # in the order of the NICs


class Residents:
    """Kept up to date by the intent task; written from other threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._machines: dict[str, Machine] = {}
        self._ports: defaultdict[str, dict[str, Port]] = defaultdict(dict)  # by machine
        self._machine_of: dict[str, str] = {}  # port -> machine

    def restart(self, snapshot: Snapshot) -> dict[str, Machine | None]:
        """Take over everything; return all machines, and None for those that went."""
        gone = dict.fromkeys(self._machines)
        self._machines.clear()
        self._ports.clear()
        self._machine_of.clear()
        changes = [
            Change(snapshot.revision, kind, name, value)
            for kind, objects in snapshot.objects.items()
            for name, value in objects.items()
        ]
        return {**gone, **self.update(changes)}

    def update(self, changes: Iterable[Change]) -> dict[str, Machine | None]:
        """Take over changes; return the machines among them."""
        machines: dict[str, Machine | None] = {}
        for change in changes:
            if change.kind == Machine.kind:
                machines[change.id] = self._take_machine(change)
            elif change.kind == Port.kind:
                self._take_port(change)
        return machines

    def resident(self, machine_id: str) -> Resident | None:
        machine = self._machines.get(machine_id)
        if machine is None:
            return None
        ports = sorted(self._ports[machine_id].values(), key=lambda port: port.nic)
        return Resident(machine, tuple(ports))

    def leaving(self, host: str, changes: Iterable[Change]) -> list[Port]:
        """Ports that have something on this host, and not after these changes, as
        another host has them then. Those that are deleted are not among them."""
        found = []
        for change in changes:
            if isinstance(after := change.value, Port):
                before = self._port(change.id)
                if before is not None and host in _places(before) - _places(after):
                    found.append(before)
        return found

    # ---- writing; blocks ----------------------------------------------------

    def has_moved(self, machine_id: str) -> None:
        """It runs on the host that it was to move to; the other one sends on what
        still comes for it."""

        def place(machine: Machine) -> Place | None:
            if not machine.migrating_to:
                return None
            return {
                "host": machine.migrating_to,
                "migrating_to": "",
                "moved_from": machine.host,
            }

        self._commit(machine_id, place)

    def has_stayed(self, machine_id: str) -> None:
        """It came to nothing."""
        self._commit(machine_id, lambda m: {"migrating_to": ""} if m.migrating_to else None)

    def is_settled(self, machine_id: str) -> None:
        """Nothing comes for it any more to the host that it has left."""
        self._commit(machine_id, lambda m: {"moved_from": ""} if m.moved_from else None)

    def _commit(self, machine_id: str, place: Callable[[Machine], Place | None]) -> None:
        """ConflictError when others write all the time; StoreError."""
        for attempt in range(_ATTEMPTS):
            resident = self.resident(machine_id)
            if resident is None:
                raise NotFoundError(f"machine {machine_id} has been removed meanwhile")
            wanted = place(resident.machine)
            if wanted is None:
                return
            put: list[AnyResource] = [resident.machine.model_copy(update=wanted)]
            put += [port.model_copy(update=wanted) for port in resident.ports]
            try:
                self._store.commit(Transaction(put=put, as_read=True))
                return
            except ConflictError:
                if attempt == _ATTEMPTS - 1:
                    raise
                time.sleep(_PAUSE_SECONDS)  # until the intent task has caught up

    def _port(self, port_id: str) -> Port | None:
        machine_id = self._machine_of.get(port_id)
        return self._ports[machine_id].get(port_id) if machine_id is not None else None

    # ---- inside ---------------------------------------------------------------

    def _take_machine(self, change: Change) -> Machine | None:
        if isinstance(change.value, Machine):
            self._machines[change.id] = change.value
            return change.value
        self._machines.pop(change.id, None)
        return None

    def _take_port(self, change: Change) -> None:
        before = self._machine_of.pop(change.id, None)
        if before is not None:
            self._ports[before].pop(change.id, None)
        if isinstance(change.value, Port):
            self._ports[change.value.machine_id][change.id] = change.value
            self._machine_of[change.id] = change.value.machine_id


def _places(port: Port) -> set[str]:
    return {port.host, port.migrating_to, port.moved_from}
