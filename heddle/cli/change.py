"""Changes of intent from topology files, shared by up, apply and down.

Imported by these commands only: it loads the intent model.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from heddle.errors import ConflictError, NotFoundError
from heddle.events.fits import Spread, misfits, proven_paths
from heddle.intent.expand import expand
from heddle.intent.model import AnyResource, Host, Kind, Machine, Network, Port, Router
from heddle.intent.plan import Plan, plan
from heddle.intent.topology import Topology
from heddle.paths import host_name
from heddle.store.interface import Snapshot, Store, Transaction

# When someone else commits between our reading and writing. Each attempt that
# fails is another's success; the pause lets them not meet again and again.
_ATTEMPTS = 30
_PAUSE_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a file wants, against what is stored."""

    objects: Sequence[AnyResource]
    plan: Plan
    snapshot: Snapshot

    def names(self, kind: Kind) -> dict[str, str]:
        """Ids and names of the file's objects of a kind."""
        return {item.id: item.name for item in self.objects if item.kind is kind}

    @property
    def hosts(self) -> set[str]:
        """Where the file's machines are."""
        return {item.host for item in self.objects if isinstance(item, Machine)}


def wanted_by(topology: Topology, store: Store, *, running: bool) -> Wanted:
    """Expand a file and compare; ``running`` wants its machines booted."""
    snapshot = store.snapshot()
    objects = expand(topology, snapshot, host_name(), topology.origin)
    if running:
        objects = [_running(item) for item in objects]
    wanted = Wanted(objects, plan(snapshot, objects, topology.origin), snapshot)
    _check_paths(wanted, store)
    return wanted


def _check_paths(wanted: Wanted, store: Store) -> None:
    """ConflictError when the plan wants more of a path between two hosts than is
    proven to pass there, and what is there already does not."""
    stored = {item.id: item for item in _all(wanted.snapshot)}
    after = {**stored, **{item.id: item for item in wanted.plan.put}}
    for _, key in wanted.plan.removed:
        after.pop(key, None)
    hosts = {item.host for item in after.values() if isinstance(item, Port)}
    if len(hosts) < 2:
        return
    facts = [fact for host in hosts for fact in store.statuses(host).items()]
    proven = proven_paths(dict(facts))
    known = set(misfits(_spread(stored.values()), proven))
    found = dict.fromkeys(m for m in misfits(_spread(after.values()), proven) if m not in known)
    if found:
        raise ConflictError("\n".join(f"{misfit}; lower `mtu` of the network" for misfit in found))


def _spread(objects: Iterable[AnyResource]) -> Spread:
    spread = Spread({}, {}, [])
    for item in objects:
        if isinstance(item, Network):
            spread.networks[item.id] = (item.name, item.mtu)
        elif isinstance(item, Port):
            spread.hosts.setdefault(item.network_id, set()).add(item.host)
        elif isinstance(item, Router):
            spread.routers.append([interface.network_id for interface in item.interfaces])
    return spread


def commit(store: Store, decide: Callable[[], Wanted]) -> tuple[Wanted, int]:
    """Write what ``decide`` wants; decide again when someone else was faster."""
    for _ in range(_ATTEMPTS - 1):
        wanted = decide()
        try:
            return wanted, _write(store, wanted)
        except ConflictError:
            time.sleep(random.uniform(0, _PAUSE_SECONDS))  # noqa: S311 (no secret)
    wanted = decide()
    return wanted, _write(store, wanted)


def remove(store: Store, chosen: Callable[[AnyResource], bool]) -> tuple[list[AnyResource], int]:
    """Delete the objects for which ``chosen`` holds; return them and the revision."""
    snapshot = store.snapshot()
    doomed = [item for item in _all(snapshot) if chosen(item)]
    revision = store.commit(Transaction(delete=[(item.kind, item.id) for item in doomed]))
    return doomed, revision


def set_machine(store: Store, machine_id: str, **wanted: bool | str) -> int:
    """Change what is wanted of a machine; return the revision of that. Where its
    host changes, its ports go with it."""
    for attempt in range(_ATTEMPTS):
        objects = store.snapshot(Kind.MACHINE, Kind.PORT, Kind.HOST).objects
        machine = objects[Kind.MACHINE].get(machine_id)
        if machine is None:
            raise NotFoundError(f"machine {machine_id} has been removed meanwhile")
        changed = [machine.model_copy(update=wanted)]
        if "host" in wanted:
            _check_host(objects[Kind.HOST].values(), str(wanted["host"]))
            changed += [
                port.model_copy(update={"host": wanted["host"]})
                for port in objects[Kind.PORT].values()
                if isinstance(port, Port) and port.machine_id == machine_id
            ]
        try:
            return store.commit(Transaction(put=changed, as_read=True))
        except ConflictError:  # such as its agent, which moves it
            if attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


def _check_host(hosts: Iterable[AnyResource], name: str) -> None:
    names = [host.name for host in hosts if isinstance(host, Host) and not host.foreign]
    if name not in names:
        there = ", ".join(sorted(names)) or "none"
        raise NotFoundError(f"no host {name!r} that a VM can run on; there is: {there}")


def print_plan(changes: Plan) -> None:
    """One ``+``, ``~`` or ``-`` line per object."""
    print("\n".join(changes.lines()) or "nothing to change", flush=True)


def _write(store: Store, wanted: Wanted) -> int:
    return store.commit(
        Transaction(
            put=wanted.plan.put,
            delete=wanted.plan.removed,
            expected_revision=wanted.snapshot.revision,
        )
    )


def _running(item: AnyResource) -> AnyResource:
    return item.model_copy(update={"running": True}) if isinstance(item, Machine) else item


def _all(snapshot: Snapshot) -> Iterable[AnyResource]:
    for objects in snapshot.objects.values():
        yield from objects.values()
