"""TCP between containers: one stream, through heddle and through its peers."""

from __future__ import annotations

from collections.abc import Callable

from bench import peers, product
from bench.meters import meter
from bench.peers import Pair, netns_path
from bench.report import Figure, Measured, at_least
from bench.rounds import interleave, medians, ratio

ROUNDS = 61
MILLISECONDS = 200
SENDER_CPU = 0
RECEIVER_CPU = 1
CONGESTION_CONTROL = "cubic"  # BBR paces itself by what it measured, which adds noise


def measure() -> Measured:
    pairs = (product.container_pair(), peers.joined_veths(), peers.ip_forwarding())
    samples = interleave({pair.name: stream(pair) for pair in pairs}, ROUNDS)
    heddle, veths, forwarding = (samples[pair.name] for pair in pairs)
    values = {
        "tcp-of-joined-veths": ratio(heddle, veths),
        "tcp-of-ip-forwarding": ratio(heddle, forwarding),
    }
    return Measured(values, "Gbit/s", medians(samples))


def stream(pair: Pair) -> Callable[[], float]:
    """Gbit/s that the receiver got."""
    settings = {
        "sender_netns": netns_path(pair.sender),
        "receiver_netns": netns_path(pair.receiver),
        "destination_ip": pair.receiver_ip,
        "congestion_control": CONGESTION_CONTROL,
        "sender_cpu": SENDER_CPU,
        "receiver_cpu": RECEIVER_CPU,
        "milliseconds": MILLISECONDS,
    }

    def gbit_per_second() -> float:
        answer = meter("stream", **settings)
        return answer["bytes"] * 8 / answer["wall_ns"]

    return gbit_per_second


FIGURE = Figure(
    "tcp",
    "TCP, one stream, containers in two subnets",
    {
        "tcp-of-joined-veths": at_least(0.95, "of two directly joined veth ends"),
        "tcp-of-ip-forwarding": at_least(1.1, "of Linux IP forwarding"),
    },
    measure,
)
