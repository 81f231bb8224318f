"""Run system tools and say clearly what failed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

from heddle.errors import OperationError

TIMEOUT = 120.0  # seconds; nothing that a benchmark runs takes longer


class BenchError(OperationError):
    """A measurement could not be made."""


def run(
    *argv: str,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
    timeout: float = TIMEOUT,
) -> str:
    """Standard output of a command; BenchError with its last words when it fails."""
    environment = {**os.environ, **env} if env else None
    try:
        done = subprocess.run(
            argv,
            env=environment,
            input=stdin,
            check=False,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
    except FileNotFoundError as error:
        raise BenchError(f"{argv[0]} is missing: run scripts/setup bench") from error
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"{' '.join(argv)}: no end after {timeout:.0f} s") from error
    if done.returncode:
        words = (done.stderr.strip() or done.stdout.strip()).splitlines()[-3:]
        raise BenchError(f"{' '.join(argv)}: exit code {done.returncode}: {' | '.join(words)}")
    return done.stdout


def progress(text: str) -> None:
    """Tell a waiting person what goes on; standard output is for results alone."""
    print(text, file=sys.stderr, flush=True)
