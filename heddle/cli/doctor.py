"""heddle doctor"""

from __future__ import annotations

import argparse

from heddle.cli.checks import CHECKS, Finding, State
from heddle.cli.options import add_json, describe
from heddle.cli.stored_checks import stored_findings
from heddle.cli.table import render, render_json


def configure(parser: argparse.ArgumentParser) -> None:
    describe(
        parser,
        "Check what this kernel and machine can do, and say what to do about what is missing.\n"
        "Changes nothing. Without root it checks what it can. Exit code 1: something is missing,\n"
        "full or broken; a hint is none of these.",
        ("heddle doctor", "a table of checks"),
        ("heddle doctor --json", "for programs"),
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    findings = [*(check() for check in CHECKS), *stored_findings()]
    if arguments.json:
        print(render_json([finding._asdict() for finding in findings]))
    else:
        rows = [(f.name, f.state, f.detail) for f in findings]
        print(render(("check", "state", "detail"), rows))
        _print_remedies(findings)
    return 1 if any(f.state in (State.MISSING, State.FULL, State.BROKEN) for f in findings) else 0


def _print_remedies(findings: list[Finding]) -> None:
    todo = [finding for finding in findings if finding.remedy]
    if todo:
        print("\nwhat to do:")
    for finding in todo:
        print(f"  {finding.name}: {finding.remedy}")
