"""Paths between hosts, over a simulated network with a simulated clock."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable

import pytest

from heddle.agent.path_mtu import CONFIRM_SECONDS, LARGEST, RETRY_SECONDS
from heddle.agent.paths import (
    BURST_SECONDS,
    DIRECT,
    PROBES_PER_SECOND_MOST,
    RELAYED,
    RELAYS_TRIED,
    UNKNOWN,
    UNREACHABLE,
    Paths,
    Peer,
)
from heddle.agent.pulse import MISSES_DOWN, PASSES_UP_MOST, STEADY_SECONDS
from heddle.agent.ways import Probe

DELAY = 0.002  # seconds, from one host to another
SOON = 3.0  # seconds in which a failure must be noticed and got around
MTU = 1450


class World:
    """Hosts that all know each other, and links between them that may fail, one
    direction at a time, or carry less. Time passes in ``run`` alone."""

    def __init__(self, hosts: int, named: dict[int, int] | None = None) -> None:
        self.now = 0.0
        self.named = named or {}  # relay that the topology names, by host
        self.sent = 0
        self._numbers = range(1, hosts + 1)
        self._cut: set[tuple[int, int]] = set()
        self._delay: dict[int, float] = {}
        self._mtu: dict[frozenset[int], int] = {}
        self._device_mtu: dict[int, int] = {}
        self._dead: set[int] = set()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self.agents = {number: self.agent(number) for number in self._numbers}

    def agent(self, number: int) -> Paths:
        """An agent that begins now."""
        paths = Paths(random.Random(number).random, first_sequence=next(self._order) << 32)  # noqa: S311
        peers = {n: Peer(self.named.get(n, 0), MTU) for n in self._numbers if n != number}
        paths.update(peers, self.now)
        return paths

    # ---- faults ----------------------------------------------------------

    def cut(self, one: int, other: int, *, both: bool = True) -> None:
        self._cut |= {(one, other), (other, one)} if both else {(one, other)}

    def heal(self) -> None:
        self._cut.clear()

    def kill(self, host: int) -> None:
        """Machine and agent are gone."""
        self._dead.add(host)

    def narrow(self, one: int, other: int, mtu: int) -> None:
        """What is larger gets lost on the way between two hosts."""
        self._mtu[frozenset((one, other))] = mtu

    def limit_device(self, host: int, mtu: int) -> None:
        """The host itself refuses to send what is larger."""
        self._device_mtu[host] = mtu

    def slow(self, host: int, delay: float) -> None:
        self._delay[host] = delay

    # ---- time ------------------------------------------------------------

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while (event := self._next(end)) is not None:
            self.now, happen = event
            happen()
        self.now = end

    def until(self, condition: Callable[[], bool], seconds: float) -> float:
        """Run until it is so; how long it took."""
        began = self.now
        while not condition():
            assert self.now - began < seconds, f"not within {seconds} s"
            self.run(0.01)
        return self.now - began

    def _next(self, end: float) -> tuple[float, Callable[[], None]] | None:
        wakes = [
            (max(wake, self.now), -1, lambda n=number: self._send(n))
            for number, paths in self.agents.items()
            if number not in self._dead and (wake := paths.wake_at()) is not None
        ]
        first = min([*wakes, *self._events[:1]], key=lambda event: event[:2], default=None)
        if first is None or first[0] > end:
            return None
        if self._events and first is self._events[0]:
            heapq.heappop(self._events)
        return first[0], first[2]

    def _later(self, seconds: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._order), happen))

    # ---- probes ----------------------------------------------------------

    def _send(self, host: int) -> None:
        for probe in self.agents[host].due(self.now):
            self.sent += 1
            if probe.size > self._device_mtu.get(host, LARGEST):
                self.agents[host].refused(probe.sequence, self.now)
            else:
                self._travel(host, probe)

    def _travel(self, host: int, probe: Probe) -> None:
        there = [host, probe.relay, probe.host] if probe.relay else [host, probe.host]
        hops = [*itertools.pairwise(there), *itertools.pairwise(reversed(there))]
        delay = sum(DELAY + self._delay.get(to, 0.0) for _, to in hops)
        if all(self._carries(hop, probe.size) for hop in hops):
            agent = self.agents[host]
            self._later(delay, lambda: agent.answered(probe.sequence, self.now) and None)

    def _carries(self, hop: tuple[int, int], size: int) -> bool:
        mtu = self._mtu.get(frozenset(hop), LARGEST)
        return hop not in self._cut and self._dead.isdisjoint(hop) and size <= mtu

    # ---- results ---------------------------------------------------------

    def path(self, host: int, to: int) -> tuple[str, int]:
        """State and relay."""
        choices = {number: choice for number, choice, _ in self.agents[host].choices()}
        return choices[to].state, choices[to].relay

    def mtu(self, host: int, to: int) -> int | None:
        return self.agents[host].mtu(to)


def settled(hosts: int, named: dict[int, int] | None = None) -> World:
    world = World(hosts, named)
    world.run(10)
    return world


def test_probes_find_everybody_at_once() -> None:
    world = World(3)
    assert world.path(1, 2) == (UNKNOWN, 0)
    world.run(0.1)
    assert {world.path(a, b) for a, b in itertools.permutations((1, 2, 3), 2)} == {(DIRECT, 0)}
    assert world.agents[1].round_trip(2) == pytest.approx(2 * DELAY)


def test_cut_pair_goes_through_the_third_host() -> None:
    world = settled(3)
    world.cut(1, 3)
    both = lambda: world.path(1, 3) == world.path(3, 1) == (RELAYED, 2)  # noqa: E731
    world.until(both, SOON)
    assert world.path(1, 2) == world.path(3, 2) == (DIRECT, 0)
    assert world.agents[1].round_trip(3) == pytest.approx(4 * DELAY)


def test_cut_in_one_direction_counts_for_both() -> None:
    world = settled(3)
    world.cut(1, 3, both=False)
    world.until(lambda: world.path(1, 3) == world.path(3, 1) == (RELAYED, 2), SOON)


def test_direct_is_resumed_when_healed() -> None:
    world = settled(3)
    world.cut(1, 3)
    world.run(30)
    world.heal()
    world.until(lambda: world.path(1, 3) == world.path(3, 1) == (DIRECT, 0), SOON)


def test_one_lost_probe_changes_nothing() -> None:
    world = settled(3)
    for _ in range(20):
        world.cut(1, 3)
        world.run(0.3)
        world.heal()
        world.run(2)
        assert world.path(1, 3) == (DIRECT, 0)


def test_flapping_path_is_trusted_ever_later() -> None:
    world = settled(3)
    waits = []
    for _ in range(6):
        world.cut(1, 3)
        world.until(lambda: world.path(1, 3)[0] == RELAYED, SOON)
        world.heal()
        waits.append(world.until(lambda: world.path(1, 3)[0] == DIRECT, 30))
    assert waits[-1] > 2 * waits[0]
    assert waits[-1] < PASSES_UP_MOST * 0.3 + 2 * STEADY_SECONDS
    world.run(100)  # calm again
    world.cut(1, 3)
    world.run(SOON)
    world.heal()
    assert world.until(lambda: world.path(1, 3)[0] == DIRECT, 30) < SOON


def test_relay_named_by_the_topology_is_preferred() -> None:
    world = settled(4, named={3: 4})
    world.slow(4, 0.02)
    world.cut(1, 3)
    world.until(lambda: world.path(1, 3)[0] == RELAYED, SOON)
    assert world.path(1, 3) == (RELAYED, 4)
    assert world.path(1, 2) == (DIRECT, 0)


def test_relay_that_is_named_later_takes_over() -> None:
    world = settled(5)
    world.slow(4, 0.02)
    world.slow(5, 0.02)
    world.cut(1, 3)
    world.until(lambda: world.path(1, 3)[0] == RELAYED, SOON)
    assert world.path(1, 3) == (RELAYED, 2)
    world.run(5)
    peers = {number: Peer(5 if number == 3 else 0, MTU) for number in (2, 3, 4, 5)}
    world.agents[1].update(peers, world.now)
    world.until(lambda: world.path(1, 3) == (RELAYED, 5), SOON)
    world.cut(1, 5)
    world.until(lambda: world.path(1, 3)[1] in (2, 4), SOON)


def test_named_relay_is_used_until_probes_speak() -> None:
    world = World(3, named={3: 2})
    world.cut(1, 3)
    world.run(0.01)
    assert world.path(1, 3) == (UNKNOWN, 2)
    world.until(lambda: world.path(1, 3) == (RELAYED, 2), SOON)


def test_fastest_relay_is_chosen_when_none_is_named() -> None:
    world = settled(4)
    world.slow(2, 0.05)
    world.run(20)
    world.cut(1, 3)
    world.until(lambda: world.path(1, 3)[0] == RELAYED, SOON)
    assert world.path(1, 3) == (RELAYED, 4)


def test_another_relay_takes_over_from_a_dead_one() -> None:
    world = settled(4)
    world.cut(1, 3)
    world.run(5)
    state, relay = world.path(1, 3)
    assert state == RELAYED
    world.kill(relay)
    world.until(lambda: world.path(1, 3) == (RELAYED, 6 - relay), SOON)


def test_star_through_one_host() -> None:
    world = settled(5)
    for one, other in itertools.combinations((2, 3, 4, 5), 2):
        world.cut(one, other)
    pairs = list(itertools.permutations((2, 3, 4, 5), 2))
    world.until(lambda: all(world.path(a, b) == (RELAYED, 1) for a, b in pairs), SOON)


def test_relays_that_cannot_help_make_room_for_others() -> None:
    """Host 1 reaches the last one through one alone, and there are many to try."""
    world = settled(20)
    for other in range(1, 19):
        world.cut(other, 20)
    world.until(lambda: world.path(1, 20) == (RELAYED, 19), 10)


def test_few_relays_are_probed_once_one_is_found() -> None:
    world = settled(9)
    world.cut(1, 9)
    world.until(lambda: world.path(1, 9)[0] == RELAYED, SOON)
    world.run(20)
    world.sent = 0
    world.run(10)
    small_and_large = 1 + 0.5  # probes per second and way
    assert world.sent < 10 * small_and_large * (9 * 8 + 2 * 2) * 1.3


def test_host_that_nobody_reaches() -> None:
    world = settled(3)
    world.kill(3)
    world.until(lambda: world.path(1, 3) == (UNREACHABLE, 0), SOON)
    assert world.path(1, 2) == (DIRECT, 0)


def test_slow_path_is_no_dead_path() -> None:
    world = World(3)
    world.slow(3, 0.25)  # half a second there and back, longer than fast probes take turns
    world.run(5)
    assert world.path(1, 3) == (DIRECT, 0)
    world.cut(1, 3)
    world.run(10)
    world.heal()
    world.until(lambda: world.path(1, 3) == (DIRECT, 0), 10)


def test_agent_that_starts_keeps_the_relay_of_the_one_before() -> None:
    world = settled(3)
    world.cut(1, 3)
    world.run(5)
    world.agents[1] = world.agent(1)
    world.agents[1].resume(3, 2, world.now)
    for _ in range(100):
        assert world.path(1, 3) == (RELAYED, 2)
        world.run(0.1)
    world.heal()
    world.until(lambda: world.path(1, 3) == (DIRECT, 0), SOON)


def test_agent_that_starts_on_a_relay_that_has_gone() -> None:
    world = settled(3)
    world.cut(1, 3)
    world.agents[1] = world.agent(1)
    world.agents[1].resume(3, 2, world.now)
    world.kill(2)
    world.until(lambda: world.path(1, 3) == (UNREACHABLE, 0), SOON)


def test_hosts_come_and_go() -> None:
    world = settled(3)
    world.agents[1].update({2: Peer()}, world.now)
    world.run(5)
    assert [number for number, _, _ in world.agents[1].choices()] == [2]
    world.agents[1].update({2: Peer(), 3: Peer()}, world.now)
    world.run(5)
    assert world.path(1, 3) == (DIRECT, 0)


def test_many_hosts_are_probed_more_seldom() -> None:
    few, many = World(2), World(2)
    hosts = {number: Peer() for number in range(2, 502)}
    many.agents = {1: many.agents[1]}
    many.agents[1].update(hosts, 0.0)
    for world in (few, many):
        world.run(60)
        world.sent = 0
        world.run(100)
    assert few.sent < 2 * 100 * 2
    assert many.sent < 100 * 250  # two of 500 hosts answer to nothing: probes of the dead ones


# ---- sizes ------------------------------------------------------------------


def test_largest_size_is_found_to_the_byte() -> None:
    world = World(3)
    world.narrow(1, 2, 1450)
    world.limit_device(1, 8950)
    world.run(20)
    assert (world.mtu(1, 2), world.mtu(1, 3), world.mtu(3, 2)) == (1450, 8950, LARGEST)


def test_path_that_shrinks_and_recovers() -> None:
    world = settled(2)
    world.narrow(1, 2, 1280)
    world.until(lambda: world.mtu(1, 2) == 1280, CONFIRM_SECONDS + 10)
    assert world.path(1, 2) == (DIRECT, 0)
    world.run(60)
    assert world.mtu(1, 2) == 1280
    world.narrow(1, 2, 1450)
    world.until(lambda: (world.mtu(1, 2) or 0) >= MTU, RETRY_SECONDS + 2)
    world.until(lambda: world.mtu(1, 2) == 1450, 10)


def test_size_stays_known_while_the_path_is_broken() -> None:
    world = settled(2)
    world.narrow(1, 2, 1450)
    world.run(20)
    world.cut(1, 2)
    world.run(20)
    assert world.mtu(1, 2) == 1450
    world.heal()
    world.run(5)
    assert world.mtu(1, 2) == 1450


def direct_mtu(world: World) -> int | None:
    """What is known of the direct way, be it in use or not."""
    state, _ = world.path(1, 2)
    return world.mtu(1, 2) if state == DIRECT else 1450


def test_cuts_say_nothing_of_sizes() -> None:
    """However often a path fails, at whatever moment, what it carries stays known."""
    world = settled(3)
    world.narrow(1, 2, 1450)
    world.run(20)
    for moment in range(60):
        world.run(2 + moment * 0.037)
        world.cut(1, 2)
        for _ in range(25):
            world.run(0.1)
            assert direct_mtu(world) == 1450
        world.heal()
        for _ in range(30):
            world.run(0.1)
            assert direct_mtu(world) == 1450


def test_size_of_a_relayed_path_is_that_of_its_smallest_part() -> None:
    world = settled(3)
    world.narrow(2, 3, 1300)
    world.cut(1, 3)
    world.until(lambda: world.path(1, 3) == (RELAYED, 2), SOON)
    world.until(lambda: world.mtu(1, 3) == 1300, 10)


# ---- many hosts ------------------------------------------------------------------


def probes_in(paths: Paths, begin: float, seconds: float) -> list[Probe]:
    """All that it sends in this time, none of which is answered."""
    sent = []
    while (wake := paths.wake_at()) is not None and wake < begin + seconds:
        sent += paths.due(max(wake, begin))
    return sent


def test_many_hosts_in_doubt_are_probed_no_faster_than_allowed() -> None:
    """A host that is cut off from a thousand others must not spend itself on it."""
    paths = Paths(random.Random(1).random)  # noqa: S311
    paths.update({number: Peer(0, MTU) for number in range(2, 1002)}, 0.0)
    sent = probes_in(paths, 0.0, 10.0)
    assert len(sent) <= (10 + BURST_SECONDS) * PROBES_PER_SECOND_MOST + RELAYS_TRIED
    times = Counter(probe.host for probe in sent if not probe.relay)
    assert min(times.values()) >= MISSES_DOWN  # and nobody is forgotten
    assert {choice.state for _, choice, _ in paths.choices()} == {UNREACHABLE}


def test_only_what_was_heard_of_is_looked_at() -> None:
    """So that a probe costs the same among ten hosts and a thousand."""
    paths = Paths(random.Random(1).random)  # noqa: S311
    paths.update({number: Peer(0, MTU) for number in range(2, 52)}, 0.0)
    assert paths.touched() == set(range(2, 52))
    probes = probes_in(paths, 0.0, 0.1)
    assert paths.touched() == {probe.host for probe in probes}
    assert paths.touched() == set()
    assert paths.answered(probes[7].sequence, 0.1)
    assert paths.touched() == {probes[7].host}
    assert paths.choice(probes[7].host).state == DIRECT
    paths.update({2: Peer(0, MTU)}, 0.2)
    assert paths.touched() == {2}
