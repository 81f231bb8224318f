"""A machine comes to this host."""

from __future__ import annotations

import asyncio
import json
import logging
import zlib
from collections import deque

from heddle.agent.journey import ChunkMark, Journey, Surroundings
from heddle.agent.migration import Action, Arriving, Event, Timeouts, arriving
from heddle.compiler.state import MachineSpec
from heddle.datapath.moving import Arrival
from heddle.errors import HypervisorError
from heddle.hypervisor.moving import Goal, Turn, Whereabouts
from heddle.intent.model import Machine

log = logging.getLogger(__name__)

_NAMED = 5  # of lost connections
_PREPARE_SECONDS = 0.05  # between two looks whether links and rows are there
_OFFER_SECONDS = 1.0  # the other agent may begin after us
_HERE = (Arriving.ACTIVE, Arriving.SETTLING)
# An agent that starts anew where the machine still is has forgotten what it was told.
_ON_OFFER = (Arriving.OFFERED, Arriving.LOADED)
# How long a connection counts as used before its packets come here.
_KEEP_SECONDS = 900.0


class ArrivingJourney(Journey[Arriving]):
    """The machine's way from ``machine.host`` to here."""

    def __init__(self, machine: Machine, around: Surroundings, limits: Timeouts) -> None:
        super().__init__(machine, arriving(), around, limits)
        self._definition = ""
        self._chunks: deque[bytes] = deque()
        self._arrival: Arrival | None = None
        self._is_complete = False
        self._lost: dict[str, None] = {}  # connections for which there is no room, in words

    # ---- what happens ------------------------------------------------------

    def turned(self, turn: Turn) -> None:
        """libvirt tells of the machine here."""
        if turn is Turn.RESUMED:
            self.happened(Event.RUNS)

    def sent_a_frame(self, at: int) -> None:
        self.told.setdefault("first_frame_at", at)
        self.happened(Event.FIRST_FRAME)

    def mail(self, what: str, value: bytes) -> None:
        """From the other host."""
        if what.startswith("connections/"):
            self._chunks.append(value)
            self.happened(Event.CONNECTIONS)

    async def begin(self) -> None:
        self.work(self._prepare())

    def late(self) -> str:
        return (
            f"host {self.machine.host} has not sent the last connections: does its agent run? "
            "Those that began just before the switch may be lost"
        )

    async def look(self) -> None:
        where = await asyncio.to_thread(self._around.hypervisor.whereabouts, self.machine.id)
        if where is Whereabouts.RUNNING:
            self.happened(Event.RUNS)

    async def _prepare(self) -> None:
        """See to it that all is there that the machine needs."""
        try:
            spec = await self._linked_spec()
            self._definition = await asyncio.to_thread(self._around.hypervisor.definition, spec)
            self.told["definition"] = self._definition
            self.happened(Event.PREPARED)
        except HypervisorError as error:
            self.error = str(error)
            self.happened(Event.UNFIT)

    async def _linked_spec(self) -> MachineSpec:
        while True:
            spec = self._around.spec(self.machine.id)
            if spec is not None:
                if trouble := self._around.trouble(spec):
                    raise HypervisorError(f"host {self._around.host}: {trouble}")
                if self._around.missing(spec) is None:
                    return spec
            await asyncio.sleep(_PREPARE_SECONDS)

    # ---- what is done ------------------------------------------------------

    async def carry_out(self, action: Action) -> None:
        match action:
            case Action.REPORT_READY:
                self.work(self._offer())
            case Action.REPORT_REFUSED:
                await self._post("refused", (self.error or "it can't").encode())
            case Action.ADOPT:
                await self._adopt()
            case Action.TURN_HERE:
                await self._around.turn(self.machine.id, True)
                if self._arrival is not None:
                    await asyncio.to_thread(self._arrival.has_come)
            case Action.COMMIT_MOVED:
                self.commit(self._around.commit_moved)
            case Action.AWAIT_REST:
                if self._is_complete:
                    self.happened(Event.COMPLETE)

    async def _offer(self) -> None:
        goal = Goal(self._around.host, self._around.address, self._definition)
        while self._course.state in _ON_OFFER:
            await self._post("ready", json.dumps(goal._asdict()).encode())
            await asyncio.sleep(_OFFER_SECONDS)

    async def _adopt(self) -> None:
        """Connections count as used until the machine is here: then they are."""
        keep = 0.0 if self._course.state in _HERE else _KEEP_SECONDS

        def job(records: bytes) -> list[str]:
            if self._arrival is None:
                self._arrival = self._around.arrival(self.machine.id)
            return self._arrival.adopt(records, keep_seconds=keep)

        while self._chunks:
            chunk = self._chunks.popleft()
            lost = await asyncio.to_thread(job, zlib.decompress(chunk[1:]))
            self._lost.update(dict.fromkeys(lost))
            if lost:
                self._tell_of_lost()
            marks = ChunkMark(chunk[0])
            if ChunkMark.LAST in marks:
                await self._post("taken", b"taken")
            if ChunkMark.COMPLETE in marks:
                self._is_complete = True
                self.happened(Event.COMPLETE)

    def _tell_of_lost(self) -> None:
        """The machine moves all the same; its other connections go on."""
        some, more = list(self._lost)[:_NAMED], len(self._lost) - _NAMED
        self.told["lost_connections"] = len(self._lost)
        self.told["lost"] = ", ".join(some) + (f" and {more} more" if more > 0 else "")
        log.warning(
            "migration of %s: the flow table is full: %d connections are lost: %s",
            self.machine.name,
            len(self._lost),
            self.told["lost"],
        )

    async def _post(self, what: str, value: bytes) -> None:
        key = f"{self.machine.id}/{what}"
        await asyncio.to_thread(self._around.post, self.machine.host, key, value)

    async def run(self) -> None:
        try:
            await super().run()
        finally:
            if self._arrival is not None:
                self._arrival.close()
