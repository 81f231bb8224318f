"""How this host reaches the others: straight, or through a relay.

Each host that is needed here is probed directly, for ever. While that does not
work, some relays are probed as well, end to end: what is chosen has been proven,
whatever others report. The direct way is taken again as soon as it has held for a
few probes.

Pure: time (seconds) and chance are passed in. ``prober.py`` joins this to sockets.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Container, Iterable, Iterator, Mapping
from math import inf
from typing import NamedTuple

from heddle.agent.pulse import Chance, Health
from heddle.agent.ways import Probe, Way

RELAYS_TRIED = 8  # at once, while one is sought
RELAYS_KEPT = 2  # when one is in use: itself, and one to go on with when it fails
PROBES_PER_SECOND = 100.0  # of all ways together, while they are settled
PROBES_PER_SECOND_MOST = 1000.0  # when many are in doubt; who is due longest goes first
BURST_SECONDS = 0.1  # for which these may go out at once
ANSWER_SECONDS = 3.0  # later answers are not waited for

DIRECT, RELAYED, UNREACHABLE, UNKNOWN = "direct", "relayed", "unreachable", "unknown"


class Peer(NamedTuple):
    """A host that is needed here: its named relay (0: none), and the largest
    MTU of the networks that may use the way to it."""

    relay: int = 0
    needed: int = 0


class Choice(NamedTuple):
    """How a host is reached. ``relay`` is a host number, 0 for none."""

    state: str
    relay: int
    why: str


class Paths:
    """All hosts by number."""

    def __init__(self, chance: Chance, first_sequence: int = 1) -> None:
        """``first_sequence`` should differ from one agent to the next, lest the
        answer to one's probe be taken for the answer to another's."""
        self._chance = chance
        self._peers: dict[int, _Host] = {}
        self._sequence = first_sequence
        self._open: dict[int, tuple[Way, Probe, float]] = {}  # by sequence
        self._order: deque[tuple[float, int]] = deque()  # of probes, oldest first
        self._queue: list[tuple[float, int]] = []  # heap: when to look at which host
        self._queued: dict[int, float] = {}  # the earliest of that, by host
        self._touched: set[int] = set()  # hosts about which something was heard or decided
        self._spent_until = -inf  # the time for which probes sent so far count

    # ---- what is known of the cluster -----------------------------------

    def update(self, peers: Mapping[int, Peer], now: float) -> None:
        """The hosts that are needed here now."""
        for number in self._peers.keys() - peers.keys():
            del self._peers[number]
        factor = max(1.0, len(peers) / PROBES_PER_SECOND)
        for number, peer in peers.items():
            if number not in self._peers:
                self._peers[number] = _Host(Way(number, 0, now, self._chance), now)
            self._peers[number].update(peer, peers, factor, now)
            self._queue_up(number)
        self._touched = set(peers)

    def resume(self, number: int, relay: int, now: float) -> None:
        """Go on with a relay that an earlier agent had chosen for a host."""
        known = self._peers.get(number)
        if known is None or relay not in self._peers:
            return
        known.direct.pulse.resume(Health.DOWN, now)
        way = Way(number, relay, now, self._chance)
        known.try_relay(way, now)
        way.pulse.resume(Health.UP, now)
        known.choose(Choice(RELAYED, relay, "chosen before the agent was restarted"), now)
        self._touched.add(number)

    # ---- probes -----------------------------------------------------------

    def wake_at(self) -> float | None:
        """When to call ``due`` next; None: never."""
        next_at = self._spent_until + 1 / PROBES_PER_SECOND_MOST
        return max(self._queue[0][0], next_at) if self._queue else None

    def due(self, now: float) -> list[Probe]:
        """The probes to send now."""
        self._forget_old(now)
        probes: list[Probe] = []
        looked_at = []
        self._spent_until = max(self._spent_until, now - BURST_SECONDS)
        allowed = (now - self._spent_until) * PROBES_PER_SECOND_MOST
        while self._queue and self._queue[0][0] <= now and len(probes) < allowed:
            _, number = heapq.heappop(self._queue)
            if self._queued.pop(number, None) is not None and number in self._peers:
                probes += self._due_to(self._peers[number], now)
                looked_at.append(number)
        for number in looked_at:
            self._try_relays(number, self._peers[number], now)
            self._peers[number].decide(now)
            self._queue_up(number)
        self._touched.update(looked_at)
        self._spent_until += len(probes) / PROBES_PER_SECOND_MOST
        return probes

    def answered(self, sequence: int, now: float) -> bool:
        """An answer has come; False when nobody waits for it."""
        found = self._open.pop(sequence, None)
        if found is None:
            return False
        way, probe, sent_at = found
        way.answered(probe, now, now - sent_at)
        if (known := self._peers.get(way.host)) is not None:
            known.decide(now)
            self._queue_up(way.host)
            self._touched.add(way.host)
        return True

    def refused(self, sequence: int, now: float) -> None:
        """The probe is larger than what this host's device can send."""
        found = self._open.pop(sequence, None)
        if found is not None:
            found[0].refused(found[1], now)
            self._queue_up(found[0].host)
            self._touched.add(found[0].host)

    # ---- results ----------------------------------------------------------

    def choices(self) -> Iterator[tuple[int, Choice, float]]:
        """All hosts, with how they are reached and since when."""
        for number, known in self._peers.items():
            yield number, known.choice, known.since

    def choice(self, number: int) -> Choice:
        return self._peers[number].choice

    def touched(self) -> set[int]:
        """Hosts whose path may be another than at the last call."""
        touched, self._touched = self._touched & self._peers.keys(), set()
        return touched

    def round_trip(self, number: int) -> float | None:
        """Seconds on the way in use; None when not measured."""
        return self._peers[number].way_in_use().pulse.round_trip

    def mtu(self, number: int) -> int | None:
        """The largest packet of a guest proven to pass on the way in use; 0: not
        even a small one; None: not known yet."""
        return self._peers[number].way_in_use().sizes.found

    # ---- inside -------------------------------------------------------------

    def _queue_up(self, number: int) -> None:
        """Look at a host when it is due; an entry too early costs one look."""
        if number not in self._peers:
            return
        due = min(way.due_at for way in self._peers[number].ways())
        if due < self._queued.get(number, inf):
            self._queued[number] = due
            heapq.heappush(self._queue, (due, number))

    def _due_to(self, known: _Host, now: float) -> Iterator[Probe]:
        for way in known.ways():
            if way.due_at <= now:
                probe = way.probe(self._sequence, now)
                self._sequence += 1
                self._open[probe.sequence] = (way, probe, now)
                self._order.append((now, probe.sequence))
                yield probe

    def _forget_old(self, now: float) -> None:
        while self._order and self._order[0][0] < now - ANSWER_SECONDS:
            self._open.pop(self._order.popleft()[1], None)

    def _try_relays(self, number: int, known: _Host, now: float) -> None:
        """Probe relays while the direct way is in doubt, others in turn when
        those that are tried don't work."""
        if not known.direct.pulse.in_doubt:
            if known.choice.relay == 0:
                known.relays.clear()
            return
        if known.is_relayed:
            known.keep_best(RELAYS_KEPT)
            named = known.peer.relay
            if named in self._peers and named not in known.relays:
                known.try_relay(Way(number, named, now, self._chance), now)
            return
        failed = [r for r, way in known.relays.items() if way.pulse.health is Health.DOWN]
        candidates = self._candidates(number, known)
        for relay in candidates:
            if len(known.relays) >= RELAYS_TRIED:
                if not failed:
                    break
                gone = failed.pop()
                known.failed_at[gone] = now
                del known.relays[gone]
            known.try_relay(Way(number, relay, now, self._chance), now)

    def _candidates(self, number: int, known: _Host) -> list[int]:
        """Hosts not tried yet that may be relays, the likeliest first."""

        def unlikeliness(relay: int) -> tuple[object, ...]:
            return (
                known.failed_at.get(relay, 0.0),
                relay != known.peer.relay,
                self._peers[relay].direct.pulse.round_trip or 0.0,
                relay,
            )

        usable = (
            relay
            for relay, other in self._peers.items()
            if relay != number and relay not in known.relays and _may_relay(other, known, relay)
        )
        return sorted(usable, key=unlikeliness)


def _may_relay(other: _Host, known: _Host, relay: int) -> bool:
    """A relay must be reached directly: it never sends through a second one."""
    return other.direct.is_up or relay == known.peer.relay


class _Host:
    """One host: the ways to it, and the one that is in use."""

    def __init__(self, direct: Way, now: float) -> None:
        self.direct = direct
        self.peer = Peer()
        self.relays: dict[int, Way] = {}
        self.failed_at: dict[int, float] = {}  # by relay
        self.choice = Choice(UNKNOWN, 0, "no probe was answered yet")
        self.since = now

    def update(self, peer: Peer, hosts: Container[int], factor: float, now: float) -> None:
        """What is wanted of this host, and which hosts there are to go through."""
        self.peer = peer
        for relay in [relay for relay in self.relays if relay not in hosts]:
            del self.relays[relay]
        for way in self.ways():
            way.pulse.stretch(factor)
            way.sizes.stretch(factor)
            way.sizes.need(peer.needed, now)

    def try_relay(self, way: Way, now: float) -> None:
        way.sizes.need(self.peer.needed, now)
        self.relays[way.relay] = way

    @property
    def is_relayed(self) -> bool:
        """Whether a relay is in use, and works beyond doubt."""
        way = self.relays.get(self.choice.relay)
        return way is not None and way.is_up and not way.pulse.in_doubt

    def keep_best(self, count: int) -> None:
        """Give up relays but for the one in use, the named one, and the fastest."""

        def badness(relay: int) -> tuple[object, ...]:
            way = self.relays[relay]
            round_trip = way.pulse.round_trip or 0.0
            named = relay == self.peer.relay
            return relay != self.choice.relay, not named, not way.is_up, round_trip

        for relay in sorted(self.relays, key=badness)[count:]:
            del self.relays[relay]

    def ways(self) -> Iterable[Way]:
        """The direct way and those through relays."""
        return (self.direct, *self.relays.values())

    def way_in_use(self) -> Way:
        return self.relays.get(self.choice.relay, self.direct)

    def choose(self, choice: Choice, now: float) -> None:
        if (choice.state, choice.relay) != (self.choice.state, self.choice.relay):
            self.choice, self.since = choice, now

    def decide(self, now: float) -> None:
        """Choose by what the probes have shown so far."""
        if (choice := self._best()) is not None:
            self.choose(choice, now)

    def _best(self) -> Choice | None:
        """What to use now; None: stay with what is in use."""
        if self.direct.is_up:
            return Choice(DIRECT, 0, "direct probes are answered")
        if self.direct.pulse.health is Health.UNKNOWN and self.choice.state == UNKNOWN:
            relay = self.peer.relay
            why = "named by the topology, no probe was answered yet"
            return Choice(UNKNOWN, relay, why) if relay else None
        working = {relay: way for relay, way in self.relays.items() if way.is_up}
        if not working:
            why = "neither direct probes nor those through other hosts are answered"
            return Choice(UNREACHABLE, self.peer.relay, why)
        in_use = self.choice.relay if self.choice.state == RELAYED else 0
        if in_use in working and (self.peer.relay not in working or in_use == self.peer.relay):
            return None
        return self._relayed(working)

    def _relayed(self, working: Mapping[int, Way]) -> Choice:
        if self.peer.relay in working:
            why = "direct probes are not answered; the topology names this relay"
            return Choice(RELAYED, self.peer.relay, why)
        relay = min(working, key=lambda number: (working[number].pulse.round_trip or 0.0, number))
        return Choice(RELAYED, relay, "direct probes are not answered; this relay answers fastest")
