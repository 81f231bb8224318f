"""Every example file, made real by the command line and taken away again."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from lab import Lab, eventually

EXAMPLES = Path(__file__).parents[2] / "examples"
# Those with hosts of their own are for a lab: tests/cluster has them.
FILES = [f for f in sorted(EXAMPLES.glob("*.yaml")) if "hosts" not in yaml.safe_load(f.read_text())]


def machines_of(file: Path) -> dict[str, str]:
    """Names of a file's machines and their kinds."""
    machines = yaml.safe_load(file.read_text())["machines"]
    return {name: machine.get("kind", "vm") for name, machine in machines.items()}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_leaves_nothing(lab: Lab, file: Path) -> None:
    """Virtual machines are only defined here, not booted: tests/vm boots them."""
    machines = machines_of(file)
    if set(machines.values()) == {"container"}:
        lab.heddle("up", file)
        ports = lab.show("ports")
        assert {port["status"]["state"] for port in ports} == {"active"}
    else:
        lab.heddle("agent", "--detach")
        lab.heddle("apply", file)
    links = [link for link in lab.links() if not link["ifname"].startswith("heddle-shape")]
    assert len(links) == len(lab.show("ports")) > 0
    ids = lab.kernel_ids()
    again = lab.heddle("apply", file).stdout
    assert again.startswith("nothing to change")
    lab.heddle("down")
    eventually(lambda: not lab.leftovers(ids), f"nothing left, but: {lab.leftovers(ids)}")


def test_down_of_one_file_leaves_the_other(lab: Lab) -> None:
    first = lab.write(one_network("red", "10.1.0.0/24"), "first.yaml")
    second = lab.write(one_network("blue", "10.2.0.0/24"), "second.yaml")
    lab.heddle("up", first)
    lab.heddle("up", second)
    lab.heddle("down", first)
    assert [port["name"] for port in lab.show("ports")] == ["blue0/blue"]
    assert len(lab.links()) == 1
    lab.exec("blue0", "ping", "-c", "1", "-W", "20", "10.2.0.1")
    ids = lab.kernel_ids()
    lab.heddle("down", second)
    eventually(lambda: not lab.leftovers(ids), f"nothing left, but: {lab.leftovers(ids)}")


def test_down_finds_the_agent_dead(lab: Lab) -> None:
    lab.heddle("up", lab.write(one_network("red", "10.1.0.0/24")))
    ids = lab.kernel_ids()
    lab.kill_agent()
    lab.heddle("down")
    eventually(lambda: not lab.leftovers(ids), f"nothing left, but: {lab.leftovers(ids)}")


def one_network(name: str, cidr: str) -> str:
    return f"""
version: 1
networks: {{{name}: {{cidr: {cidr}}}}}
routers: {{{name}: {{networks: [{name}]}}}}
machines: {{{name}0: {{kind: container, nics: [{{network: {name}}}]}}}}
"""
