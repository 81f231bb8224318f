"""The agent: named tasks that carry intent into the kernel and facts back.

=============  ==================================================================
task           what it does
=============  ==================================================================
intent         store -> compiler -> applier, change by change
registration   makes the host known to others
facts          writes what is so to the store
alive          says in the store that this host is up
audit          finds and repairs what was altered behind our back: at once when
               the kernel tells of it, else within ``AUDIT_SECONDS``
machines       brings domains and containers to their wanted state
events         reads the data plane's ring buffer
advertise      multicasts router advertisements
paths          probes the other hosts, and chooses how each is reached
control        serves the control socket
=============  ==================================================================

Everything that touches the kernel runs in one thread (kernelwork.py),
everything that touches libvirt in another, and what waits for the store in a
few more; what the agent knows is touched by the event loop alone. The data plane
needs none of this to forward: the agent may die at any point.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from heddle import __version__
from heddle.agent.advertise import Advertiser, Send
from heddle.agent.board import Board, Look
from heddle.agent.control import ControlServer
from heddle.agent.facts import Fact, Facts, Key
from heddle.agent.kernelwork import KernelWork
from heddle.agent.membership import Membership
from heddle.agent.memory import give_back
from heddle.agent.notifications import LinkNotifications
from heddle.agent.prober import Prober
from heddle.agent.relocation import Desk, MovingParts, Relocation
from heddle.agent.sites import Sites
from heddle.agent.troubles import Troubles
from heddle.applier.applier import Applier, Report
from heddle.compiler.fragment import Limits
from heddle.compiler.state import HostDelta, MachineSpec
from heddle.errors import StoreError
from heddle.events.drops import DropEvent
from heddle.events.records import Event
from heddle.events.tunnel import ActiveEvent, ProbeEvent
from heddle.hypervisor.machines import MachineStatus
from heddle.intent.model import Kind, Presence
from heddle.intent.model import Path as HostPath
from heddle.store.interface import Batch, Change, Outage, Snapshot, Store

log = logging.getLogger(__name__)

AUDIT_SECONDS = 2.0  # from one regular audit to the next
AUDIT_PAUSE_LONGEST = 3.0  # when audits are costly; damage is repaired within 5 s even so
AUDIT_SHARE = 0.05  # of a CPU that audits may take, within that limit
MACHINES_SECONDS = 4.0  # from one look at the machines to the next
MACHINES_SECONDS_BOOTING = 0.3  # the same while one is on its way
RETRY_SECONDS = 1.0
FAREWELL_SECONDS = 3.0  # for the store to take the last facts
REPAIRS_KEPT = 20
ACTIONS_LOGGED = 20
MANY_LINKS = 1000  # in one change, for which memory is given back
EVENTS_QUEUED = 1000  # per listener; a slow one loses the oldest


class Machines(Protocol):
    """Brings machines to their wanted state; blocks while it does."""

    def reconcile(self, specs: Mapping[str, MachineSpec]) -> dict[str, MachineStatus]: ...

    def retry(self) -> None:
        """Let the next ``reconcile`` try at once what failed before."""
        ...

    def definition(self, spec: MachineSpec) -> str:
        """What the hypervisor must be told of a VM that comes from another host."""
        ...


class DropRecords(Protocol):
    """The data plane's ring buffer."""

    def fileno(self) -> int: ...

    def consume(self) -> list[bytes]: ...


@dataclass(frozen=True, slots=True)
class Parts:
    """What an agent is made of."""

    store: Store
    applier: Applier
    limits: Limits
    machines: Machines
    drops: DropRecords
    decode_event: Callable[[bytes], Event]
    notifications: LinkNotifications
    send: Send
    index_of: Callable[[str], int | None]  # device -> ifindex
    prober: Prober
    register: Callable[[], None] = lambda: None  # makes the host known to others; may block
    moving: MovingParts | None = None  # None: VMs of this host stay


class Agent:
    """One host's agent. ``run`` returns after ``stop``."""

    def __init__(
        self, host: str, parts: Parts, socket_path: Path, *, on_demand: bool = False
    ) -> None:
        self._host = host
        self._on_demand = on_demand
        self._parts = parts
        self._control = ControlServer(self, socket_path)
        self._facts = Facts(parts.store, host)
        self._board = Board(self._facts, parts.index_of)
        self._advertiser = Advertiser(parts.send)
        self._kernel = KernelWork(host, parts.applier, parts.limits, parts.notifications)
        self._sites = Sites(host)
        self._hypervisor = ThreadPoolExecutor(1, "hypervisor")
        self._storing = ThreadPoolExecutor(3, "store")
        self._machines_due = asyncio.Event()
        self._stopping = asyncio.Event()
        self._listeners: set[asyncio.Queue[DropEvent]] = set()
        self._started_at = _now()
        self._revision: int | None = None  # applied
        self._looks = 0  # at machines, so far
        self._impatient = False  # what failed shall be tried again at the next look
        self._bulky = False  # much was handled at once since memory was given back
        self._repaired = 0
        self._repairs: deque[dict[str, str]] = deque(maxlen=REPAIRS_KEPT)
        self._troubles = Troubles(self._publish)
        self._membership = Membership(
            host, parts.store, parts.register, self._storing, self._troubles
        )
        self._relocation = self._relocated(parts.moving) if parts.moving else None

    # ---- life ----------------------------------------------------------

    async def run(self) -> None:
        """Work until ``stop`` is called. The data plane stays as it is."""
        works: dict[str, Callable[[], Awaitable[None]]] = {
            "control": self._control.serve,
            "intent": self._follow_intent,
            "registration": self._membership.register,
            "facts": self._write_facts,
            "alive": partial(self._membership.stay_alive, self._started_at),
            "audit": self._watch_kernel,
            "machines": self._keep_machines,
            "events": self._read_events,
            "advertise": self._advertiser.run,
            "paths": self._keep_paths,
        }
        if self._relocation is not None:
            works["migrations"] = self._relocation.run
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._keep(n, w), name=n) for n, w in works.items()]
                await self._stopping.wait()
                for task in tasks:
                    task.cancel()
        finally:
            self._kernel.close()
            self._parts.prober.close()
            self._hypervisor.shutdown(wait=False, cancel_futures=True)
            self._facts.put(("agent", self._host), {**self.describe(), "state": "stopped"})
            await self._say_farewell()

    async def _say_farewell(self) -> None:
        """Write the last facts, unless the store is out of reach."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_SECONDS):
                await loop.run_in_executor(self._storing, self._facts.write)
        self._storing.shutdown(wait=False, cancel_futures=True)

    async def _keep(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Run a task for ever. The one place where any exception may end: what
        the task was at stays wanted, its error is visible in ``heddle show``,
        and the task begins anew from what the store and the kernel hold."""
        while True:
            try:
                await work()
            except Exception as error:
                log.exception("%s failed, will retry", name)
                self._troubles.set(name, str(error) or type(error).__name__)
                self._publish()
            await asyncio.sleep(RETRY_SECONDS)

    # ---- what the control socket offers --------------------------------

    def describe(self) -> dict[str, Any]:
        """The agent's fact about itself."""
        return {
            "state": "running",
            "pid": os.getpid(),
            "version": __version__,
            "started_at": self._started_at,
            "on_demand": self._on_demand,
            "revision": self._revision,
            "repaired": self._repaired,
            "repairs": list(self._repairs),
            "pending": dict(self._kernel.pending),
            "errors": self._troubles.as_json(),
            "hosts": dict(self._kernel.unreachable),
            "envelopes": self._kernel.envelopes,
        }

    def reconcile(self) -> int:
        """Look for damage now, and try again what failed. Returns the number of
        the look at machines that comes of it: older errors are of the past."""
        self._kernel.suspicion.set()
        self._impatient = True
        self._machines_due.set()
        asyncio.get_running_loop().run_in_executor(self._storing, self._catch_up)
        return self._looks + 1

    def _catch_up(self) -> None:
        """Who waits for a revision should learn that it is reached also when
        nothing in it is for this host."""
        try:
            self._parts.store.catch_up(self._host)
        except StoreError as error:
            log.warning("%s", error)

    def stop(self) -> None:
        self._stopping.set()

    def paths(self) -> dict[str, Any]:
        """How the other hosts are reached at this moment."""
        return self._parts.prober.fact()

    def follow_facts(self) -> AsyncIterator[dict[Key, Fact | None]]:
        return self._facts.follow()

    async def follow_events(self) -> AsyncIterator[dict[str, Any]]:
        """Drop events from now on."""
        queue: asyncio.Queue[DropEvent] = asyncio.Queue(EVENTS_QUEUED)
        self._listeners.add(queue)
        try:
            while True:
                yield (await queue.get()).as_json()
        finally:
            self._listeners.discard(queue)

    def _publish(self) -> None:
        self._facts.put(("agent", self._host), self.describe())
        self._facts.flush()

    # ---- intent --------------------------------------------------------

    async def _follow_intent(self) -> None:
        async with contextlib.aclosing(self._parts.store.follow(self._host)) as followed:
            async for told in followed:
                match told:
                    case Snapshot():
                        await self._start(told)
                    case Batch():
                        await self._step(told)
                    case Outage():
                        self._note_outage(told.reason)

    async def _start(self, snapshot: Snapshot) -> None:
        """Take over all intent."""
        presences = self._relocation.presences if self._relocation is not None else []
        known: list[HostPath | Presence] = [*self._parts.prober.in_force, *presences]
        delta, report = await self._kernel.start(snapshot, known)
        self._board.restart()
        self._settle(delta, report, snapshot.revision)
        self._sites.restart(snapshot.objects)
        self._meet((), delta)
        self._board.forget_strangers()
        self._facts.flush()
        if self._relocation is not None:
            await self._relocation.restart(snapshot)

    async def _step(self, batch: Batch) -> None:
        if batch.changes:
            if self._relocation is not None:
                await self._relocation.about_to_change(batch.changes)
            delta, report = await self._kernel.step(batch.changes)
            self._settle(delta, report, batch.revision)
            self._meet(batch.changes, delta)
            if self._relocation is not None:
                await self._relocation.changed(batch.changes)
        else:
            self._revision = batch.revision
            self._publish()

    def _relocated(self, parts: MovingParts) -> Relocation:
        desk = Desk(
            host=self._host,
            store=self._parts.store,
            board=self._board,
            facts=self._facts,
            index_of=self._parts.index_of,
            pending=lambda: {**self._kernel.pending, **self._rejected_machines()},
            definition=self._definition,
            turn=self._turn,
        )
        return Relocation(desk, parts)

    def _rejected_machines(self) -> dict[str, str]:
        return {name: text for (_, name), text in self._kernel.rejected.items()}

    def _definition(self, spec: MachineSpec) -> str:
        """From any thread but the hypervisor's own."""
        return self._hypervisor.submit(self._parts.machines.definition, spec).result()

    async def _turn(self, change: Change) -> None:
        """What a migration says of where a machine is, ahead of the store."""
        delta, report = await self._kernel.step([change])
        self._settle(delta, report, self._revision or 0)

    def _note_outage(self, reason: str) -> None:
        """The store is out of reach, or back: everything goes on as it is."""
        if reason:
            log.warning("the store is out of reach, everything stays as it is: %s", reason)
            self._troubles.set("store", reason)
        else:
            log.info("the store is back")
            self._troubles.set("store", "")
        self._publish()

    async def _write_facts(self) -> None:
        await self._facts.keep_written(self._storing, self._recalled)

    def _recalled(self) -> None:
        if self._revision is not None:
            self._board.forget_strangers()

    def _settle(self, delta: HostDelta, report: Report, revision: int) -> None:
        """Record what has been carried out."""
        _log_report(f"revision {revision}", report)
        self._revision = revision
        if self._board.concerns_running(delta):
            self._machines_due.set()
        self._board.applied(delta, self._kernel.pending)
        self._board.reject(self._kernel.rejected)
        self._advertiser.update(delta)
        self._troubles.set("intent", "")
        self._publish()
        self._bulky = self._bulky or len(delta.links) > MANY_LINKS

    # ---- audit ---------------------------------------------------------

    async def _watch_kernel(self) -> None:
        while True:
            pause = min(self._kernel.audit_seconds / AUDIT_SHARE, AUDIT_PAUSE_LONGEST)
            await asyncio.sleep(pause)
            await _wait(self._kernel.suspicion, AUDIT_SECONDS - pause)
            if self._revision is not None:
                await self._audit()

    async def _audit(self) -> None:
        before = self._kernel.pending
        report = await self._kernel.audit()
        self._troubles.set("audit", "")
        if self._bulky:  # now, since the first audit after a large change is large itself
            give_back()
            self._bulky = False
        if not report.changes and before == self._kernel.pending:
            self._facts.flush()  # what an earlier flush could not write
            return
        _log_report("repair", report)
        self._repaired += len(report.changes)
        at = _now()
        self._repairs.extend({"at": at, "what": f"{a.verb} {a.what}"} for a in report.changes)
        self._board.repaired(self._kernel.pending)
        self._machines_due.set()  # a link made anew has to be plugged in again
        self._publish()

    # ---- machines ------------------------------------------------------

    async def _keep_machines(self) -> None:
        while True:
            self._machines_due.clear()
            booting = self._revision is not None and await self._look_at_machines(self._revision)
            pause = MACHINES_SECONDS_BOOTING if booting else MACHINES_SECONDS
            await _wait(self._machines_due, pause)

    async def _look_at_machines(self, revision: int) -> bool:
        """Bring them a step further; return whether one is on its way."""
        self._looks += 1
        specs, machines = dict(self._board.specs), self._parts.machines
        impatient, self._impatient = self._impatient, False

        def job() -> dict[str, MachineStatus]:
            if self._relocation is not None:
                self._relocation.listen()
            if impatient:
                machines.retry()
            return machines.reconcile(specs)

        loop = asyncio.get_running_loop()
        statuses = await loop.run_in_executor(self._hypervisor, job)
        self._board.machines(statuses, specs, Look(self._looks, revision))
        self._troubles.set("machines", "")
        self._publish()
        return any(_on_its_way(specs.get(name), status) for name, status in statuses.items())

    # ---- events of the data plane ---------------------------------------

    async def _read_events(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(self._parts.drops.fileno(), self._take_events)
        try:
            await asyncio.Event().wait()
        finally:
            loop.remove_reader(self._parts.drops.fileno())

    def _take_events(self) -> None:
        for event in map(self._parts.decode_event, self._parts.drops.consume()):
            if isinstance(event, ProbeEvent):
                self._parts.prober.answered(event.sequence, event.received_at / 1e9)
            elif isinstance(event, ActiveEvent) and self._relocation is not None:
                self._relocation.sent_a_frame(event)
            elif isinstance(event, DropEvent):
                self._hear_of(event)

    def _hear_of(self, event: DropEvent) -> None:
        for queue in self._listeners:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(event)

    # ---- paths -----------------------------------------------------------

    def _meet(self, changes: Sequence[Change], delta: HostDelta) -> None:
        """Other hosts, or what this one needs of them, may have changed."""
        if self._sites.update(((c.kind, c.id, c.value) for c in changes), delta):
            self._parts.prober.meet(self._sites)

    async def _keep_paths(self) -> None:
        await self._parts.prober.run(self._carry_out_paths, self._tell_paths)

    async def _carry_out_paths(self, paths: Sequence[HostPath]) -> None:
        if self._revision is None:
            return
        changes = [Change(self._revision, Kind.PATH, path.id, path) for path in paths]
        delta, report = await self._kernel.step(changes)
        self._settle(delta, report, self._revision)
        self._meet((), delta)

    def _tell_paths(self, fact: Fact) -> None:
        self._troubles.set("paths", "")
        trouble = self._parts.prober.trouble
        self._troubles.note("vtep", f"{trouble}; correct vtep in heddle.toml" if trouble else "")
        if fact["paths"]:
            self._facts.put(("path", self._host), fact)
        else:
            self._facts.forget(("path", self._host))
        self._facts.flush()


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, or so long; take it back either way."""
    # Not wait_for: before Python 3.12 it loses a cancellation that comes with the event.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(max(seconds, 0)):
            await event.wait()
    event.clear()


def _on_its_way(spec: MachineSpec | None, status: MachineStatus) -> bool:
    """Whether a machine is going to change by itself soon."""
    return spec is not None and spec.running and not status.ready and status.state != "error"


def _log_report(occasion: str, report: Report) -> None:
    """One line for all that was done: a line each would cost as much as the work."""
    if report.changes:
        told = [f"{action.verb} {action.what}" for action in report.changes[:ACTIONS_LOGGED]]
        more = len(report.changes) - len(told)
        log.info("%s: %s", occasion, "; ".join(told) + (f"; and {more} more" if more else ""))
    for name, error in report.failures.items():
        log.warning("%s: %s: %s", occasion, name, error)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
