"""Test files that run beside each other are told as by one run, and clean up like it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

import heddle

CHECKOUT = Path(heddle.__file__).parent.parent
SECONDS = 240.0  # for what takes two on a quiet machine


def lanes(*arguments: str | Path) -> list[str | Path]:
    """A run in two lanes."""
    plugins = ["-p", "tests.conftest", "-p", "tests.lanes", "-p", "no:cacheprovider"]
    return [sys.executable, "-m", "pytest", *plugins, "--lanes", "2", *arguments]


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    argv = lanes(*arguments)
    return subprocess.run(
        argv, check=False, cwd=CHECKOUT, capture_output=True, text=True, timeout=SECONDS
    )


def files(folder: Path, bodies: Sequence[str]) -> list[Path]:
    """A file with one test of each body."""
    made = [folder / f"test_{number}.py" for number in range(len(bodies))]
    for file, body in zip(made, bodies, strict=True):
        file.write_text(f"import os, time\n\ndef test_sample(tmp_path):\n    {body}\n")
    return made


def test_all_files_are_told_in_one_summary(tmp_path: Path) -> None:
    bodies = ["print('what it said'); assert [1] == [2]", *["assert tmp_path.is_dir()"] * 9]
    done = run("--durations", "3", *files(tmp_path, bodies))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 9 passed" in done.stdout
    assert "assert [1] == [2]" in done.stdout
    assert done.stdout.count("what it said") == 2  # in its line, and as its output
    assert "repeat with: scripts/test 'test_0.py::test_sample'" in done.stdout
    assert "slowest 3 durations" in done.stdout


def test_a_lane_takes_files_of_several_folders(tmp_path: Path) -> None:
    """What the session has stays meanwhile, what a folder has does not."""
    folders = [tmp_path / f"test_folder_{number}" for number in range(6)]
    for folder in folders:
        folder.mkdir()
    made = [file for folder in folders for file in files(folder, ["pass", "pass"])]
    done = run("--import-mode=importlib", *made)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "12 passed" in done.stdout


def test_they_run_at_the_same_time(tmp_path: Path) -> None:
    """Each of the two ends only when the other one has begun."""
    there = "import pathlib; there = pathlib.Path(__file__).parent; "
    wait = "\n    while not (there / '{}').exists(): time.sleep(0.01)"
    bodies = [f"{there}(there / '{me}').touch(){wait.format(other)}" for me, other in ("ab", "ba")]
    done = run(*files(tmp_path, bodies))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


def test_the_first_failure_may_end_all(tmp_path: Path) -> None:
    done = run("--exitfirst", *files(tmp_path, ["assert False", "time.sleep(1000)"]))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "stopping after 1 failures" in done.stdout
    assert "1 failed" in done.stdout


def test_a_lane_that_dies_is_a_failure(tmp_path: Path) -> None:
    done = run(*files(tmp_path, ["os._exit(7)", "pass", "pass"]))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "a lane ended with exit code 7 at test_0.py::test_sample" in done.stdout
    assert "2 passed" in done.stdout


CLEANS_UP = """
import pathlib, time, pytest
file = pathlib.Path(__file__)

@pytest.fixture(scope="module")
def busy():
    yield
    time.sleep(0.5)  # meanwhile the signal comes a second time
    file.with_suffix(".gone").touch()

def test_long(busy):
    file.with_suffix(".begun").touch()
    time.sleep(1000)
"""


@pytest.mark.parametrize("to", ["the terminal", "the parent alone"])
def test_interrupted_they_clean_up(to: str, tmp_path: Path) -> None:
    made = files(tmp_path, ["pass"] * 2)
    for file in made:
        file.write_text(CLEANS_UP)
    begun, gone = ([file.with_suffix(suffix) for file in made] for suffix in (".begun", ".gone"))
    with subprocess.Popen(
        lanes(*made), cwd=CHECKOUT, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            while not all(mark.exists() for mark in begun):
                assert process.poll() is None
                time.sleep(0.02)
            if to == "the terminal":
                os.killpg(process.pid, signal.SIGINT)
            else:
                process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=SECONDS)
        finally:
            process.kill()
    assert process.returncode == pytest.ExitCode.INTERRUPTED, output
    assert all(mark.exists() for mark in gone)
    assert "KeyboardInterrupt" in output
