"""How often an etcd that does not answer is tried again.

A thousand agents that all lost it must neither keep it from coming back nor all
come in the same moment, and yet notice within a second that it is there.
"""

from __future__ import annotations

import random
import threading
import time

FIRST_SECONDS = 0.1
LONGEST_SECONDS = 1.0


class Pauses:
    """Of one client. Each is about twice as long as the one before, and each client
    has times of its own."""

    def __init__(self) -> None:
        self._longest = FIRST_SECONDS
        self._ended = threading.Event()

    @property
    def ended(self) -> bool:
        return self._ended.is_set()

    def take(self, deadline: float) -> bool:
        """Make the next pause, no longer than until ``deadline`` (monotonic). False when
        there is no time left, or after ``end``."""
        left = deadline - time.monotonic()
        seconds = self._longest * random.uniform(0.5, 1)  # noqa: S311 (no secret)
        self._longest = min(2 * self._longest, LONGEST_SECONDS)
        return left > 0 and not self._ended.wait(min(seconds, left))

    def reset(self) -> None:
        """etcd answers."""
        self._longest = FIRST_SECONDS

    def end(self) -> None:
        """Who is in a pause stops trying."""
        self._ended.set()
