"""Compiler and applier in a thread of their own, one job at a time.

The event loop stays free while ten thousand ports are loaded, and no two jobs
ever meet: compiled state and kernel are touched by this thread alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import NamedTuple, TypeVar

from heddle.agent.notifications import LinkNotifications
from heddle.applier.applier import Applier, Report
from heddle.compiler.fragment import Limits
from heddle.compiler.host import Compiler
from heddle.compiler.state import HostDelta
from heddle.intent.model import Kind, Path, Presence
from heddle.store.interface import Change, Snapshot

Result = tuple[HostDelta, Report]
T = TypeVar("T")


class _Outcome(NamedTuple):
    """What is so after a job, as the other properties tell it."""

    pending: Mapping[str, str] = {}
    errors: Mapping[tuple[Kind, str], str] = {}
    envelopes: str = ""


class KernelWork:
    """What this host's kernel must do, and has been made to do."""

    def __init__(
        self, host: str, applier: Applier, limits: Limits, notifications: LinkNotifications
    ) -> None:
        self._host = host
        self._applier = applier
        self._limits = limits
        self._compiler = Compiler(host, limits)
        self._thread = ThreadPoolExecutor(1, "kernel")
        self._notifications = notifications
        self._under_way = 0
        self._outcome = _Outcome()  # replaced by the thread as a whole
        self.suspicion = asyncio.Event()  # the kernel told of a change that is not ours
        self.audit_seconds = 0.0  # CPU time of the last audit

    @property
    def pending(self) -> Mapping[str, str]:
        """Errors of what could not be done yet, by what it is."""
        return self._outcome.pending

    @property
    def envelopes(self) -> str:
        """Who makes the envelopes that this host sends; "": it sends none."""
        return self._outcome.envelopes

    @property
    def rejected(self) -> Mapping[tuple[str, str], str]:
        """Errors of objects that have no part in the host, by kind and id."""
        errors = self._outcome.errors.items()
        return {(kind.value, name): text for (kind, name), text in errors if kind != Kind.HOST}

    @property
    def unreachable(self) -> Mapping[str, str]:
        """Errors of hosts that this one can't reach, by id, or by name where ports or
        networks name one that is not there. Each host has its own."""
        errors = self._outcome.errors.items()
        return {name: text for (kind, name), text in errors if kind == Kind.HOST}

    async def start(self, snapshot: Snapshot, facts: Sequence[Path | Presence] = ()) -> Result:
        """Compile everything anew, with what is known of the paths to other hosts
        and of machines on their way, and make the kernel match."""

        def job() -> Result:
            self._applier.begin()
            self._compiler = Compiler(self._host, self._limits)
            stored = (
                (kind, name, value)
                for kind, objects in snapshot.objects.items()
                for name, value in objects.items()
            )
            known = ((fact.kind, fact.id, fact) for fact in facts)
            delta = self._compiler.update(chain(stored, known), self._applier.foresee)
            return delta, self._applier.synchronize(self._compiler.state)

        return await self._run(job)

    async def step(self, changes: Sequence[Change]) -> Result:
        """Carry one transaction of intent into the kernel."""

        def job() -> Result:
            changed = ((c.kind, c.id, c.value) for c in changes)
            delta = self._compiler.update(changed, self._applier.foresee)
            return delta, self._applier.apply(delta)

        return await self._run(job)

    async def audit(self) -> Report:
        """Find and repair what was altered behind our back. Steps that come
        meanwhile are carried out between its parts."""
        report, seconds = Report(), 0.0
        for part in self._applier.audit_parts():

            def job(part: Callable[[], Report] = part) -> tuple[Report, float]:
                began = time.thread_time()
                return part(), time.thread_time() - began

            found, used = await self._run(job)
            report.continue_with(found)
            seconds += used
        self.audit_seconds = seconds
        return report

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._notifications.fileno())
        self._thread.shutdown(cancel_futures=True)

    async def _run(self, job: Callable[[], T]) -> T:
        """Run a job in the thread. What the kernel tells meanwhile counts as our
        own doing and is not even read; if it was not, the next regular audit
        finds it."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._notifications.fileno())
        self._under_way += 1
        try:
            return await loop.run_in_executor(self._thread, self._carry_out, job)
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._notifications.drain()
                loop.add_reader(self._notifications.fileno(), self._notified)

    def _carry_out(self, job: Callable[[], T]) -> T:
        """In the thread: a job, and what is wrong after it. Nobody else may ask
        compiler and applier, which are half changed while a job runs."""
        try:
            return job()
        finally:
            self._outcome = _Outcome(
                self._applier.pending, self._compiler.errors, self._applier.envelopes
            )

    def _notified(self) -> None:
        if self._notifications.drain():
            self.suspicion.set()
