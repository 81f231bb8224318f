"""A machine leaves this host."""

from __future__ import annotations

import asyncio
import json
import logging
import zlib

from heddle.agent.journey import ChunkMark, Journey, Surroundings
from heddle.agent.migration import Action, Event, Leaving, Timeouts, leaving
from heddle.datapath.moving import Departure
from heddle.errors import HypervisorError
from heddle.hypervisor.moving import Goal, Turn, Whereabouts
from heddle.intent.model import Machine

log = logging.getLogger(__name__)

_CHUNK_BYTES = 1 << 20  # of records, before they are compressed
_FOLLOW_SECONDS = 0.1
_UNDECIDED = (Leaving.WAITING, Leaving.COPYING)
_EVENTS = {
    Turn.PAUSED: Event.PAUSED,
    Turn.RESUMED: Event.RESUMED,
    Turn.ENDED: Event.ENDED,
    Turn.MOVED: Event.MOVED,
}


class LeavingJourney(Journey[Leaving]):
    """The machine's way from here to ``machine.migrating_to``."""

    def __init__(self, machine: Machine, around: Surroundings, limits: Timeouts) -> None:
        super().__init__(machine, leaving(), around, limits)
        self._goal: Goal | None = None
        self._departure: Departure | None = None
        self._sent = 0  # chunks
        self._is_moving = False  # we wait for the hypervisor
        self._is_aborted = False  # by us, and why has been told

    # ---- what happens ------------------------------------------------------

    def turned(self, turn: Turn) -> None:
        """libvirt tells of the machine."""
        if turn in _EVENTS:
            self.happened(_EVENTS[turn])

    def mail(self, what: str, value: bytes) -> None:
        """From the other host."""
        if what == "ready":
            self._goal = Goal(**json.loads(value))
            self.happened(Event.READY)
        elif what == "refused":
            self.error = value.decode()
            self.happened(Event.REFUSED)
        elif what == "taken":
            self.happened(Event.TAKEN)
        elif what == "cancel":
            self.error = "it was called off"
            self.happened(Event.CALLED_OFF)

    async def begin(self) -> None:
        pass

    def late(self) -> str:
        if self._course.state in _UNDECIDED:
            return f"host {self.machine.migrating_to} does not answer: does its agent run?"
        return f"the hypervisor has not moved it in time: {self._course.state}"

    async def look(self) -> None:
        if self._is_moving or self._course.state in (Leaving.GONE, Leaving.STAYING):
            return
        where = await asyncio.to_thread(self._around.hypervisor.whereabouts, self.machine.id)
        if where is Whereabouts.ABSENT:
            self.happened(Event.MOVED)
        elif where is Whereabouts.MOVING:
            self.happened(Event.UNDER_WAY)
        elif where is Whereabouts.OFF:
            self.error = f"machine {self.machine.name} is off"
            self.happened(Event.ENDED)
        elif self._course.state in _UNDECIDED and await self._is_alone():
            self.error = self.late()
            self.happened(Event.LATE)

    async def _is_alone(self) -> bool:
        """Before the hypervisor has begun, nothing goes on without the other agent."""
        return await asyncio.to_thread(self._around.is_down, self.machine.migrating_to)

    # ---- what is done ------------------------------------------------------

    async def carry_out(self, action: Action) -> None:
        match action:
            case Action.SEND_CONNECTIONS:
                await self._send_connections()
            case Action.MOVE:
                self._is_moving = True
                self.work(self._move())
            case Action.ABORT:
                self._is_aborted = self.error is not None
                await asyncio.to_thread(self._around.hypervisor.abort, self.machine.id)
            case Action.TURN_AWAY:
                await self._around.turn(self.machine.id, False)
            case Action.TURN_BACK:
                await self._around.turn(self.machine.id, None)
            case Action.COMMIT_MOVED:
                self.error = None  # whatever was in its way
                self.commit(self._around.commit_moved)
            case Action.COMMIT_STAYED:
                self.commit(self._around.commit_stayed)

    async def _send_connections(self) -> None:
        stands_still = self._course.state in (Leaving.SWITCHING, Leaving.GONE)
        at_end = ChunkMark.LAST | (ChunkMark.COMPLETE if stands_still else ChunkMark(0))

        def job() -> None:
            if self._departure is None:
                self._departure = self._around.departure(self.machine.id)
            records = self._departure.delta()
            size = self._departure.record_bytes
            step = _CHUNK_BYTES // size * size
            pieces = [records[at : at + step] for at in range(0, len(records), step)] or [b""]
            for number, piece in enumerate(pieces, start=1):
                mark = at_end if number == len(pieces) else ChunkMark(0)
                key = f"{self.machine.id}/connections/{self._sent:06}"
                message = bytes([mark]) + zlib.compress(piece, level=1)
                self._around.post(self.machine.migrating_to, key, message)
                self._sent += 1

        await asyncio.to_thread(job)

    async def _move(self) -> None:
        """Let the hypervisor move it, or wait for what somebody else has begun."""
        hypervisor, machine_id = self._around.hypervisor, self.machine.id
        try:
            if await asyncio.to_thread(hypervisor.whereabouts, machine_id) is Whereabouts.MOVING:
                await self._follow()
            elif self._goal is not None:
                await asyncio.to_thread(hypervisor.move, machine_id, self._goal)
            self.happened(Event.MOVED)
        except HypervisorError as error:
            log.warning("migration of %s: %s", self.machine.name, error)
            if not self._is_aborted:
                self.error = str(error)
            self.happened(Event.FAILED)
        finally:
            self._is_moving = False

    async def _follow(self) -> None:
        """Returns when it has moved. HypervisorError when it has not."""
        while True:
            where = await asyncio.to_thread(self._around.hypervisor.whereabouts, self.machine.id)
            if where is Whereabouts.ABSENT:
                return
            if where in (Whereabouts.RUNNING, Whereabouts.OFF):
                raise HypervisorError(
                    f"machine {self.machine.name} has not moved: see what libvirt says of it"
                )
            await asyncio.sleep(_FOLLOW_SECONDS)
