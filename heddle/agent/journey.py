"""One machine's migration under way on this host: takes in what happens, does
what its course says (migration.py), and tells how it goes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from enum import IntFlag, StrEnum
from typing import Any, Generic, Protocol, TypeVar

from heddle.agent.migration import Action, Course, Event, Timeouts
from heddle.compiler.state import MachineSpec
from heddle.datapath.moving import Arrival, Departure
from heddle.errors import HeddleError
from heddle.hypervisor.moving import Goal, Whereabouts
from heddle.intent.model import Machine

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0  # between two looks at where the machine is, should an event have got lost
COMMIT_RETRY_SECONDS = 1.0

State = TypeVar("State", bound=StrEnum)


class ChunkMark(IntFlag):
    """The first byte of a message with connections."""

    LAST = 1  # of those that are told now
    COMPLETE = 2  # the machine stands still: nothing changes any more


class Hypervisor(Protocol):
    """What the hypervisor does for a migration. All of it may block."""

    def definition(self, spec: MachineSpec) -> str:
        """What libvirt must be told of a machine that comes here."""
        ...

    def move(self, machine_id: str, goal: Goal) -> None: ...

    def abort(self, machine_id: str) -> None: ...

    def whereabouts(self, machine_id: str) -> Whereabouts: ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a journey needs of this host's agent."""

    host: str
    address: str  # in the underlay
    hypervisor: Hypervisor
    turn: Callable[[str, bool | None], Awaitable[None]]
    """Rows of a machine's ports: it is here, it is not, or as the store says."""
    departure: Callable[[str], Departure]
    arrival: Callable[[str], Arrival]
    """Of the ports of a machine, which have links here."""
    spec: Callable[[str], MachineSpec | None]
    missing: Callable[[MachineSpec], str | None]
    """What is not there yet of a machine's links and rows, or None."""
    trouble: Callable[[MachineSpec], str | None]
    """Why something of them can't be had, or None."""
    is_down: Callable[[str], bool]
    """Whether a host's agent is known to be silent; blocks."""
    post: Callable[[str, str, bytes], None]
    """Mail to a host's agent (host, key, value); blocks."""
    commit_moved: Callable[[str], None]
    commit_stayed: Callable[[str], None]
    """What the store shall say of a machine; block. StoreError, ConflictError."""
    publish: Callable[[str, Mapping[str, Any]], None]


class Journey(ABC, Generic[State]):
    """One machine, from the first word of its migration to the last."""

    def __init__(
        self, machine: Machine, course: Course[State], around: Surroundings, limits: Timeouts
    ) -> None:
        self.machine = machine
        self.error: str | None = None
        self.told: dict[str, str | int] = {}  # what else the fact says
        self._course = course
        self._around = around
        self._limits = limits
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._entered_at = time.monotonic()
        self._works: set[asyncio.Task[None]] = set()

    @abstractmethod
    async def carry_out(self, action: Action) -> None:
        """Do it, or begin to (``work``)."""

    @abstractmethod
    async def look(self) -> None:
        """Find out what no event may have told."""

    @abstractmethod
    def late(self) -> str:
        """What to say of a state that lasts too long."""

    @abstractmethod
    async def begin(self) -> None:
        """What comes before the first event."""

    def happened(self, event: Event) -> None:
        self._events.put_nowait(event)

    async def run(self) -> None:
        """Until it is over. What fails in between is told, and then late."""
        try:
            self._tell()
            await self.begin()
            self.work(self._look_again())
            while not self._course.is_over:
                await self._take(await self._next_event())
            self._tell()
        finally:
            for task in self._works:
                task.cancel()

    def work(self, job: Coroutine[Any, Any, None]) -> None:
        """Let something go on while events are taken in."""
        task = asyncio.get_running_loop().create_task(self._guarded(job))
        self._works.add(task)
        task.add_done_callback(self._works.discard)

    def commit(self, write: Callable[[str], None]) -> None:
        """Write to the store, for as long as that takes: traffic does not wait for it."""

        async def job() -> None:
            while True:
                try:
                    await asyncio.to_thread(write, self.machine.id)
                    break
                except HeddleError as error:
                    log.warning("migration of %s: %s", self.machine.name, error)
                    self._fail(str(error))
                    await asyncio.sleep(COMMIT_RETRY_SECONDS)
            self.happened(Event.COMMITTED)

        self.work(job())

    async def _look_again(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look()

    async def _guarded(self, job: Coroutine[Any, Any, None]) -> None:
        try:
            await job
        except HeddleError as error:
            self._fail(str(error))

    async def _next_event(self) -> Event:
        limit = self._limits.of(self._course.state)
        left = None if limit is None else self._entered_at + limit - time.monotonic()
        try:
            async with asyncio.timeout(left if left is None else max(left, 0)):
                return await self._events.get()
        except TimeoutError:
            self._entered_at = time.monotonic()
            self.error = self.error or self.late()
            return Event.LATE

    async def _take(self, event: Event) -> None:
        before = self._course.state
        actions = self._course.step(event)
        if self._course.state is not before:
            self._entered_at = time.monotonic()
            log.info(
                "migration of %s: %s: %s -> %s",
                self.machine.name,
                event,
                before,
                self._course.state,
            )
        for action in actions:
            try:
                await self.carry_out(action)
            except HeddleError as error:
                log.warning("migration of %s: %s: %s", self.machine.name, action, error)
                self._fail(str(error))
        self._tell()

    def _fail(self, error: str) -> None:
        self.error = error
        self._tell()

    def _tell(self) -> None:
        self._around.publish(
            self.machine.id,
            {
                "state": self._course.state.value,
                "from": self.machine.host,
                "to": self.machine.migrating_to,
                "error": self.error,
                **self.told,
            },
        )
