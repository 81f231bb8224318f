"""One TCP stream of large segments, with security groups and without policy."""

from __future__ import annotations

from collections.abc import Callable

from bench.peers import Pair
from bench.policy_meters import stream
from bench.policy_product import OPEN, in_group, start_pairs
from bench.report import Figure, Measured, at_least
from bench.rounds import interleave, medians, ratio

ROUNDS = 41
MILLISECONDS = 200


def measure() -> Measured:
    pairs = start_pairs(("group",), {"on": in_group("group"), "off": OPEN})
    contenders = {"heddle": _gigabits(pairs["on"]), "heddle, policy off": _gigabits(pairs["off"])}
    samples = interleave(contenders, ROUNDS)
    values = {"policy-tcp-of-open-ports": ratio(*samples.values())}
    return Measured(values, "Gbit/s", medians(samples))


def _gigabits(pair: Pair) -> Callable[[], float]:
    return lambda: stream(pair, MILLISECONDS) / 1e9


FIGURE = Figure(
    "policy-stream",
    "TCP, one stream, containers in two subnets, policy on",
    {"policy-tcp-of-open-ports": at_least(0.97, "of the same with port security off")},
    measure,
)
