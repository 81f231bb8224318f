"""The largest packet that passes a way, found and kept by probes that must not
be fragmented (the method of RFC 8899, by halves instead of a table of sizes).

Sizes are those of a guest's IP packet, so they compare with a network's MTU.
Pure: time (seconds) is passed in.
"""

from __future__ import annotations

TRIES = 4  # losses in a row that prove that a size does not pass
TRY_SECONDS = 0.25  # between tries of one size, unless answers take longer
CONFIRM_SECONDS = 2.0  # between proofs that the largest still passes
RETRY_SECONDS = 5.0  # between attempts of what is needed and did not pass
RAISE_SECONDS = 60.0  # between looks whether more passes by now (RFC 8899: 600)
SMALLEST = 68  # every IP link must carry that (RFC 791, 3.2)
LARGEST = 9216  # jumbo frames


class SizeSearch:
    """One way. ``size`` is what to probe at ``due_at``; ``passed``, ``lost`` and
    ``refused`` tell what became of it.

    While ``proven`` and ``limit`` are apart, sizes between them are tried. Then
    the largest is confirmed again and again, and now and then challenged by a
    larger one; a challenge that fails changes nothing.
    """

    def __init__(self, now: float, needed: int = 0) -> None:
        self._needed = needed
        self._proven = SMALLEST - 1  # the largest known to pass
        self._limit = LARGEST + 1  # the smallest known not to pass
        self._challenge: int | None = None
        self._losses = 0
        self._retry_at = now
        self._raise_at = now + RAISE_SECONDS
        self._stretch = 1.0
        self.due_at = now
        self.found: int | None = None  # the last result; 0: not even the smallest passes

    @property
    def is_settled(self) -> bool:
        return self._limit - self._proven <= 1

    def need(self, size: int, now: float) -> None:
        """The largest MTU of the networks that may use this way."""
        if size != self._needed:
            self._needed, self._retry_at = size, now
            self.due_at = min(self.due_at, now)

    def stretch(self, factor: float) -> None:
        """Confirm so many times more seldom."""
        self._stretch = factor

    def recheck(self, now: float) -> None:
        """The way has been down, or is another one now: sizes may differ."""
        self._losses, self._challenge = 0, None
        self._retry_at = self._raise_at = self.due_at = now

    def size(self, now: float) -> int:
        """What to probe now: first what is needed, then what halves the rest."""
        if self.is_settled:
            self._challenge = self._challenge or self._challenger(now)
            return self._challenge or max(self._proven, SMALLEST)
        if self._proven < self._needed < self._limit:
            return self._needed
        return (self._proven + self._limit) // 2

    def sent(self, now: float, round_trip: float | None) -> None:
        """A probe goes out; when no answer has come by ``due_at``, it is lost."""
        self.due_at = now + max(TRY_SECONDS, 3 * (round_trip or 0))

    def passed(self, size: int, now: float) -> None:
        """A probe of this size was answered."""
        if size == self._challenge:
            self._challenge = None
        if size >= self._limit:
            self._limit = LARGEST + 1
        self._proven = max(self._proven, size)
        if self.found is not None:  # what passes passes, also before the search has ended
            self.found = max(self.found, size)
        self._continue(now)

    def lost(self, size: int, now: float) -> None:
        """A probe of this size was not answered, though a small one after it was."""
        self._losses += 1
        if self._losses >= TRIES:
            self.refused(size, now)

    def refused(self, size: int, now: float) -> None:
        """It can't be sent at all, or has been lost too often."""
        if size == self._challenge:
            self._challenge = None
        else:
            self._limit = min(self._limit, size)
            self._retry_at, self._raise_at = now + RETRY_SECONDS, now + RAISE_SECONDS
            if size <= self._proven:  # the path has shrunk
                self._proven = SMALLEST - 1
        self._continue(now)

    def _challenger(self, now: float) -> int | None:
        """A size above the proven one, when it is time to try one."""
        if self._proven < self._needed and now >= self._retry_at:
            self._retry_at = now + RETRY_SECONDS
            return self._needed
        if self._proven < LARGEST and now >= self._raise_at:
            self._raise_at = now + RAISE_SECONDS
            return self._proven + 1
        return None

    def _continue(self, now: float) -> None:
        self._losses = 0
        if not self.is_settled:
            self.due_at = now
            return
        self.found = self._proven if self._proven >= SMALLEST else 0
        self.due_at = now + CONFIRM_SECONDS * self._stretch
