"""The registry: which figures ``scripts/bench NAME`` measures, in which order."""

from __future__ import annotations

from bench.figures import frames, hotpath, ping, scale, tcp, vms
from bench.report import Figure

SUITES: dict[str, tuple[Figure, ...]] = {
    "local": (tcp.FIGURE, frames.FIGURE, ping.FIGURE, vms.FIGURE, scale.FIGURE),
    "hotpath": (hotpath.FIGURE,),
}


def figure_named(name: str) -> Figure:
    return next(figure for suite in SUITES.values() for figure in suite if figure.name == name)
