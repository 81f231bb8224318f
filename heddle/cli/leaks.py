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
        ("heddle leaks --lab", "on all hosts of the lab that is up"),
        ("heddle leaks --json", "for programs"),
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=_SECONDS,
        help=f"how long to capture (default: {_SECONDS:.0f})",
    )
    parser.add_argument(
        "--lab",
        metavar="NAME",
        nargs="?",
        const="",
        help="look on all hosts of this lab (default: the only one)",
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    if not 0 <= arguments.seconds <= _SECONDS_MOST:
        raise RequestError(f"--seconds {arguments.seconds:g}: must be 0 to {_SECONDS_MOST:.0f}")
    require_root("heddle leaks")
    if arguments.lab is None:
        report = _leaks_here(arguments.seconds)
    else:
        from heddle.cli.leaks_lab import leaks_of_lab

        report = leaks_of_lab(arguments.lab or None, arguments.seconds)
    print(render_json(report) if arguments.json else _text(report))
    return 1 if report["leaks"] else 0


def _leaks_here(seconds: float) -> dict[str, Any]:
    from heddle.datapath.loader import Datapath
    from heddle.leaks.audit import audit

    view, host = View(), host_name()
    paths = view.statuses.get(("path", host), {"paths": []})
    datapath = Datapath.open(host)
    try:
        report = audit(view.objects, host, datapath, paths, seconds)
    finally:
        datapath.close()
    leaks = [_described(leak.name, leak.where, leak.detail) for leak in report.leaks]
    return {"leaks": leaks, "frames": report.frames, "missed": report.missed}


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


def _text(report: dict[str, Any]) -> str:
    leaks: list[dict[str, Any]] = report["leaks"]
    lines = [_table(leaks), "", "what to do:"] if leaks else ["nothing leaks"]
    remedies = {leak["name"]: leak["remedy"] for leak in leaks}
    lines += [f"  {name}: {remedy}" for name, remedy in remedies.items()]
    too_fast = f", {report['missed']} more passed too fast" if report["missed"] else ""
    return "\n".join([*lines, f"{report['frames']} frames were captured{too_fast}"])


def _table(leaks: list[dict[str, Any]]) -> str:
    columns = [name for name in ("host", "name", "where", "detail") if name in leaks[0]]
    headers = ["leak" if name == "name" else name for name in columns]
    return render(headers, [[leak[name] for name in columns] for leak in leaks])
