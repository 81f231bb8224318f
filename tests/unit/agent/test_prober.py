"""The prober: which probes go where, what it tells, and what it remembers."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import time
from collections.abc import Callable
from pathlib import Path as File
from typing import Any, NamedTuple

import pytest

from heddle.agent import prober as prober_module
from heddle.agent.prober import Prober
from heddle.agent.sites import Sites
from heddle.compiler.state import HostDelta, RowKey, RowValue, Symbol, TunnelNetworkRow
from heddle.intent.model import Detour, Host, Kind, Path

ME = "h1"
WAIT = 20.0  # seconds at most, for what takes a fraction of one


class Sent(NamedTuple):
    """What a frame of the stub says."""

    host: int
    sequence: int
    size: int
    relay_to: int


class Frames:
    def request(self, host: int, sequence: int, size: int, relay_to: int = 0) -> bytes:
        return json.dumps([host, sequence, size, relay_to]).encode()


class Underlay:
    """Answers every probe at once, but for those on ways that are cut."""

    def __init__(self) -> None:
        self.answer: Callable[[int, float], None] = lambda sequence, at: None
        self.cut: set[tuple[str, int]] = set()  # address, number of the final host
        self.device_mtu = 1450
        self.is_there = True  # the address to send from
        self.sent: list[tuple[Sent, str, int]] = []
        self.opened: list[str] = []

    def __call__(self, vtep: str) -> Underlay:
        if not self.is_there:
            raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
        self.opened.append(vtep)
        return self

    def send(self, payload: bytes, address: str, port: int) -> bool:
        probe = Sent(*json.loads(payload))
        self.sent.append((probe, address, port))
        if probe.size > self.device_mtu:
            return False
        if (address, probe.relay_to) not in self.cut:
            loop = asyncio.get_running_loop()
            loop.call_soon(self.answer, probe.sequence, time.monotonic())
        return True

    def close(self) -> None:
        pass


class World:
    """A prober on host h1, and what it told."""

    def __init__(self, memory: File) -> None:
        self.underlay = Underlay()
        self.prober = Prober(Frames(), self.underlay, memory)
        self.underlay.answer = self.prober.answered
        self.paths: dict[str, Path] = {}
        self.facts: list[dict[str, Any]] = []

    async def carry_out(self, paths: list[Path]) -> None:
        self.paths.update((path.host, path) for path in paths)

    def run(self, until: Callable[[], bool]) -> None:
        async def work() -> None:
            running = asyncio.create_task(self.prober.run(self.carry_out, self.facts.append))
            async with asyncio.timeout(WAIT):
                while not until():
                    await asyncio.sleep(0.005)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

        asyncio.run(work())

    def mtu(self, host: str) -> int | None:
        paths = self.prober.fact()["paths"]
        return next((path["mtu"] for path in paths if path["host"] == host), None)


def sites(*hosts: int, mtu: int = 1450, detours: dict[str, str] | None = None) -> Sites:
    """Hosts h1 to hN, as many as there are rows for."""
    found = Sites(ME)
    objects: dict[Kind, dict[str, Any]] = {
        Kind.HOST: {f"h{n}": host(n) for n in (1, *hosts)},
        Kind.DETOUR: {
            name: Detour(id=name, name=name, host=name, relay=relay)
            for name, relay in (detours or {}).items()
        },
    }
    rows: dict[RowKey, RowValue | None] = {RowKey("vteps", n): 0 for n in hosts}
    flags = Symbol("tunnel_network_flag", ())
    rows[RowKey("tunnel_networks", 7)] = TunnelNetworkRow(0, 0, mtu, flags)
    found.restart(objects)
    assert found.update((), HostDelta(rows=rows))
    return found


def host(number: int) -> Host:
    name = f"h{number}"
    return Host(id=name, name=name, number=number, vtep=f"198.18.0.{number}")


@pytest.fixture
def world(tmp_path: File, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(prober_module, "SHORTEST_PAUSE", 0.001)
    return World(tmp_path / "paths.json")


def test_probes_go_to_vteps_from_ours(world: World) -> None:
    world.prober.meet(sites(2, 3))
    world.run(lambda: len(world.paths) == 2)
    assert world.underlay.opened == ["198.18.0.1"]
    first = {(address, port) for _, address, port in world.underlay.sent}
    assert first == {("198.18.0.2", 4789), ("198.18.0.3", 4789)}
    assert {probe.host for probe, _, _ in world.underlay.sent} == {1}
    assert {(p.host, p.relay, p.mtu) for p in world.paths.values()} == {
        ("h2", None, 0),
        ("h3", None, 0),
    }


def test_facts_say_what_was_found(world: World) -> None:
    world.prober.meet(sites(2))
    world.run(lambda: world.mtu("h2") is not None)
    fact = world.prober.fact()
    assert fact["host"] == ME
    (path,) = fact["paths"]
    assert (path["host"], path["state"], path["relay"]) == ("h2", "direct", None)
    assert (path["vtep"], path["mtu"]) == ("198.18.0.2", 1450)
    assert 0 < path["round_trip_ms"] < 1000
    world.run(lambda: world.facts[-1]["paths"][0]["mtu"] == 1450)


def test_relay_is_carried_out_and_remembered(world: World, tmp_path: File) -> None:
    world.underlay.cut = {("198.18.0.3", 0)}
    world.prober.meet(sites(2, 3))
    world.run(lambda: "h3" in world.paths)
    assert world.paths["h3"].relay == "h2"
    assert ((tmp_path / "paths.json").read_text()) == '{"h3": {"relay": "h2", "mtu": 0}}'
    relayed = [address for probe, address, _ in world.underlay.sent if probe.relay_to == 3]
    assert set(relayed) == {"198.18.0.2"}

    following = World(tmp_path / "paths.json")
    assert [(p.host, p.relay) for p in following.prober.in_force] == [("h3", "h2")]
    following.underlay.cut = world.underlay.cut
    following.prober.meet(sites(2, 3))
    following.run(lambda: "h2" in following.paths)
    assert "h3" not in following.paths  # it is as it was


def test_spoilt_memory_is_no_memory(tmp_path: File) -> None:
    for text in ("", "[1]", "nonsense", '{"h3": "h2"}', '{"h3": {}}'):
        (tmp_path / "paths.json").write_text(text)
        assert World(tmp_path / "paths.json").prober.in_force == []


def test_path_that_carries_too_little_is_carried_out(world: World, tmp_path: File) -> None:
    world.underlay.device_mtu = 1300
    world.prober.meet(sites(2))
    world.run(lambda: "h2" in world.paths and world.paths["h2"].mtu == 1300)
    (remembered,) = World(tmp_path / "paths.json").prober.in_force
    assert (remembered.host, remembered.relay, remembered.mtu) == ("h2", None, 1300)
    world.prober.meet(sites(2, mtu=1300))
    world.run(lambda: world.paths["h2"].mtu == 0)


def test_a_vtep_that_is_no_address_of_this_host_is_told(world: World) -> None:
    world.underlay.is_there = False
    told = ""

    def is_reached() -> bool:
        nonlocal told
        told = told or world.prober.trouble
        world.underlay.is_there = bool(told)
        return "h2" in world.paths

    world.prober.meet(sites(2))
    world.run(is_reached)
    assert told.startswith("198.18.0.1 is no address of this host (")
    assert not world.prober.trouble


def test_host_without_vtep_probes_nothing(world: World) -> None:
    nowhere = Sites(ME)
    nowhere.restart({})
    world.prober.meet(nowhere)
    assert world.prober.fact() == {"host": None, "paths": []}
    world.run(lambda: bool(world.facts) or not world.underlay.sent)
    assert world.underlay.sent == []


# ---- sites --------------------------------------------------------------------


def test_only_hosts_with_rows_are_reached() -> None:
    found = sites(2, 3)
    assert [site.name for site in found.others] == ["h2", "h3"]
    assert found.update((), HostDelta(rows={RowKey("vteps", 3): None}))
    assert [site.name for site in found.others] == ["h2"]
    assert not found.update((), HostDelta())


def test_foreign_vteps_are_not_probed() -> None:
    found = sites(2)
    foreign = host(2).model_copy(update={"foreign": True})
    assert found.update([(Kind.HOST, "h2", foreign)], HostDelta())
    assert found.others == []


def test_relay_of_a_host_counts_for_all_it_reaches() -> None:
    assert sites(2, 3, detours={"h3": "h2"}).relays == {"h3": "h2"}
    assert sites(2, 3, detours={ME: "h2"}).relays == {"h3": "h2"}


def test_needed_is_the_largest_network_here() -> None:
    found = sites(2, mtu=1450)
    assert found.needed == 1450
    found.update((), HostDelta(rows={RowKey("tunnel_networks", 7): None}))
    assert found.needed == 0
