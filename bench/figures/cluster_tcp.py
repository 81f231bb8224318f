"""TCP between containers on two hosts: one stream, through heddle's overlay,
through the kernel's, and through heddle without an envelope."""

from __future__ import annotations

from bench import cluster_lab
from bench.cluster_peers import kernel_vxlan
from bench.figures.tcp import ROUNDS, stream
from bench.report import Figure, Measured, at_least
from bench.rounds import interleave, medians, ratio


def measure() -> Measured:
    across, inside = cluster_lab.start()
    kernel = kernel_vxlan()
    pairs = (across, inside, kernel)
    samples = interleave({pair.name: stream(pair) for pair in pairs}, ROUNDS)
    ours = samples[across.name]
    values = {
        "cluster-tcp-of-kernel-vxlan": ratio(ours, samples[kernel.name]),
        "cluster-tcp-of-one-host": ratio(ours, samples[inside.name]),
    }
    return Measured(values, "Gbit/s", medians(samples))


FIGURE = Figure(
    "cluster-tcp",
    "TCP, one stream, containers on two hosts",
    {
        "cluster-tcp-of-kernel-vxlan": at_least(1.25, "of kernel VXLAN and a Linux bridge"),
        "cluster-tcp-of-one-host": at_least(0.9, "of heddle without the envelope"),
    },
    measure,
)
