"""How long something that keeps failing is left alone."""

from __future__ import annotations

import pytest

from heddle.hypervisor.backoff import Backoff


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_what_never_failed_does_not_wait(clock: Clock) -> None:
    assert Backoff(clock).waiting("vm0") is None


def test_patience_doubles_up_to_a_minute(clock: Clock) -> None:
    backoff = Backoff(clock)
    pauses = []
    for _ in range(9):
        backoff.failed("vm0", "no memory")
        began = clock.now
        while backoff.waiting("vm0"):
            clock.now += 0.5
        pauses.append(clock.now - began)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_the_error_is_told_meanwhile(clock: Clock) -> None:
    backoff = Backoff(clock)
    backoff.failed("vm0", "no memory")
    assert backoff.waiting("vm0") == "no memory"
    assert backoff.waiting("vm1") is None


def test_another_error_is_tried_again_soon(clock: Clock) -> None:
    backoff = Backoff(clock)
    for _ in range(5):
        backoff.failed("vm0", "no memory")
    backoff.failed("vm0", "no image")
    clock.now += 1
    assert backoff.waiting("vm0") is None


def test_success_forgets_all(clock: Clock) -> None:
    backoff = Backoff(clock)
    for _ in range(5):
        backoff.failed("vm0", "no memory")
    backoff.succeeded("vm0")
    assert backoff.waiting("vm0") is None
    backoff.failed("vm0", "no memory")
    clock.now += 1
    assert backoff.waiting("vm0") is None
