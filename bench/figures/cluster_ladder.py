"""Large packets against frames of the MTU: TCP and UDP between guests on two
hosts, their ends not emulated (Landau et al. 2010, figure 8, on today's kernel)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from bench import cluster_lab, ladder
from bench.figures.tcp import stream
from bench.meters import meter
from bench.peers import Pair, netns_path
from bench.policy_limits import DATAGRAM_BYTES
from bench.report import Figure, Measured, at_least
from bench.rounds import interleave, medians, ratio

ROUNDS = 15
MILLISECONDS = 300
SEGMENTS = 44  # datagrams that the sender hands over at once
NO_LIMIT = 10**12  # bits per second: as many as it can


def measure() -> Measured:
    cluster_lab.start()
    with ExitStack() as stack:
        ways = [
            stack.enter_context(way()) for way in (ladder.through_sockets, ladder.through_heddle)
        ]
        contenders = {f"{pair.name}, TCP": stream(pair) for pair in ways}
        contenders |= {f"{pair.name}, UDP": _datagrams(pair) for pair in ways}
        samples = interleave(contenders, ROUNDS)
    sockets, ours = (pair.name for pair in ways)
    values = {
        f"ladder-{name.lower()}-of-udp-sockets": ratio(
            samples[f"{ours}, {name}"], samples[f"{sockets}, {name}"]
        )
        for name in ("TCP", "UDP")
    }
    return Measured(values, "Gbit/s", medians(samples))


def _datagrams(pair: Pair) -> Callable[[], float]:
    """Gbit/s that the receiver got of what the sender could send."""
    settings = {
        "sender_netns": netns_path(pair.sender),
        "receiver_netns": netns_path(pair.receiver),
        "destination_ip": pair.receiver_ip,
        "bits_per_second": NO_LIMIT,
        "datagram_bytes": DATAGRAM_BYTES,
        "segments": SEGMENTS,
        "sender_cpu": ladder.CPUS[0],
        "receiver_cpu": ladder.CPUS[1],
        "milliseconds": MILLISECONDS,
    }

    def gbit_per_second() -> float:
        answer = meter("datagrams", **settings)
        return answer["received"] * 8 / answer["wall_ns"]

    return gbit_per_second


FIGURE = Figure(
    "cluster-ladder",
    "Guests on two hosts, ends not emulated: large packets against frames of the MTU",
    {
        "ladder-tcp-of-udp-sockets": at_least(20, "of UDP sockets between two QEMUs"),
        "ladder-udp-of-udp-sockets": at_least(12, "of UDP sockets between two QEMUs"),
    },
    measure,
)
