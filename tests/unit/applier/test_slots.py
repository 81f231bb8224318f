"""Counter slots."""

from __future__ import annotations

import pytest

from heddle.applier.slots import CounterSlots
from heddle.errors import KernelError


def test_a_device_keeps_its_slot() -> None:
    slots = CounterSlots(4)
    assert [slots.slot_of(name) for name in ("a", "b", "a")] == [0, 1, 0]


def test_adopted_slots_are_not_given_out() -> None:
    slots = CounterSlots(3)
    slots.adopt("a", 1)
    assert [slots.slot_of(name) for name in ("b", "c", "a")] == [0, 2, 1]
    assert slots.take_fresh() == [0, 2]


def test_of_two_devices_with_one_slot_the_second_gets_another() -> None:
    slots = CounterSlots(2)
    slots.adopt("a", 0)
    slots.adopt("b", 0)
    assert [slots.slot_of("a"), slots.slot_of("b")] == [0, 1]


def test_a_slot_outside_the_table_is_not_adopted() -> None:
    slots = CounterSlots(2)
    slots.adopt("a", 2)
    assert slots.slot_of("a") == 0


def test_a_slot_given_back_is_the_last_to_be_given_out_again() -> None:
    slots = CounterSlots(3)
    slots.slot_of("a")
    slots.release("a")
    assert [slots.slot_of(name) for name in ("b", "c", "d")] == [1, 2, 0]
    assert slots.take_fresh() == [0, 1, 2, 0]
    assert slots.take_fresh() == []


def test_running_out_is_an_error_until_one_is_given_back() -> None:
    slots = CounterSlots(1)
    slots.slot_of("a")
    with pytest.raises(KernelError, match="all 1 counter slots"):
        slots.slot_of("b")
    slots.release("a")
    assert slots.slot_of("b") == 0
