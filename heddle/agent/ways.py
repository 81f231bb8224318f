"""One way to a host: straight, or through a relay. Joins what small probes say
(does it work at all?) with what large ones do (what size passes?)."""

from __future__ import annotations

from typing import NamedTuple

from heddle.agent.path_mtu import SizeSearch
from heddle.agent.pulse import Chance, Health, Pulse


class Probe(NamedTuple):
    """One question to a host; the answer carries the same sequence number."""

    sequence: int
    host: int  # number of the host that shall answer
    relay: int  # number of the host to send it through; 0: none
    size: int  # IP packet of a guest that it stands for; 0: as small as can be


class Way:
    """What is known of one way, and the probes that are under way on it.

    A large probe that gets lost says something about its size only when a small
    one that was sent after it is answered: the way may have failed meanwhile.
    """

    def __init__(self, host: int, relay: int, now: float, chance: Chance) -> None:
        self.host = host
        self.relay = relay
        self.pulse = Pulse(now, chance)
        self.sizes = SizeSearch(now)
        self._large: Probe | None = None  # the large probe that is not answered yet
        self._suspect: Probe | None = None  # one that was lost, maybe for its size
        self._suspect_since = now

    @property
    def is_up(self) -> bool:
        return self.pulse.health is Health.UP

    @property
    def due_at(self) -> float:
        """When it wants to send next. Sizes are searched on ways that work."""
        searches = self.is_up and self._suspect is None and not self.pulse.is_missing
        return min(self.pulse.due_at, self.sizes.due_at) if searches else self.pulse.due_at

    def probe(self, sequence: int, now: float) -> Probe:
        """The probe that is due."""
        if self._large is not None and self.sizes.due_at <= now:
            self._suspect, self._large, self._suspect_since = self._large, None, now
            return self._small(sequence, now)
        if self.pulse.due_at <= now:
            return self._small(sequence, now)
        self._large = Probe(sequence, self.host, self.relay, self.sizes.size(now))
        self.sizes.sent(now, self.pulse.round_trip)
        return self._large

    def answered(self, probe: Probe, now: float, seconds: float) -> None:
        """An answer to ``probe`` has come, so long after it was sent."""
        was_up = self.is_up
        if probe.size:
            self._large = None if self._large == probe else self._large
            self.sizes.passed(probe.size, now)
        elif self._suspect is not None and now - seconds >= self._suspect_since:
            lost, self._suspect = self._suspect, None
            self.sizes.lost(lost.size, now)
        self.pulse.answered(now, seconds)
        if self.is_up and not was_up:
            self._large = self._suspect = None
            self.sizes.recheck(now)

    def refused(self, probe: Probe, now: float) -> None:
        """This host could not send it: it is too large for the device."""
        if probe.size:
            self._large = None
            self.sizes.refused(probe.size, now)

    def _small(self, sequence: int, now: float) -> Probe:
        self.pulse.sent(now)
        if self.pulse.is_missing:
            self._large = self._suspect = None
        return Probe(sequence, self.host, self.relay, 0)
