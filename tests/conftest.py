"""What all tests share: after a failure, the command that repeats it."""

from __future__ import annotations

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print, for each test that failed, how to run it alone."""
    failed = terminalreporter.getreports("failed") + terminalreporter.getreports("error")
    for node in dict.fromkeys(report.nodeid for report in failed):
        terminalreporter.write_line(f"repeat with: scripts/test '{node}'")
