"""The work of ``heddle lab up``: from a file to machines that are ready."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from contextlib import closing
from functools import partial
from pathlib import Path

from heddle.cli.change import Wanted, commit, print_plan, wanted_by
from heddle.cli.progress import Progress
from heddle.cli.table import render
from heddle.cli.view import View, addresses, view_with_active
from heddle.cli.waiting import Facts, Missing, ready, wait_for
from heddle.errors import RequestError
from heddle.intent.hosts import host_id
from heddle.intent.model import AnyResource, Kind, Machine, Port
from heddle.intent.schema import BUILT_IN_IMAGE
from heddle.intent.topology import Topology, load_topology
from heddle.lab import hosts
from heddle.lab.build import build, remove_hosts, space_of
from heddle.lab.folder import CONTROL, ETCD, LabFolder, locked
from heddle.lab.plan import MEMBERS_MAX, LabPlan, checked_name, plan_lab
from heddle.lab.spaces import enter_network
from heddle.store.interface import Store, Transaction
from heddle.store.open import open_store

_OPERATOR = "lab"  # as whom the store knows us
_READ_AGAIN_SECONDS = 0.5  # from one look at where everything is to the next


def bring_up(file: Path, name: str, servers: int, seconds: float, progress: Progress) -> str:
    """Make the lab of a file, or change it; returns a table of its ports."""
    if servers not in range(1, MEMBERS_MAX + 1, 2):
        raise RequestError(f"--etcd-servers {servers}: an odd number up to {MEMBERS_MAX}")
    deadline = time.monotonic() + seconds
    topology = load_topology(file)
    for warning in topology.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    lab = LabFolder(checked_name(name))
    with locked(lab.name) as lock:
        old = lab.plan()
        plan = plan_lab(topology, lab.name, servers, old)
        hosts.check_names(lab, plan)
        _prepare_images(topology)
        build(lab, plan, lock, progress.say)
        _act_as_operator(lab)
        wanted = _apply(lab, plan, topology, progress, deadline)
        left = (
            {host.name for host in old.hosts} - {host.name for host in plan.hosts} if old else set()
        )
        remove_hosts(lab, sorted(left), lock)
        _forget(left)
    ports = {item.id for item in wanted.objects if isinstance(item, Port)}
    return _table(view_with_active(ports), ports)


def _prepare_images(topology: Topology) -> None:
    """Before hosts want them all at once, and from where packages can be reached."""
    machines = topology.spec.machines.values()
    if any(machine.kind == "vm" and machine.image == BUILT_IN_IMAGE for machine in machines):
        from heddle.hypervisor.tiny import ensure_tiny_image

        ensure_tiny_image(partial(print, file=sys.stderr, flush=True))


def _act_as_operator(lab: LabFolder) -> None:
    """From here on: in etcd's network, with settings that say where it is."""
    os.environ.update(HEDDLE_ROOT=str(lab.root(CONTROL)), HEDDLE_HOST=_OPERATOR)
    enter_network(space_of(lab, ETCD))


def _apply(
    lab: LabFolder, plan: LabPlan, topology: Topology, progress: Progress, deadline: float
) -> Wanted:
    """Commit what the file says, and wait until all hosts have made it so."""
    with closing(open_store()) as store:
        wanted, revision = commit(store, lambda: wanted_by(topology, store, running=True))
        progress.clear()
        print_plan(wanted.plan)
        places = Places(store, wanted.objects)
        waited_for: dict[str, str] | None = None
        while places.hosts != waited_for:  # else one has moved to a host that was looked at
            waited_for = places.hosts
            for host in plan.own_hosts():
                missing = places.ready(revision, host.name)
                left = max(deadline - time.monotonic(), 1.0)
                wait_for(missing, progress, left, hosts.socket_of(lab, host.name))
            places.read()
    return wanted


def _forget(left: Iterable[str]) -> None:
    """Delete the objects of hosts whose agents are no more."""
    ids = [(Kind.HOST, host_id(name)) for name in left]
    if ids:
        with closing(open_store()) as store:
            store.commit(Transaction(delete=ids))


class Places:
    """On which host each machine and port is at the moment: VMs may move while they
    are waited for."""

    def __init__(self, store: Store, objects: Iterable[AnyResource]) -> None:
        self._store = store
        self._items = [item for item in objects if isinstance(item, Machine | Port)]
        self.read()

    def read(self) -> None:
        there = self._store.snapshot(Kind.MACHINE, Kind.PORT).objects
        now = [there[item.kind].get(item.id) for item in self._items]
        self.hosts = {item.id: item.host for item in now if isinstance(item, Machine | Port)}
        self._read_at = time.monotonic()

    def ready(self, revision: int, host: str) -> Missing:
        """Missing until those work that the host has now."""

        def missing(facts: Facts, look: int) -> str:
            words = self._ready_now(revision, host)(facts, look)
            if words and time.monotonic() > self._read_at + _READ_AGAIN_SECONDS:
                self.read()
                words = self._ready_now(revision, host)(facts, look)
            return words

        return missing

    def _ready_now(self, revision: int, host: str) -> Missing:
        machines, ports = (self._names(kind, host) for kind in (Kind.MACHINE, Kind.PORT))
        return ready(revision, machines, ports, {host})

    def _names(self, kind: Kind, host: str) -> dict[str, str]:
        """By id."""
        return {
            item.id: item.name
            for item in self._items
            if item.kind is kind and self.hosts.get(item.id) == host
        }


def _table(view: View, ports: Iterable[str]) -> str:
    """The ports that are ready now, by host, in the order of their machines."""
    chosen = [port for port in view.of_kind("port") if port["id"] in ports]
    chosen.sort(key=lambda p: (p["host"], view.names.by_id[p["id"]].machine, p["nic"]))
    rows = []
    for port in chosen:
        name = view.names.by_id[port["id"]]
        state = view.status(port).get("state", "unknown")
        rows.append((port["host"], name.label, name.network, addresses(port), name.device, state))
    return render(("host", "port", "network", "addresses", "device", "state"), rows)
