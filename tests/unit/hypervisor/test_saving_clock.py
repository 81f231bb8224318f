"""How long a machine was away does not depend on clocks of hosts that agree."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from heddle.hypervisor.saving import clock_of


def test_the_clock_is_that_of_the_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = clock_of(tmp_path)
    monkeypatch.setattr(time, "time", lambda: 0.0)  # a host whose own clock was never set
    assert 0 <= clock_of(tmp_path) - before < 60
    assert list(tmp_path.iterdir()) == []


def test_it_goes_on(tmp_path: Path) -> None:
    before = clock_of(tmp_path)
    deadline = time.monotonic() + 10
    while clock_of(tmp_path) == before:  # it ticks some hundred times a second
        assert time.monotonic() < deadline
