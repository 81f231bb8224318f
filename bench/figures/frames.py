"""64-byte frames between containers: CPU time per frame, generator included."""

from __future__ import annotations

from collections.abc import Callable

from bench import peers, private, product
from bench.meters import ns_per_frame
from bench.peers import DEVICE, Pair, netns_path
from bench.report import Figure, Measured, at_least
from bench.rounds import interleave, medians, ratio

ROUNDS = 15
MILLISECONDS = 300
LENGTH = 60  # bytes; the frame check sequence makes it 64
CPU = 0


def measure() -> Measured:
    heddle = product.container_pair()
    forwarding = peers.ip_forwarding()
    bridge = peers.linux_bridge(netfilter=True)
    plain_bridge = peers.linux_bridge(netfilter=False)
    pairs = (heddle, forwarding, bridge, plain_bridge)
    samples = interleave({pair.name: _meter(pair) for pair in pairs}, ROUNDS)
    values = {
        "frames-of-ip-forwarding": ratio(samples[forwarding.name], samples[heddle.name]),
        "frames-of-bridge": ratio(samples[bridge.name], samples[heddle.name]),
    }
    return Measured(values, "ns per frame", medians(samples))


def frame_settings(pair: Pair, milliseconds: int) -> dict[str, object]:
    """Of the meter of that name: frames from one end of a pair to the other."""
    return {
        "switch_netns": netns_path(pair.switch),
        "switch_device": pair.host_device,
        "sender_netns": netns_path(pair.sender),
        "receiver_netns": netns_path(pair.receiver),
        "device": DEVICE,
        "source_mac": pair.sender_mac,
        "destination_mac": pair.next_hop_mac,
        "source_ip": pair.sender_ip,
        "destination_ip": pair.receiver_ip,
        "length": LENGTH,
        "cpu": CPU,
        "softirqd_schedstat": private.ksoftirqd_schedstat(CPU),
        "milliseconds": milliseconds,
    }


def _meter(pair: Pair) -> Callable[[], float]:
    settings = frame_settings(pair, MILLISECONDS)
    return lambda: ns_per_frame("frames", **settings)


FIGURE = Figure(
    "frames",
    "64-byte frames, containers in two subnets, generator included",
    {
        "frames-of-ip-forwarding": at_least(1.05, "of Linux IP forwarding"),
        "frames-of-bridge": at_least(1.4, "of a Linux bridge"),
    },
    measure,
)
