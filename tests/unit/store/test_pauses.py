"""How often an etcd that does not answer is tried again."""

from __future__ import annotations

import threading
import time

import pytest

from heddle.store.etcd.pauses import FIRST_SECONDS, LONGEST_SECONDS, Pauses


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds of each pause, which takes none."""
    seconds: list[float] = []

    def wait(self: threading.Event, timeout: float) -> bool:
        seconds.append(timeout)
        return self.is_set()

    monkeypatch.setattr(threading.Event, "wait", wait)
    return seconds


def _later() -> float:
    return time.monotonic() + 1000


def test_pauses_grow_up_to_a_second(waited: list[float]) -> None:
    pauses = Pauses()
    for _ in range(8):
        assert pauses.take(_later())
    limits = [min(FIRST_SECONDS * 2**n, LONGEST_SECONDS) for n in range(8)]
    assert all(limit / 2 <= pause <= limit for pause, limit in zip(waited, limits, strict=True))
    pauses.reset()
    pauses.take(_later())
    assert waited[-1] <= FIRST_SECONDS


def test_no_two_clients_try_at_the_same_times(waited: list[float]) -> None:
    for _ in range(20):
        Pauses().take(_later())
    assert len(set(waited)) == 20


def test_a_pause_ends_with_the_time_that_there_is(waited: list[float]) -> None:
    pauses = Pauses()
    assert pauses.take(time.monotonic() + 0.01)
    assert waited[0] <= 0.01
    assert not pauses.take(time.monotonic() - 1)


def test_who_has_ended_tries_no_more() -> None:
    pauses = Pauses()
    pauses.end()
    assert pauses.ended
    assert not pauses.take(_later())
