"""Median round-trip time of ICMP echo between containers."""

from __future__ import annotations

from collections.abc import Callable

from bench import peers, product
from bench.meters import meter
from bench.peers import Pair, netns_path
from bench.report import Figure, Measured, at_most
from bench.rounds import interleave, medians, ratio

ROUNDS = 15
COUNT = 5000
CPU = 0


def measure() -> Measured:
    heddle, forwarding = product.container_pair(), peers.ip_forwarding()
    samples = interleave({pair.name: _pinger(pair) for pair in (heddle, forwarding)}, ROUNDS)
    values = {"ping-of-ip-forwarding": ratio(samples[heddle.name], samples[forwarding.name])}
    return Measured(values, "us", medians(samples))


def _pinger(pair: Pair) -> Callable[[], float]:
    """Median round-trip time in microseconds."""
    settings = {
        "sender_netns": netns_path(pair.sender),
        "destination_ip": pair.receiver_ip,
        "count": COUNT,
        "cpu": CPU,
    }
    return lambda: meter("ping", **settings)["median_ns"] / 1000


FIGURE = Figure(
    "ping",
    "Median ping of containers in two subnets",
    {"ping-of-ip-forwarding": at_most(1.05, "of Linux IP forwarding")},
    measure,
)
