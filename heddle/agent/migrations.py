"""All migrations that concern this host, as the store wants them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import TypeAlias

from heddle.agent.departing import LeavingJourney
from heddle.agent.incoming import ArrivingJourney
from heddle.agent.journey import Surroundings
from heddle.agent.migration import Event, Timeouts
from heddle.errors import HeddleError
from heddle.hypervisor.moving import Turn
from heddle.intent.model import Machine
from heddle.store.mail import Mail

log = logging.getLogger(__name__)

# For how long the host that a machine has left sends on what still arrives there:
# others take up a change within a second, unless they are cut off from the store.
RELAY_SECONDS = 10.0
_RETRY_SECONDS = 1.0

AnyJourney: TypeAlias = LeavingJourney | ArrivingJourney


class Migrations:
    """Begins a journey when the store wants a machine moved, and tells each of
    what concerns it."""

    def __init__(
        self,
        around: Surroundings,
        mail: Mail,
        settle: Callable[[str], None],
        limits: Timeouts | None = None,
    ) -> None:
        """``settle`` writes to the store that nobody need send on any more what
        comes for a machine; it blocks."""
        self._around = around
        self._mail = mail
        self._settle = settle
        self._limits = limits or Timeouts()
        self._machines: dict[str, Machine] = {}  # that are here, come or have been here
        self._journeys: dict[str, AnyJourney] = {}
        self._turned: set[str] = set()  # machines of which rows are not as the store says
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._relays: dict[str, asyncio.Task[None]] = {}
        self._informed = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    @property
    def active(self) -> bool:
        return bool(self._journeys)

    async def run(self) -> None:
        """Take in mail, for ever, from when it is known whom it may be about: what came
        while no agent ran here waits for the journey that it belongs to."""
        try:
            await self._informed.wait()
            async for messages in self._mail.follow():
                await self._deliver(messages)
        finally:
            for task in (*self._tasks.values(), *self._relays.values()):
                task.cancel()

    async def machines(self, machines: Mapping[str, Machine | None]) -> None:
        """What the store says of machines has changed, and been applied."""
        for machine_id, machine in machines.items():
            known = self._machines.pop(machine_id, None) is not None
            if machine is not None and self._concerns(machine):
                self._machines[machine_id] = machine
            elif not known:
                continue
            await self._changed(machine_id, machine)
        self._informed.set()

    def turned(self, machine_id: str, turn: Turn) -> None:
        """libvirt tells of a machine; from any thread."""
        self._loop.call_soon_threadsafe(self._turned_here, machine_id, turn)

    def sent_a_frame(self, machine_id: str, at: int) -> None:
        """The first one of a machine that has come, at this ns of CLOCK_MONOTONIC."""
        journey = self._journeys.get(machine_id)
        if isinstance(journey, ArrivingJourney):
            journey.sent_a_frame(at)

    # ---- what the store wants ---------------------------------------------------

    def _concerns(self, machine: Machine) -> bool:
        return self._around.host in (machine.host, machine.migrating_to, machine.moved_from)

    async def _changed(self, machine_id: str, machine: Machine | None) -> None:
        journey, here = self._journeys.get(machine_id), self._around.host
        if journey is not None:
            self._tell(journey, machine)
        elif machine is not None and machine.migrating_to not in ("", machine.host):
            if here == machine.host:
                self._begin(LeavingJourney(machine, self._around, self._limits))
            elif here == machine.migrating_to:
                self._begin(ArrivingJourney(machine, self._around, self._limits))
        elif machine_id in self._turned:
            self._turned.discard(machine_id)
            await self._around.turn(machine_id, None)  # now the store says the same
        if machine is not None and machine.moved_from:
            self._relay(machine)

    def _tell(self, journey: AnyJourney, machine: Machine | None) -> None:
        """What the change means to a journey under way."""
        begun = journey.machine
        if machine is not None and machine.host == begun.migrating_to:
            journey.happened(
                Event.MOVED if isinstance(journey, LeavingJourney) else Event.COMMITTED
            )
        elif machine is None or machine.migrating_to != begun.migrating_to:
            journey.happened(Event.WITHDRAWN)

    def _begin(self, journey: AnyJourney) -> None:
        machine_id = journey.machine.id
        self._journeys[machine_id] = journey
        self._turned.add(machine_id)
        self._tasks[machine_id] = self._loop.create_task(self._travel(journey))

    async def _travel(self, journey: AnyJourney) -> None:
        machine_id = journey.machine.id
        try:
            await journey.run()
        except Exception:
            log.exception("migration of %s ends", journey.machine.name)
        finally:
            del self._journeys[machine_id]
            self._tasks.pop(machine_id, None)
        # The store may have said more meanwhile than the journey had to know; or less,
        # when it is about to tell us what we wrote ourselves.
        machine, begun = self._machines.get(machine_id), journey.machine
        if machine is None or (machine.host, machine.migrating_to) != (
            begun.host,
            begun.migrating_to,
        ):
            await self._changed(machine_id, machine)

    def _relay(self, machine: Machine) -> None:
        """Let it be for a while, then say that it is over. The host that it has
        left does, and should that be dead, the one that has it."""
        if machine.id in self._relays:
            return
        own = self._around.host == machine.moved_from
        if own or self._around.host == machine.host:
            job = self._settle_later(machine.id, RELAY_SECONDS * (1 if own else 2))
            self._relays[machine.id] = self._loop.create_task(job)

    async def _settle_later(self, machine_id: str, seconds: float) -> None:
        try:
            await asyncio.sleep(seconds)
            while (machine := self._machines.get(machine_id)) and machine.moved_from:
                try:
                    await asyncio.to_thread(self._settle, machine_id)
                    return
                except HeddleError as error:
                    log.warning("machine %s: %s", machine.name, error)
                    await asyncio.sleep(_RETRY_SECONDS)
        finally:
            self._relays.pop(machine_id, None)

    # ---- what others tell ---------------------------------------------------------

    def _turned_here(self, machine_id: str, turn: Turn) -> None:
        journey = self._journeys.get(machine_id)
        if journey is not None:
            journey.turned(turn)

    async def _deliver(self, messages: Mapping[str, bytes]) -> None:
        """Messages about a machine that is not on its way are of the past, or of
        one that has yet to begin and will be told again."""
        for key, value in sorted(messages.items()):
            machine_id, _, what = key.partition("/")
            journey = self._journeys.get(machine_id)
            if journey is not None:
                journey.mail(what, value)
        await asyncio.to_thread(self._mail.drop, messages)
