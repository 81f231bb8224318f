"""``scripts/bench NAME [--json] [--only FIGURE]``.

Exit code 0: every goal holds; 1: one is missed or could not be measured; 2: the
request was wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from bench import chart, private
from bench.commands import progress
from bench.figures import SUITES
from bench.report import Figure, Measured, Outcome, all_rows, render_json, render_table
from heddle.errors import HeddleError

OUTPUT = Path(__file__).parent / "out"


def main(arguments: list[str]) -> int:
    options = _parser().parse_args(arguments)
    figures = [f for f in SUITES[options.suite] if options.only in {None, f.name, *f.goals}]
    if not figures:
        print(f"scripts/bench: {options.suite} has no figure {options.only}", file=sys.stderr)
        return 2
    if os.geteuid() != 0:
        print("scripts/bench: run it as root: it makes network namespaces", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, _exit_on_signal)
    outcomes = [_measure(figure) for figure in figures]
    picture = OUTPUT / f"{options.suite}.png"
    chart.draw(outcomes, picture)
    progress(f"chart: {picture}")
    print(render_json(outcomes) if options.json else render_table(outcomes))
    return 0 if _all_hold(outcomes) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("suite", choices=SUITES, help="what to measure")
    parser.add_argument("--json", action="store_true", help="print a JSON list and nothing else")
    names = [figure.name for suite in SUITES.values() for figure in suite]
    parser.add_argument("--only", metavar="FIGURE", help="only one of " + ", ".join(names))
    return parser


def _exit_on_signal(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)


def _measure(figure: Figure) -> Outcome:
    progress(f"measuring {figure.name}: {figure.title}")
    try:
        figure.prepare()
        return Outcome(
            figure, Measured(**json.loads(private.measure_inside(figure.name, figure.patience)))
        )
    except HeddleError as error:
        progress(f"{figure.name}: {error}")
        return Outcome(figure, None, str(error))


def _all_hold(outcomes: Sequence[Outcome]) -> bool:
    return all(row.holds for row in all_rows(outcomes))


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
