"""The registry: which figures ``scripts/bench NAME`` measures, in which order."""

from __future__ import annotations

from bench.figures import (
    cluster_frames,
    cluster_ladder,
    cluster_migration,
    cluster_outage,
    cluster_port,
    cluster_scale,
    cluster_tcp,
    cluster_vms,
    frames,
    hotpath,
    many_agents,
    ping,
    policy_connects,
    policy_first,
    policy_floods,
    policy_frames,
    policy_guarantee,
    policy_limits,
    policy_scale,
    policy_stream,
    scale,
    tcp,
    vms,
)
from bench.report import Figure

SUITES: dict[str, tuple[Figure, ...]] = {
    "local": (tcp.FIGURE, frames.FIGURE, ping.FIGURE, vms.FIGURE, scale.FIGURE),
    "cluster": (
        cluster_tcp.FIGURE,
        cluster_frames.FIGURE,
        cluster_ladder.FIGURE,
        cluster_vms.FIGURE,
        cluster_port.FIGURE,
        cluster_migration.FIGURE,
        cluster_scale.FIGURE,
        cluster_outage.FIGURE,
    ),
    "scale": (many_agents.FIGURE,),
    "hotpath": (hotpath.FIGURE,),
    "policy": (
        policy_frames.FIGURE,
        policy_first.FIGURE,
        policy_connects.FIGURE,
        policy_stream.FIGURE,
        policy_floods.FIGURE,
        policy_limits.TCP,
        policy_limits.UDP,
        policy_guarantee.FIGURE,
        policy_scale.FIGURE,  # the last: its links take the kernel long to remove
    ),
}


def figure_named(name: str) -> Figure:
    return next(figure for suite in SUITES.values() for figure in suite if figure.name == name)
