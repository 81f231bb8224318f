"""Patience with what keeps failing."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

_FIRST_SECONDS = 1.0
_LONGEST_SECONDS = 60.0


@dataclass(slots=True)
class _Failure:
    error: str
    count: int
    retry_at: float


class Backoff:
    """Remembers failures by key, and when to try each again: after 1 s, 2 s, ... 60 s."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: dict[str, _Failure] = {}

    def waiting(self, key: str) -> str | None:
        """The last error while it is too early to try again, else None."""
        failure = self._failures.get(key)
        return failure.error if failure and self._clock() < failure.retry_at else None

    def failed(self, key: str, error: str) -> None:
        """Note a failure. Another error than before starts the patience anew."""
        before = self._failures.get(key)
        count = before.count + 1 if before and before.error == error else 0
        pause = min(_FIRST_SECONDS * 2.0**count, _LONGEST_SECONDS)
        self._failures[key] = _Failure(error, count, self._clock() + pause)

    def succeeded(self, key: str) -> None:
        self._failures.pop(key, None)

    def forget(self) -> None:
        """Try everything again at once: somebody may have mended it."""
        self._failures.clear()
