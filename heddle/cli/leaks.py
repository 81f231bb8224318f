"""heddle leaks"""

from __future__ import annotations

import argparse
from typing import Any

from heddle.cli.options import add_json, describe, require_root
from heddle.cli.table import render, render_json
from heddle.cli.view import View
from heddle.errors import RequestError
from heddle.paths import host_name

_SECONDS = 2.0
_SECONDS_MOST = 3600.0


def configure(parser: argparse.ArgumentParser) -> None:
    describe(
        parser,
        "Look for every way in which a guest of this host could learn of the physical network, or\n"
        "the wire could carry a guest's frame in the clear (docs/leaks.md lists them). Asks the\n"
        "live data plane, reads the kernel's state, and captures for a short time. Changes\n"
        "nothing. Exit code 1: something leaks.",
        ("heddle leaks", "a table of what leaks, and what to do about it"),
        ("heddle leaks --seconds 60", "the same, with a longer capture"),
        ("heddle leaks --json", "for programs"),
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=_SECONDS,
        help=f"how long to capture (default: {_SECONDS:.0f})",
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    if not 0 <= arguments.seconds <= _SECONDS_MOST:
        raise RequestError(f"--seconds {arguments.seconds:g}: must be 0 to {_SECONDS_MOST:.0f}")
    require_root("heddle leaks")
    from heddle.datapath.loader import Datapath
    from heddle.leaks.audit import audit

    view, host = View(), host_name()
    paths = view.statuses.get(("path", host), {}).get("paths", [])
    datapath = Datapath.open(host)
    try:
        report = audit(view.objects, host, datapath, paths, arguments.seconds)
    finally:
        datapath.close()
    leaks = [_described(leak.name, leak.where, leak.detail) for leak in report.leaks]
    if arguments.json:
        print(render_json({"leaks": leaks, "frames": report.frames, "missed": report.missed}))
    else:
        _print(leaks, report.frames, report.missed)
    return 1 if leaks else 0


def _described(name: str, where: str, detail: str) -> dict[str, Any]:
    from heddle.leaks.catalogue import CATALOGUE

    line = CATALOGUE[name]
    return {
        "name": name,
        "where": where,
        "detail": detail,
        "leak": line.leak,
        "remedy": line.remedy,
    }


def _print(leaks: list[dict[str, Any]], frames: int, missed: int) -> None:
    if leaks:
        print(render(("leak", "where", "detail"), [tuple(leak.values())[:3] for leak in leaks]))
        print("\nwhat to do:")
        for name, remedy in {leak["name"]: leak["remedy"] for leak in leaks}.items():
            print(f"  {name}: {remedy}")
    else:
        print("nothing leaks")
    too_fast = f", {missed} more passed too fast" if missed else ""
    print(f"{frames} frames were captured{too_fast}")
