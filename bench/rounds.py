"""Fair comparison on a noisy machine: contenders take turns, medians decide."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median

Samples = dict[str, list[float]]


def interleave(contenders: Mapping[str, Callable[[], float]], rounds: int) -> Samples:
    """One sample of each contender per round. Every other round runs backwards,
    so that a drift of the machine favours none."""
    samples: Samples = {name: [] for name in contenders}
    names = list(contenders)
    for number in range(rounds):
        for name in names if number % 2 == 0 else reversed(names):
            samples[name].append(contenders[name]())
    return samples


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    """Median of the quotients of samples taken in the same round."""
    pairs = zip(numerators, denominators, strict=True)
    return median(above / below for above, below in pairs)


def medians(samples: Samples) -> dict[str, float]:
    return {name: median(values) for name, values in samples.items()}
