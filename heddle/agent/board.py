"""The facts of ports and machines, kept up to date change by change."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from heddle.agent.facts import Facts, Key
from heddle.compiler.state import HostDelta, Link, MachineSpec
from heddle.hypervisor.machines import MachineStatus

_ALIAS = "heddle:port:"
_PLUGGED = ("running", "booting", "paused")  # states of a machine that holds its NICs


class Look(NamedTuple):
    """One look at the machines: how many there were, this one included, and
    which revision of intent was known when it began."""

    look: int
    revision: int


class Board:
    """Turns what the applier and the machines report into facts.

    A port is ``active`` when its link is in place and its machine holds it,
    ``down`` when its machine is off, ``error`` when something of it is pending.
    """

    def __init__(self, facts: Facts, index_of: Callable[[str], int | None]) -> None:
        """``index_of`` gives the ifindex of a device, None when it is not there."""
        self._facts = facts
        self._index_of = index_of
        self._links: dict[str, Link] = {}  # by device
        self._machine_of: dict[str, str] = {}  # device -> machine id
        self._specs: dict[str, MachineSpec] = {}
        self._states: dict[str, str] = {}  # machine id -> state
        self._pending: dict[str, str] = {}  # device -> error
        self._rejected: Mapping[Key, str] = {}

    @property
    def specs(self) -> Mapping[str, MachineSpec]:
        """The machines this host must have."""
        return self._specs

    def machine_at(self, device: str) -> str | None:
        """The machine that has this device, by id."""
        return self._machine_of.get(device)

    def concerns_running(self, delta: HostDelta) -> bool:
        """Whether a delta not yet applied is about machines that run, should
        run or must go. Others can wait for the next regular look at machines."""
        return any(
            spec is None or spec.running or (name in self._specs and self._specs[name].running)
            for name, spec in delta.machines.items()
        )

    def restart(self) -> None:
        """Before a full delta: what it does not name is no more."""
        self._links.clear()
        self._machine_of.clear()
        self._specs.clear()

    def forget_strangers(self) -> None:
        """After a full delta: drop facts, kept from an earlier run, of ports
        that are no more. A machine's goes when reconciling has removed it."""
        known = {("port", _port_id(link)) for link in self._links.values()} | self._rejected.keys()
        for key in self._facts.keys("port"):
            if key not in known:
                self._facts.forget(key)

    def applied(self, delta: HostDelta, pending: Mapping[str, str]) -> None:
        """After the applier has carried out a delta."""
        changed = set(delta.links)
        for device, link in delta.links.items():
            if link is not None:
                self._links[device] = link
            elif device in self._links:
                self._facts.forget(("port", _port_id(self._links.pop(device))))
        for machine_id, spec in delta.machines.items():
            changed |= self._respecify(machine_id, spec)
        self._write_ports(changed | self._repended(pending))

    def reject(self, errors: Mapping[Key, str]) -> None:
        """After compiling: objects that have no part in this host, and why."""
        if errors == self._rejected:
            return
        for key in self._rejected.keys() - errors.keys():
            if "device" not in (self._facts.get(key) or {}):
                self._facts.forget(key)
        for key, error in errors.items():
            self._facts.put(key, {"state": "error", "error": error})
        self._rejected = errors

    def repaired(self, pending: Mapping[str, str]) -> None:
        """After an audit that did something: links may have been made anew."""
        self._repended(pending)
        self._write_ports(self._links)

    def machines(
        self,
        statuses: Mapping[str, MachineStatus],
        specs: Mapping[str, MachineSpec],
        look: Look,
    ) -> None:
        """After the machines were reconciled: ``statuses`` has all of them, and
        says how they are for ``specs``, which may not be the wanted ones any more."""
        for machine_id, status in statuses.items():
            current = self._specs.get(machine_id) is specs.get(machine_id)
            ready = status.ready and current
            fact = {"state": status.state, "ready": ready, "error": status.error}
            if status.state == "error":  # who waits must know a new failure from an old one
                fact |= look._asdict()
            self._facts.put(("machine", machine_id), fact)
            self._machine_is(machine_id, status.state)
        known = statuses.keys() | self._specs.keys() | {name for _, name in self._rejected}
        for key in self._facts.keys("machine"):
            if key[1] not in known:
                self._facts.forget(key)
                self._states.pop(key[1], None)

    def _machine_is(self, machine_id: str, state: str) -> None:
        if self._states.get(machine_id) == state:
            return
        self._states[machine_id] = state
        spec = self._specs.get(machine_id)
        if spec is not None:
            self._write_ports(nic.device for nic in spec.nics)

    def _respecify(self, machine_id: str, spec: MachineSpec | None) -> set[str]:
        """Take over a machine's NICs; return the devices concerned."""
        before = self._specs.pop(machine_id, None)
        devices = {nic.device for nic in before.nics} if before else set()
        for device in devices:
            if self._machine_of.get(device) == machine_id:
                del self._machine_of[device]
        if spec is not None:
            self._specs[machine_id] = spec
            self._not_ready(machine_id)
            now = {nic.device for nic in spec.nics}
            self._machine_of.update(dict.fromkeys(now, machine_id))
            devices |= now
        return devices

    def _not_ready(self, machine_id: str) -> None:
        """A machine that was ready may not be so for its new specification."""
        key = ("machine", machine_id)
        if (fact := self._facts.get(key)) is not None:
            self._facts.put(key, {**fact, "ready": False})

    def _repended(self, pending: Mapping[str, str]) -> set[str]:
        """Note what is pending now; return devices for which that changed."""
        now = {name: error for name, error in pending.items() if name in self._links}
        changed = {
            device
            for device in now.keys() | self._pending.keys()
            if now.get(device) != self._pending.get(device)
        }
        self._pending = now
        return changed

    def _write_ports(self, devices: Iterable[str]) -> None:
        for device in devices:
            link = self._links.get(device)
            if link is not None:
                self._facts.put(("port", _port_id(link)), self._port_fact(device))

    def _port_fact(self, device: str) -> dict[str, Any]:
        error = self._pending.get(device)
        ifindex = self._index_of(device)
        machine = self._states.get(self._machine_of.get(device, ""), "stopped")
        up = ifindex is not None and machine in _PLUGGED
        state = "error" if error else "active" if up else "down"
        return {"state": state, "device": device, "ifindex": ifindex, "error": error}


def _port_id(link: Link) -> str:
    return link.alias.removeprefix(_ALIAS)
