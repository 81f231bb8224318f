"""The commands in the comments of the example files do what they say."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml
from lab import Lab

EXAMPLES = Path(__file__).parents[2] / "examples"
COMMAND = re.compile(r"^#   heddle (.*)$", re.MULTILINE)


def of_containers(file: Path) -> bool:
    """Examples with virtual machines are booted by tests/vm, those with hosts of
    their own by tests/cluster."""
    found = yaml.safe_load(file.read_text())
    machines = found["machines"].values()
    return "hosts" not in found and all(machine["kind"] == "container" for machine in machines)


FILES = [file for file in sorted(EXAMPLES.glob("*.yaml")) if of_containers(file)]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_comments(lab: Lab, file: Path) -> None:
    commands = COMMAND.findall(file.read_text())
    assert commands[0] == f"up examples/{file.name}"
    assert len(commands) > 1
    lab.heddle("up", file)
    for command in commands[1:]:
        lab.heddle(*shlex.split(command))  # fails when a ping or a trace does
    lab.heddle("down", file)
