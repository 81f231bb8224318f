"""The chart: one panel per figure, a bar per contender, heddle's in colour."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.report import Outcome

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEDDLE_COLOUR = "#1b6ca8"
PEER_COLOUR = "#b8bec6"
COLUMNS = 2


def draw(outcomes: Sequence[Outcome], path: Path) -> None:
    """Write a PNG of all outcomes."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    rows = -(-len(outcomes) // COLUMNS)
    figure, axes = pyplot.subplots(
        rows, COLUMNS, figsize=(13, 3.2 * rows), squeeze=False, layout="constrained"
    )
    panels = [panel for row in axes for panel in row]
    for panel, outcome in zip(panels, outcomes, strict=False):
        _draw_panel(panel, outcome)
    for panel in panels[len(outcomes) :]:
        panel.set_axis_off()
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=110, bbox_inches="tight")  # notes may be wider than their panel
    pyplot.close(figure)


def _draw_panel(panel: Axes, outcome: Outcome) -> None:
    panel.set_title(outcome.figure.title, fontsize=9, loc="left")
    if outcome.measured is None:
        panel.text(0, 0.5, f"not measured: {outcome.error}", wrap=True, fontsize=8)
        panel.set_axis_off()
        return
    contenders = outcome.measured.contenders
    colours = [HEDDLE_COLOUR if _is_ours(name) else PEER_COLOUR for name in contenders]
    bars = panel.barh(list(contenders), list(contenders.values()), color=colours)
    panel.bar_label(bars, fmt="%.4g", padding=3, fontsize=8)
    panel.invert_yaxis()
    panel.margins(x=0.15)
    panel.set_xlabel("\n".join([outcome.measured.unit, *_notes(outcome)]), fontsize=8)
    panel.tick_params(labelsize=8)
    panel.spines[["top", "right"]].set_visible(False)


def _is_ours(contender: str) -> bool:
    """``heddle``, or heddle in some condition."""
    return contender == "heddle" or contender.startswith("heddle,")


def _notes(outcome: Outcome) -> list[str]:
    """Each value beside its goal."""
    marks = {True: "\N{CHECK MARK}", False: "\N{BALLOT X}"}
    return [
        f"{marks[row.holds]} {row.name}: {row.value:.3g} (goal {row.goal})"
        for row in outcome.rows()
    ]
