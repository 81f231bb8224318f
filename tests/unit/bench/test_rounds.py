"""Fair turns and robust ratios."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bench.rounds import interleave, medians, ratio


def test_every_other_round_runs_backwards() -> None:
    turns: list[str] = []

    def contender(name: str) -> Callable[[], float]:
        def sample() -> float:
            turns.append(name)
            return float(len(turns))

        return sample

    samples = interleave({name: contender(name) for name in "abc"}, rounds=3)

    assert "".join(turns) == "abccbaabc"
    assert samples == {"a": [1, 6, 7], "b": [2, 5, 8], "c": [3, 4, 9]}


def test_a_ratio_compares_within_rounds() -> None:
    """A machine that becomes ten times slower halfway changes nothing."""
    assert ratio([2, 4, 20, 40, 60], [1, 2, 10, 20, 30]) == 2


def test_a_ratio_ignores_an_outlier() -> None:
    assert ratio([2, 2, 900], [1, 1, 1]) == 2


def test_a_ratio_needs_as_many_samples_of_both() -> None:
    with pytest.raises(ValueError, match="shorter"):
        ratio([1, 2], [1])


def test_medians() -> None:
    assert medians({"a": [3, 1, 2], "b": [5]}) == {"a": 2, "b": 5}
