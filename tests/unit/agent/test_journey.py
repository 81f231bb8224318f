"""What a journey tells the agent of the other host."""

from __future__ import annotations

import asyncio
import json
import threading
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from heddle.agent.departing import LeavingJourney
from heddle.agent.incoming import ArrivingJourney
from heddle.agent.journey import ChunkMark, Hypervisor, Surroundings
from heddle.agent.migration import Timeouts
from heddle.compiler.state import MachineSpec
from heddle.datapath.moving import Arrival, Departure
from heddle.errors import HypervisorError
from heddle.hypervisor.moving import Goal, Whereabouts
from heddle.intent.model import Machine

MACHINE = Machine(id="m", name="vm0", machine_kind="vm", host="h1", migrating_to="h2")
SPEC = MachineSpec("m", "vm0", "vm", "tiny", 1, 1 << 28, True, (), moving="in")
CONNECTIONS = bytes([ChunkMark.LAST]) + zlib.compress(b"")


class Libvirt:
    """Moves a machine at once, when it is asked to, or not before it is told to give up."""

    def __init__(self, where: Whereabouts, *, is_slow: bool = False) -> None:
        self.where = where
        self._is_slow = is_slow
        self._given_up = threading.Event()

    def definition(self, spec: MachineSpec) -> str:
        return f"<{spec.name}/>"

    def move(self, machine_id: str, goal: Goal) -> None:
        if self._is_slow and self._given_up.wait(10):
            raise HypervisorError("machine vm0 can't move: canceled by client: see what QEMU said")
        self.where = Whereabouts.ABSENT

    def abort(self, machine_id: str) -> None:
        self._given_up.set()

    def whereabouts(self, machine_id: str) -> Whereabouts:
        return self.where


class Connections:
    """Of a machine that has none."""

    record_bytes = 1

    def delta(self) -> bytes:
        return b""

    def adopt(self, records: bytes, *, keep_seconds: float) -> list[str]:
        return []

    def has_come(self) -> None: ...

    def close(self) -> None: ...


@dataclass
class Host:
    """One of two hosts: what its agent has posted and the store was told."""

    name: str
    hypervisor: Hypervisor
    posted: list[tuple[str, bytes]] = field(default_factory=list)
    committed: list[str] = field(default_factory=list)
    facts: list[Mapping[str, Any]] = field(default_factory=list)

    def surroundings(self) -> Surroundings:
        async def turn(machine_id: str, here: bool | None) -> None: ...

        def commit(what: str) -> Callable[[str], None]:
            return lambda _: self.committed.append(what)

        return Surroundings(
            host=self.name,
            address="192.0.2.1",
            hypervisor=self.hypervisor,
            turn=turn,
            departure=lambda _: cast(Departure, Connections()),
            arrival=lambda _: cast(Arrival, Connections()),
            spec=lambda _: SPEC,
            missing=lambda _: None,
            trouble=lambda _: None,
            is_down=lambda _: False,
            post=lambda host, key, value: self.posted.append((key.partition("/")[2], value)),
            commit_moved=commit("moved"),
            commit_stayed=commit("stayed"),
            publish=lambda name, fact: self.facts.append(fact),
        )

    def heard(self, what: str) -> list[bytes]:
        return [value for key, value in self.posted if key.partition("/")[0] == what]


async def leave(leaves: LeavingJourney, host: Host, offer: bytes) -> None:
    """What the other agent writes until the hypervisor begins."""
    leaves.mail("ready", offer)
    await until(lambda: host.heard("connections"))
    leaves.mail("taken", b"taken")


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


def test_an_agent_that_starts_anew_hears_the_offer_again() -> None:
    """The first one has sent the connections and died, before the hypervisor began."""

    async def scenario() -> None:
        old, new = Host("h1", Libvirt(Whereabouts.RUNNING)), Host("h2", Libvirt(Whereabouts.ABSENT))
        comes = ArrivingJourney(MACHINE, new.surroundings(), Timeouts())
        coming = asyncio.create_task(comes.run())
        await until(lambda: new.heard("ready"))
        comes.mail("connections/000000", CONNECTIONS)
        await until(lambda: new.heard("taken"))
        new.posted.clear()
        leaves = LeavingJourney(MACHINE, old.surroundings(), Timeouts())
        leaving = asyncio.create_task(leaves.run())
        await until(lambda: new.heard("ready"))
        await leave(leaves, old, new.heard("ready")[-1])
        await until(lambda: old.committed)
        assert old.committed == ["moved"]
        for task in (coming, leaving):
            task.cancel()

    asyncio.run(scenario())


def test_one_that_is_called_off_says_so() -> None:
    """Not what the hypervisor says of being told to give up."""

    async def scenario() -> None:
        host = Host("h1", Libvirt(Whereabouts.RUNNING, is_slow=True))
        leaves = LeavingJourney(MACHINE, host.surroundings(), Timeouts())
        leaving = asyncio.create_task(leaves.run())
        offer = Goal("h2", "192.0.2.2", "<vm0/>")
        await leave(leaves, host, json.dumps(offer._asdict()).encode())
        await until(lambda: host.facts[-1]["state"] == "moving")
        leaves.mail("cancel", b"")
        await leaving
        assert host.committed == ["stayed"]
        assert host.facts[-1]["error"] == "it was called off"

    asyncio.run(scenario())
