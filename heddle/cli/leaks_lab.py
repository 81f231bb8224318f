"""heddle leaks --lab: the same on every host of a lab, all at a time."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from heddle.errors import OperationError
from heddle.lab.build import space_of
from heddle.lab.folder import LabFolder, find_lab, plan_of
from heddle.lab.hosts import environment


def leaks_of_lab(name: str | None, seconds: float) -> dict[str, Any]:
    """What the hosts report, joined; each leak says on which host it is."""
    lab = find_lab(name)
    names = [host.name for host in plan_of(lab).own_hosts()]
    looking = {host: _look(lab, host, seconds) for host in names}
    reports = {host: _report(host, process) for host, process in looking.items()}
    return {
        "leaks": [
            {"host": host, **leak} for host, report in reports.items() for leak in report["leaks"]
        ],
        "frames": sum(report["frames"] for report in reports.values()),
        "missed": sum(report["missed"] for report in reports.values()),
    }


def _look(lab: LabFolder, host: str, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "heddle.cli.main", "leaks", "--json", f"--seconds={seconds}"]
    return subprocess.Popen(
        space_of(lab, host).entering(command),
        env=environment(lab, host),
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def _report(host: str, process: subprocess.Popen[str]) -> dict[str, Any]:
    output, complaint = process.communicate()
    try:
        report: dict[str, Any] = json.loads(output)
    except ValueError:
        words = complaint.strip().removeprefix("heddle: ") or f"exit code {process.returncode}"
        raise OperationError(f"host {host}: {words}") from None
    return report
