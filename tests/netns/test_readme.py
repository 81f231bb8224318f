"""The README's first network, followed to the letter."""

from __future__ import annotations

import re
from pathlib import Path

from lab import Lab

CHECKOUT = Path(__file__).parent.parent.parent
HEADING = "## A first network in five minutes\n"


def test_the_first_network_works_as_told(lab: Lab) -> None:
    section = (CHECKOUT / "README.md").read_text().split(HEADING)[1].split("\n## ")[0]
    (topology,) = _blocks(section, "yaml")
    commands = re.findall(r"^# (.*)$", "".join(_blocks(section, "console")), re.MULTILINE)
    assert len(commands) > 5
    file = str(lab.write(topology, "first.yaml"))
    steps = "\n".join(command.replace("first.yaml", file) for command in commands)
    output = lab.run("bash", "-exc", f"cd {CHECKOUT}\n{steps}").stdout
    assert "3 packets transmitted, 3 received, 0% packet loss" in output
    assert "no packet was dropped" in output  # not even while the machines start
    assert lab.leftovers() == []


def _blocks(section: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
