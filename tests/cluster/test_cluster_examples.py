"""The commands in the comments of the example files with several hosts do what
they say, and leave nothing."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml
from cluster import Cluster, eventually

EXAMPLES = Path(__file__).parents[2] / "examples"
COMMAND = re.compile(r"^#   heddle (.*)$", re.MULTILINE)
FILES = [f for f in sorted(EXAMPLES.glob("*.yaml")) if "hosts" in yaml.safe_load(f.read_text())]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_comments(empty: Cluster, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EXAMPLES.parent)
    commands = COMMAND.findall(file.read_text())
    assert commands[0] == f"lab up examples/{file.name}"
    assert commands[-1] == f"lab down examples/{file.name}"
    for command in commands:
        empty.heddle(*shlex.split(command))  # fails when a ping or a trace does
    eventually(lambda: not empty.leftovers(), f"nothing to be left: {empty.leftovers()}", 5)
