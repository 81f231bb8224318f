"""Whether one way to a host works, judged by probes alone: when to send the
next, and when enough were answered or lost to say so.

Pure: time (seconds, any clock that never goes back) and chance are passed in.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

STEADY_SECONDS = 1.0  # between probes of a way whose state is settled
FAST_SECONDS = 0.2  # the same while it is in doubt, unless answers take longer
FAST_SECONDS_LONGEST = 1.0
JITTER = 0.2  # share by which intervals vary, so that hosts don't keep step
MISSES_DOWN = 4  # unanswered in a row
PASSES_UP = 3  # answered in a row after it was down; each relapse doubles that,
PASSES_UP_MOST = 24  # up to here,
CALM_SECONDS = 60.0  # until it has held for so long
_RTT_WEIGHT = 0.125  # of a new sample in the mean, as in RFC 6298, 2.3

Chance = Callable[[], float]  # 0.0 to 1.0, evenly


class Health(Enum):
    """What probes have shown."""

    UNKNOWN = "unknown"
    UP = "up"
    DOWN = "down"


class Pulse:
    """One way. ``sent`` and ``answered`` tell it what happens; ``due_at`` says
    when it wants the next probe."""

    def __init__(self, now: float, chance: Chance) -> None:
        self._chance = chance
        self._stretch = 1.0
        self._awaiting = False
        self._passed = 0
        self._missed = 0
        self._passes_needed = 1
        self.health = Health.UNKNOWN
        self.since = now
        self.round_trip: float | None = None  # seconds, smoothed
        self.due_at = now

    @property
    def in_doubt(self) -> bool:
        """Whether it may soon be found down: time to look for another way."""
        return self.health is Health.DOWN or self._missed > 1

    @property
    def is_missing(self) -> bool:
        """Whether the last probes were not answered."""
        return self._missed > 0

    def stretch(self, factor: float) -> None:
        """Probe so many times more seldom while the state is settled."""
        self._stretch = factor

    def resume(self, health: Health, now: float) -> None:
        """Begin with what an earlier agent knew."""
        self._become(health, now)

    def sent(self, now: float) -> None:
        """A probe goes out. The last one counts as lost if it is still open."""
        if self._awaiting:
            self._miss(now)
        self._awaiting = True
        self.due_at = now + self._interval()

    def answered(self, now: float, seconds: float) -> None:
        """An answer has come, so many seconds after its probe."""
        self._awaiting = False
        self._missed = 0
        self._smooth(seconds)
        if self.health is Health.UP:
            if now - self.since > CALM_SECONDS:
                self._passes_needed = PASSES_UP
            return
        self._passed += 1
        if self._passed >= self._passes_needed:
            self._become(Health.UP, now)
        self.due_at = min(self.due_at, now + self._interval())

    def _miss(self, now: float) -> None:
        self._missed += 1
        self._passed = 0
        if self._missed >= MISSES_DOWN and self.health is not Health.DOWN:
            relapse = self.health is Health.UP and now - self.since <= CALM_SECONDS
            needed = self._passes_needed * 2 if relapse else PASSES_UP
            self._passes_needed = min(max(needed, PASSES_UP), PASSES_UP_MOST)
            self._become(Health.DOWN, now)

    def _become(self, health: Health, now: float) -> None:
        self.health, self.since = health, now
        self._passed = 0

    def _smooth(self, seconds: float) -> None:
        mean = self.round_trip
        self.round_trip = seconds if mean is None else mean + (seconds - mean) * _RTT_WEIGHT

    def _interval(self) -> float:
        settled_up = self.health is Health.UP and not self._missed
        settled_down = self.health is Health.DOWN and not self._passed
        if settled_up or settled_down:
            seconds = STEADY_SECONDS * self._stretch
        else:
            seconds = min(max(FAST_SECONDS, 2 * (self.round_trip or 0)), FAST_SECONDS_LONGEST)
        return seconds * (1 + JITTER * (2 * self._chance() - 1))
