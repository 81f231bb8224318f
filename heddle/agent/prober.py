"""Keeps the paths to other hosts proven: sends what ``paths.py`` wants sent, and
tells compiler and operator what came of it.

Nothing here waits for the store. Relays that were chosen are remembered in a file,
so that an agent that starts goes on with them instead of trying the broken way.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path as File
from typing import Any, NamedTuple, Protocol

from heddle.agent.paths import DIRECT, RELAYED, Choice, Paths, Peer
from heddle.agent.sites import Site, Sites
from heddle.agent.ways import Probe
from heddle.intent.model import Kind, Path
from heddle.intent.names import PROJECT, object_id

log = logging.getLogger(__name__)

SHORTEST_PAUSE = 0.02  # seconds; what is due in between goes out together
REFRESH_SECONDS = 60.0  # between facts when nothing but round trips has changed
_SEQUENCES = 1 << 31


class Sender(Protocol):
    """Sends from one underlay address."""

    def send(self, payload: bytes, address: str, port: int) -> bool: ...

    def close(self) -> None: ...


class Frames(Protocol):
    """Writes probes."""

    def request(self, host: int, sequence: int, size: int, relay_to: int = 0) -> bytes: ...


CarryOut = Callable[[list[Path]], Awaitable[None]]  # paths that are others than before
Tell = Callable[[dict[str, Any]], None]  # the fact about all paths of this host


class _Settled(NamedTuple):
    """What is worth telling at once about the path to a host."""

    state: str
    relay: int
    mtu: int | None


class Prober:
    """Probes of one host. ``run`` works until cancelled."""

    def __init__(self, frames: Frames, open_sender: Callable[[str], Sender], memory: File) -> None:
        self._frames = frames
        self._open_sender = open_sender
        self._memory = memory
        self._paths = Paths(random.random, random.randrange(_SEQUENCES))  # noqa: S311 (no secret)
        self._me: Site | None = None
        self._sender: Sender | None = None
        self.trouble = ""  # why this host can't send from its VTEP; "": it can
        self._sites: dict[int, Site] = {}
        self._needed = 0  # the largest MTU of a network here
        self._in_force = {path.host: path for path in _read(memory)}
        self._remembered = {path.host: path.relay for path in self.in_force}
        self._unsettled: set[int] = set()  # hosts whose path may be another than in force
        self._settled: dict[int, _Settled] = {}  # what was told of each host
        self._has_news = True
        self._told_at = 0.0
        self._wake = asyncio.Event()

    @property
    def in_force(self) -> list[Path]:
        """What the compiler must know of paths."""
        return list(self._in_force.values())

    def meet(self, sites: Sites) -> None:
        """Which hosts there are to reach by now."""
        self._move_to(sites.me)
        self._needed = sites.needed
        before = self._sites
        self._sites = {site.number: site for site in sites.others} if sites.me else {}
        self._has_news |= self._sites != before
        numbers = {site.name: number for number, site in self._sites.items()}
        relays = sites.relays
        peers = {
            number: Peer(numbers.get(relays.get(site.name, ""), 0), self._needed)
            for number, site in self._sites.items()
        }
        now = time.monotonic()
        self._paths.update(peers, now)
        for host in self._remembered.keys() & numbers.keys():
            relay = self._remembered.pop(host)
            self._paths.resume(numbers[host], numbers.get(relay or "", 0), now)
        for host in self._in_force.keys() - numbers.keys() - self._remembered.keys():
            del self._in_force[host]
        for number in self._settled.keys() - self._sites.keys():
            del self._settled[number]
        self._wake.set()

    def answered(self, sequence: int, at: float) -> None:
        """A reply came, at this time of CLOCK_MONOTONIC."""
        if self._paths.answered(sequence, at):
            self._wake.set()

    async def run(self, carry_out: CarryOut, tell: Tell) -> None:
        """Send what is due, and pass on what changes, for ever."""
        while True:
            self._wake.clear()
            for probe in self._paths.due(time.monotonic()):
                self._send(probe)
            await self._pass_on(carry_out, tell)
            wake_at = self._paths.wake_at()
            wait = None if wake_at is None else max(wake_at - time.monotonic(), SHORTEST_PAUSE)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._wake.wait()

    def fact(self) -> dict[str, Any]:
        """All there is to say about the paths of this host, as JSON."""
        now = time.monotonic()
        paths = [
            self._describe(number, choice, now - since)
            for number, choice, since in self._paths.choices()
        ]
        host = self._me.name if self._me else None
        return {"host": host, "paths": sorted(paths, key=lambda path: str(path["host"]))}

    def close(self) -> None:
        self._move_to(None)

    # ---- inside ---------------------------------------------------------

    def _move_to(self, me: Site | None) -> None:
        if me == self._me:
            return
        if self._sender is not None:
            self._sender.close()
        self._me, self._sender, self.trouble = me, None, ""

    def _send(self, probe: Probe) -> None:
        """A probe that can't be sent is lost, but for one that is too large."""
        site = self._sites.get(probe.relay or probe.host)
        sender = self._opened()
        if site is None or sender is None or self._me is None:
            return
        relay_to = probe.host if probe.relay else 0
        payload = self._frames.request(self._me.number, probe.sequence, probe.size, relay_to)
        if not sender.send(payload, site.vtep, site.udp_port):
            self._paths.refused(probe.sequence, time.monotonic())

    def _opened(self) -> Sender | None:
        """The socket; None while this host has not got its underlay address."""
        if self._sender is None and self._me is not None:
            trouble = ""
            try:
                self._sender = self._open_sender(self._me.vtep)
            except OSError as error:
                trouble = f"{self._me.vtep} is no address of this host ({error.strerror})"
            self._has_news |= trouble != self.trouble
            self.trouble = trouble
        return self._sender

    async def _pass_on(self, carry_out: CarryOut, tell: Tell) -> None:
        """Only hosts are looked at of which something was heard: a cluster may have many."""
        self._unsettled |= self._paths.touched()
        changed = list(self._changed())
        if changed:
            await self._put_in_force(changed, carry_out)
            self._remember()
        self._settle()
        now = time.monotonic()
        if self._has_news or now - self._told_at > REFRESH_SECONDS:
            self._has_news, self._told_at = False, now
            tell(self.fact())

    def _settle(self) -> None:
        for number in self._unsettled & self._sites.keys():
            choice = self._paths.choice(number)
            settled = _Settled(choice.state, choice.relay, self._paths.mtu(number))
            if self._settled.get(number) != settled:
                self._settled[number] = settled
                self._has_news = True
        self._unsettled.clear()

    async def _put_in_force(self, paths: list[Path], carry_out: CarryOut) -> None:
        """Before they are carried out: whoever compiles everything anew meanwhile
        must know of them. What fails is tried again."""
        self._in_force.update((path.host, path) for path in paths)
        done = False
        try:
            await carry_out(paths)
            done = True
        finally:
            for path in () if done else paths:
                self._in_force.pop(path.host, None)

    def _changed(self) -> Iterable[Path]:
        """Paths that are others than those in force. Of a host that no probe has
        reached yet nothing is said: what the topology names holds."""
        for number in sorted(self._unsettled & self._sites.keys()):
            choice = self._paths.choice(number)
            if choice.state in (DIRECT, RELAYED):
                relay = self._sites[choice.relay].name if choice.relay else None
                path = _path(self._sites[number].name, relay, self._too_small(number))
                if self._in_force.get(path.host) != path:
                    log.info("path to %s: %s", path.host, _words(path, choice))
                    yield path

    def _too_small(self, number: int) -> int:
        """The proven MTU when it is smaller than that of a network, else 0. While it
        is being found out, what was known before holds."""
        mtu = self._paths.mtu(number)
        if mtu is None:
            before = self._in_force.get(self._sites[number].name)
            return before.mtu if before else 0
        return mtu if mtu < self._needed else 0

    def _describe(self, number: int, choice: Choice, age: float) -> dict[str, Any]:
        relay = self._sites.get(choice.relay)
        round_trip = self._paths.round_trip(number)
        return {
            "host": self._sites[number].name,
            "vtep": self._sites[number].vtep,
            "state": choice.state,
            "relay": relay.name if relay else None,
            "why": choice.why,
            "since": datetime.fromtimestamp(time.time() - age, UTC).isoformat(timespec="seconds"),
            "round_trip_ms": None if round_trip is None else round(round_trip * 1000, 3),
            "mtu": self._paths.mtu(number),
        }

    def _remember(self) -> None:
        """Keep what is out of the ordinary for the next agent. Without the file it
        would have to find it out again, so that failing to write it is no reason to stop."""
        odd = {
            path.host: {"relay": path.relay, "mtu": path.mtu}
            for path in self.in_force
            if path.relay or path.mtu
        }
        following = self._memory.with_suffix(".new")
        try:
            following.write_text(json.dumps(odd))
            following.replace(self._memory)
        except OSError as error:
            log.warning("%s: %s", self._memory, error.strerror)


@lru_cache(maxsize=1024)  # asked for with each answer of a host
def _path(host: str, relay: str | None, mtu: int) -> Path:
    return Path(id=object_id(PROJECT, Kind.PATH, host), name=host, host=host, relay=relay, mtu=mtu)


def _words(path: Path, choice: Choice) -> str:
    way = f"through {path.relay}" if path.relay else "direct"
    shrunken = f", carries {path.mtu} bytes only" if path.mtu else ""
    return f"{way}{shrunken} ({choice.why})"


def _read(memory: File) -> list[Path]:
    """What the agent before remembered; nothing when the file is not there or spoilt."""
    with contextlib.suppress(OSError, ValueError, TypeError, LookupError, AttributeError):
        odd = json.loads(memory.read_text())
        return [_path(host, path["relay"], path["mtu"]) for host, path in odd.items()]
    return []
