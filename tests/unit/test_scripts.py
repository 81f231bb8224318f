"""The scripts tell the truth: exit codes, and the command that repeats a failure."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import heddle

CHECKOUT = Path(heddle.__file__).parent.parent


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=False, cwd=CHECKOUT, capture_output=True, text=True)


def state_of_environment() -> dict[Path, int]:
    """When each thing was last written that installing or building would write."""
    places = [".venv/heddle-setup", ".venv/lib/*/site-packages", "heddle/datapath/objects/*.o"]
    files = [file for place in places for file in CHECKOUT.glob(place)]
    assert len(files) >= len(places)
    return {file: file.stat().st_mtime_ns for file in files}


def test_setup_has_nothing_to_do_the_second_time() -> None:
    run("scripts/setup", "test")
    before = state_of_environment()
    done = run("scripts/setup", "test")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert state_of_environment() == before


@pytest.mark.parametrize(("body", "exit_code"), [("assert True", 0), ("assert False", 1)])
def test_exit_code_and_repeat_command(body: str, exit_code: int, tmp_path: Path) -> None:
    file = tmp_path / "test_sample.py"
    file.write_text(f"def test_sample():\n    {body}\n")
    done = run("scripts/test", "-p", "tests.conftest", file)
    assert done.returncode == exit_code, done.stdout + done.stderr
    assert ("repeat with: scripts/test '" in done.stdout) == bool(exit_code)


def test_setup_refuses_what_it_does_not_know() -> None:
    done = run("scripts/setup", "everything")
    assert done.returncode == 1
    assert "usage: scripts/setup" in done.stderr


@pytest.mark.parametrize(
    "path", [*CHECKOUT.glob("scripts/*"), CHECKOUT / ".ci/run"], ids=lambda path: path.name
)
def test_scripts_can_be_run(path: Path) -> None:
    assert path.read_text().startswith("#!/usr/bin/env bash\n")
    assert path.stat().st_mode & 0o111 == 0o111


def test_parts_are_folders_and_the_longest_begin_first() -> None:
    done = run("scripts/test", "model", "cluster", "--collect-only", "-q", "-k", "relay or model")
    assert done.returncode == 0, done.stdout + done.stderr
    cluster = done.stdout.index("tests/cluster/test_paths.py::")
    assert cluster < done.stdout.index("tests/model/test_model.py::")
