"""Where migrations meet the rest of the agent."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from heddle.agent.board import Board
from heddle.agent.facts import Facts
from heddle.agent.journey import Surroundings
from heddle.agent.migration import Timeouts
from heddle.agent.migrations import Migrations
from heddle.agent.residents import Residents
from heddle.compiler.state import MachineSpec
from heddle.datapath.loader import Datapath
from heddle.datapath.moving import Arrival, Departure, End, ends_of, follow_machine
from heddle.errors import HeddleError, StoreError
from heddle.events.tunnel import ActiveEvent
from heddle.hypervisor import moving
from heddle.hypervisor.moving import Goal, Transport, Turns, Whereabouts
from heddle.intent.model import Kind, Presence
from heddle.intent.names import tap_name
from heddle.settings import HostSettings
from heddle.store.interface import Change, Snapshot, Store
from heddle.store.mail import Mail
from heddle.store.open import open_mail, open_reader
from heddle.store.reader import Life

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MovingParts:
    """What migrations need of the host itself."""

    mail: Mail
    address: str  # in the underlay
    transport: Transport
    datapath: Datapath
    limits: Timeouts
    lives: Callable[[], Mapping[str, Life]]
    """Which hosts are up, by name; blocks. StoreError."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What they need of its agent."""

    host: str
    store: Store
    board: Board
    facts: Facts
    index_of: Callable[[str], int | None]
    pending: Callable[[], Mapping[str, str]]
    """Errors, by device or id of an object."""
    definition: Callable[[MachineSpec], str]
    turn: Callable[[Change], Awaitable[None]]


def moving_parts(
    host: str, settings: HostSettings, datapath: Datapath, stack: ExitStack
) -> MovingParts | None:
    """None for a host by itself."""
    if settings.etcd is None or not settings.vtep:
        return None
    moving.start_events()
    mail = open_mail(settings)
    stack.callback(mail.close)
    own = Datapath.open(host)  # tables have a buffer each, and this is another thread
    stack.callback(own.close)
    reader = open_reader()
    stack.callback(reader.close)
    wanted = settings.migration
    return MovingParts(
        mail=mail,
        address=settings.vtep,
        transport=Transport(wanted.uri, wanted.data),
        datapath=own,
        limits=Timeouts(moving=wanted.timeout),
        lives=reader.lives,
    )


class Relocation:
    """The migrations of one agent."""

    def __init__(self, desk: Desk, parts: MovingParts) -> None:
        self._desk = desk
        self._parts = parts
        self._residents = Residents(desk.store)
        self._presences: dict[str, Presence] = {}
        self._migrations = Migrations(
            self._surroundings(), parts.mail, self._residents.is_settled, parts.limits
        )
        self._turns = Turns(self._migrations.turned)

    @property
    def presences(self) -> list[Presence]:
        """Where machines on their way are, ahead of the store."""
        return list(self._presences.values())

    async def run(self) -> None:
        await self._migrations.run()

    async def restart(self, snapshot: Snapshot) -> None:
        """All intent is read anew, and has been applied."""
        await self._migrations.machines(self._residents.restart(snapshot))

    async def about_to_change(self, changes: Iterable[Change]) -> None:
        """Changes are about to be applied: those of this host's ports that stay go on
        with the ones that leave it, wherever those are."""
        leaving = self._residents.leaving(self._desk.host, changes)
        ifindexes = [self._desk.index_of(tap_name(port.id)) for port in leaving]
        there = [ifindex for ifindex in ifindexes if ifindex is not None]
        if not there:
            return
        try:
            await asyncio.to_thread(follow_machine, self._parts.datapath, there)
        except HeddleError as error:
            log.warning("connections with machines that have left: %s", error)

    async def changed(self, changes: Iterable[Change]) -> None:
        """Changes have been applied."""
        await self._migrations.machines(self._residents.update(changes))

    def listen(self) -> None:
        """To libvirt, if it runs; blocks."""
        self._turns.ensure()

    def sent_a_frame(self, event: ActiveEvent) -> None:
        """The first one of a port that stood by."""
        try:
            device = socket.if_indextoname(event.ifindex)
        except OSError:
            return
        machine_id = self._desk.board.machine_at(device)
        if machine_id is not None:
            self._migrations.sent_a_frame(machine_id, event.at)

    # ---- what a journey needs ------------------------------------------------------

    def _surroundings(self) -> Surroundings:
        return Surroundings(
            host=self._desk.host,
            address=self._parts.address,
            hypervisor=_LibvirtMoves(self._desk.definition, self._parts.transport),
            turn=self._turn,
            departure=self._departure,
            arrival=self._arrival,
            spec=self._spec,
            missing=self._missing,
            trouble=self._trouble,
            is_down=self._is_down,
            post=self._parts.mail.post,
            commit_moved=self._residents.has_moved,
            commit_stayed=self._residents.has_stayed,
            publish=self._publish,
        )

    async def _turn(self, machine_id: str, here: bool | None) -> None:
        name = f"presence/{machine_id}"
        presence = None
        self._presences.pop(machine_id, None)
        if here is not None:
            presence = Presence(id=name, name=name, machine_id=machine_id, here=here)
            self._presences[machine_id] = presence
        await self._desk.turn(Change(0, Kind.PRESENCE, name, presence))

    def _spec(self, machine_id: str) -> MachineSpec | None:
        return self._desk.board.specs.get(machine_id)

    def _missing(self, spec: MachineSpec) -> str | None:
        missing = (nic.device for nic in spec.nics if self._desk.index_of(nic.device) is None)
        return next(missing, None)

    def _trouble(self, spec: MachineSpec) -> str | None:
        pending = self._desk.pending()
        names = [spec.id]
        for nic in spec.nics:
            names += [nic.device, nic.port_id]
        return next((pending[name] for name in names if name in pending), None)

    def _is_down(self, host: str) -> bool:
        try:
            life = self._parts.lives().get(host)
        except StoreError:
            return False  # nobody knows
        return life is not None and not life.up

    def _ends(self, machine_id: str) -> list[End]:
        spec = self._spec(machine_id)
        nics = spec.nics if spec is not None else ()
        return ends_of(self._parts.datapath, (self._desk.index_of(nic.device) for nic in nics))

    def _departure(self, machine_id: str) -> Departure:
        return Departure(self._parts.datapath, self._ends(machine_id))

    def _arrival(self, machine_id: str) -> Arrival:
        return Arrival(self._parts.datapath, self._ends(machine_id))

    def _publish(self, machine_id: str, fact: Mapping[str, Any]) -> None:
        self._desk.facts.put(("migration", machine_id), fact)
        self._desk.facts.flush()


class _LibvirtMoves:
    """heddle.agent.journey.Hypervisor."""

    def __init__(self, definition: Callable[[MachineSpec], str], transport: Transport) -> None:
        self.definition = definition
        self.move: Callable[[str, Goal], None] = partial(_move, transport)

    def abort(self, machine_id: str) -> None:
        moving.abort(machine_id)

    def whereabouts(self, machine_id: str) -> Whereabouts:
        return moving.whereabouts(machine_id)


def _move(transport: Transport, machine_id: str, goal: Goal) -> None:
    moving.move(machine_id, goal, transport)
