"""Fuzzing on demand: ``scripts/fuzz model|frames``. CI runs less of the same."""

from __future__ import annotations

import argparse
import secrets
import sys
import time
from collections import Counter

from comparison import Comparison
from frame_fuzz import FrameFuzz
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from model_board import ModelBoard, open_board
from topologies import topologies

from heddle.intent.model import AnyResource

PACKETS = 100  # per topology
FRAMES = 50_000  # per line of progress


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    print(f"seed {options.seed}", flush=True)
    with open_board() as board:
        started = time.monotonic()
        try:
            outcomes = options.run(board, options)
        except AssertionError as error:
            print(error, *getattr(error, "__notes__", ()), sep="\n")
            return 1
        seconds = time.monotonic() - started
    total = sum(outcomes.values())
    print(f"{total} packets in {seconds:.0f} s, {total / seconds:.0f} a second; outcomes:")
    for name, count in outcomes.most_common():
        print(f"{count:9}  {name}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    commands = parser.add_subparsers(required=True)
    model = commands.add_parser("model", help="random topologies and packets")
    model.add_argument("--packets", dest="count", type=int, default=200_000)
    model.set_defaults(run=_model)
    frames = commands.add_parser("frames", help="malformed frames in one topology")
    frames.add_argument("--count", type=int, default=1_000_000)
    frames.set_defaults(run=_frames)
    for command in (model, frames):
        command.add_argument("--seed", type=int, default=secrets.randbelow(1 << 32))
    return parser


def _model(board: ModelBoard, options: argparse.Namespace) -> Counter[str]:
    outcomes = Counter[str]()

    @seed(options.seed)
    @settings(
        max_examples=max(1, options.count // PACKETS),
        deadline=None,
        database=None,
        print_blob=True,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(
        objects=topologies(),
        seeds=st.lists(st.integers(0, 2**32 - 1), min_size=PACKETS, max_size=PACKETS),
    )
    def packets_fare_as_the_model_says(objects: list[AnyResource], seeds: list[int]) -> None:
        comparison = Comparison(board, objects)
        try:
            comparison.send_all(seeds)
            comparison.check_counters()
        finally:
            outcomes.update(comparison.outcomes)

    packets_fare_as_the_model_says()
    return outcomes


def _frames(board: ModelBoard, options: argparse.Namespace) -> Counter[str]:
    """In parts, so that what flows remember does not pile up."""
    outcomes = Counter[str]()
    for part in range(-(-options.count // FRAMES)):
        fuzz = FrameFuzz(board, options.seed + part)
        fuzz.run(min(FRAMES, options.count - part * FRAMES))
        outcomes.update(fuzz.outcomes)
        print(f"{sum(outcomes.values())} frames", file=sys.stderr, flush=True)
    return outcomes


if __name__ == "__main__":
    sys.exit(main())
