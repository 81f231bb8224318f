"""The README's first network, followed to the letter."""

from __future__ import annotations

import re
import secrets
from pathlib import Path

from tests.private_machine import CHECKOUT, private_machine

HEADING = "## A first network in five minutes\n"


def test_the_first_network_works_as_told(tmp_path: Path) -> None:
    section = (CHECKOUT / "README.md").read_text().split(HEADING)[1].split("\n## ")[0]
    topology = re.search(r"^```yaml\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    commands = re.findall(r"^# (.*)$", "".join(_console(section)), re.MULTILINE)
    assert topology
    assert len(commands) > 5
    file = tmp_path / "first.yaml"
    file.write_text(topology[1])
    steps = "\n".join(command.replace("first.yaml", str(file)) for command in commands)
    environment = {"HEDDLE_ROOT": str(tmp_path), "HEDDLE_HOST": f"readme{secrets.token_hex(3)}"}
    with private_machine("bash", "-exc", steps, environment=environment) as shell:
        exit_code, output = shell.finish()
    assert exit_code == 0, output
    assert "3 packets transmitted, 3 received, 0% packet loss" in output, output


def _console(section: str) -> list[str]:
    return re.findall(r"^```console\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
