"""64-byte frames between containers on two hosts: CPU time per frame of both
hosts, which share a core; the generator included."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bench import cluster_lab, private
from bench.cluster_peers import kernel_vxlan, vswitch_vxlan
from bench.commands import BenchError
from bench.figures.frames import frame_settings
from bench.meters import meter
from bench.peers import Pair
from bench.report import Figure, Measured, at_least
from bench.rounds import interleave, medians, ratio

ROUNDS = 15
MILLISECONDS = 300
_LOSS_MAX = 0.001


def measure() -> Measured:
    across, inside = cluster_lab.start()
    kernel, vswitch = kernel_vxlan(), vswitch_vxlan()
    contenders = {pair.name: _meter(pair) for pair in (across, inside, kernel)}
    contenders[vswitch.pair.name] = _meter(vswitch.pair, vswitch.daemons)
    samples = interleave(contenders, ROUNDS)
    ours = samples[across.name]
    values = {
        "cluster-frames-of-kernel-vxlan": ratio(samples[kernel.name], ours),
        "cluster-frames-of-open-vswitch": ratio(samples[vswitch.pair.name], ours),
    }
    return Measured(values, "ns per frame", medians(samples))


def _meter(pair: Pair, daemons: Sequence[int] = ()) -> Callable[[], float]:
    settings = frame_settings(pair, MILLISECONDS)

    def cost() -> float:
        before = sum(map(private.cpu_seconds, daemons))
        answer = meter("frames", **settings)
        daemon_ns = (sum(map(private.cpu_seconds, daemons)) - before) * 1e9
        sent, delivered = answer["sent"], answer["delivered"]
        if not daemons and delivered < sent * (1 - _LOSS_MAX):
            raise BenchError(f"{pair.name}: of {sent} frames, {delivered} arrived")
        # What slow daemons did not come to has cost the generator alone.
        return answer["cpu_ns"] / sent + daemon_ns / max(delivered, 1)

    return cost


FIGURE = Figure(
    "cluster-frames",
    "64-byte frames, containers on two hosts, both hosts and the generator on one core",
    {
        "cluster-frames-of-kernel-vxlan": at_least(1.2, "of kernel VXLAN and a Linux bridge"),
        "cluster-frames-of-open-vswitch": at_least(3, "of Open vSwitch in user space with VXLAN"),
    },
    measure,
)
