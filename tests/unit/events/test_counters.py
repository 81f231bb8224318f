"""Rates between two readings."""

from __future__ import annotations

from heddle.events.counters import PortCounters, Rates, Sample, rates


def sample(at: float, **ports: tuple[int, int, int, int]) -> Sample:
    return Sample(at, {int(name[1:]): PortCounters(*values) for name, values in ports.items()})


def test_rates_are_per_second_and_in_bits() -> None:
    before = sample(10.0, p1=(100, 1000, 0, 0))
    after = sample(12.0, p1=(300, 3000, 4, 8))
    assert rates(before, after) == {1: Rates(100.0, 8000.0, 2.0, 32.0)}


def test_ports_in_one_reading_only_are_left_out() -> None:
    assert rates(sample(0.0, p1=(1, 1, 1, 1)), sample(1.0, p2=(1, 1, 1, 1))) == {}


def test_a_reused_slot_counts_from_zero() -> None:
    before, after = sample(0.0, p1=(900, 9000, 900, 9000)), sample(1.0, p1=(1, 10, 2, 20))
    assert rates(before, after) == {1: Rates(1.0, 80.0, 2.0, 160.0)}
