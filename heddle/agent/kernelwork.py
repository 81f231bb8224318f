"""Compiler and applier in a thread of their own, one job at a time.

The event loop stays free while ten thousand ports are loaded, and no two jobs
ever meet: compiled state and kernel are touched by this thread alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from heddle.applier.applier import Applier, Report
from heddle.compiler.fragment import Limits
from heddle.compiler.host import Compiler
from heddle.compiler.state import HostDelta
from heddle.store.interface import Change, Snapshot

Result = tuple[HostDelta, Report]
T = TypeVar("T")


class KernelWork:
    """What this host's kernel must do, and has been made to do."""

    def __init__(self, host: str, applier: Applier, limits: Limits) -> None:
        self._host = host
        self._applier = applier
        self._limits = limits
        self._compiler = Compiler(host, limits)
        self._thread = ThreadPoolExecutor(1, "kernel")
        self._under_way = 0
        self.audit_seconds = 0.0  # CPU time of the last audit

    @property
    def busy(self) -> bool:
        """Whether what the kernel tells just now may be our own doing."""
        return self._under_way > 0

    @property
    def pending(self) -> Mapping[str, str]:
        """Errors of what could not be done yet, by what it is."""
        return dict(self._applier.pending)

    @property
    def rejected(self) -> Mapping[tuple[str, str], str]:
        """Errors of objects that have no part in the host, by kind and id."""
        return {(kind.value, name): text for (kind, name), text in self._compiler.errors.items()}

    async def start(self, snapshot: Snapshot) -> Result:
        """Compile everything anew and make the kernel match."""

        def job() -> Result:
            self._compiler = Compiler(self._host, self._limits)
            delta = self._compiler.update(
                (kind, name, value)
                for kind, objects in snapshot.objects.items()
                for name, value in objects.items()
            )
            return delta, self._applier.synchronize(self._compiler.state)

        return await self._run(job)

    async def step(self, changes: Sequence[Change]) -> Result:
        """Carry one transaction of intent into the kernel."""

        def job() -> Result:
            delta = self._compiler.update((c.kind, c.id, c.value) for c in changes)
            return delta, self._applier.apply(delta)

        return await self._run(job)

    async def audit(self) -> Report:
        """Find and repair what was altered behind our back."""

        def job() -> Report:
            began = time.thread_time()
            report = self._applier.audit()
            self.audit_seconds = time.thread_time() - began
            return report

        return await self._run(job)

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)

    async def _run(self, job: Callable[[], T]) -> T:
        self._under_way += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, job)
        finally:
            self._under_way -= 1
