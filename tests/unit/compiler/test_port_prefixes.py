"""Ranges of ports as prefixes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heddle.compiler.port_prefixes import PortPrefix, port_prefixes

PREFIXES_MAX = 30  # 1-65534 needs that many, no range more


def ports_in(prefix: PortPrefix) -> range:
    return range(prefix.port, prefix.port + (1 << 16 - prefix.bits))


@given(st.lists(st.integers(0, 65535), min_size=2, max_size=2).map(sorted))
def test_union_is_the_range_and_nothing_twice(ends: list[int]) -> None:
    first, last = ends
    prefixes = port_prefixes(first, last)
    assert [port for prefix in prefixes for port in ports_in(prefix)] == [*range(first, last + 1)]
    assert len(prefixes) <= PREFIXES_MAX
    assert all(prefix.port % len(ports_in(prefix)) == 0 for prefix in prefixes)


EXAMPLES = {
    (80, 80): [(16, 80)],
    (0, 65535): [(0, 0)],
    (80, 443): [(12, 80), (11, 96), (9, 128), (9, 256), (11, 384), (12, 416), (13, 432), (14, 440)],
    (0, 1023): [(6, 0)],
    (65535, 65535): [(16, 65535)],
}


@pytest.mark.parametrize(("ends", "prefixes"), EXAMPLES.items(), ids=str)
def test_example(ends: tuple[int, int], prefixes: list[tuple[int, int]]) -> None:
    assert port_prefixes(*ends) == prefixes


def test_the_longest_list() -> None:
    assert len(port_prefixes(1, 65534)) == PREFIXES_MAX


def test_a_reversed_range_holds_nothing() -> None:
    assert port_prefixes(2, 1) == []
