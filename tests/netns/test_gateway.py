"""The gateway: what answers at a router's address, and what does not."""

from __future__ import annotations

import json

import pytest
from lab import Lab, eventually
from lab_topologies import ROUTED

FAR_SIDE = {"10.1.0.1": "10.2.0.1", "fd00:1::1": "fd00:2::1"}


@pytest.mark.parametrize("address", [*FAR_SIDE, *FAR_SIDE.values()])
def test_both_sides_answer_ping(routed_lab: Lab, address: str) -> None:
    routed_lab.exec("c0", "ping", "-c", "2", "-i", "0.2", "-W", "20", address)


@pytest.mark.parametrize("address", FAR_SIDE)
def test_its_mac_is_the_routers(routed_lab: Lab, address: str) -> None:
    routed_lab.exec("c0", "ping", "-c", "1", "-W", "20", address)
    neighbour = routed_lab.exec("c0", "ip", "neigh", "show", address).stdout
    macs = [interface["mac"] for interface in routed_lab.show("routers")[0]["interfaces"]]
    assert any(mac in neighbour for mac in macs)


def test_nothing_else_is_served(routed_lab: Lab) -> None:
    """A connection to it fails at once, and the drop is counted."""
    done = routed_lab.exec("c0", "busybox", "nc", "-w", "2", "10.1.0.1", "80", check=False)
    assert done.returncode != 0
    reasons = eventually(lambda: drops(routed_lab), "the drop to be counted")
    assert ("c0:0", "ROUTER_SERVICE") in reasons


def test_it_answers_with_the_agent_dead(lab: Lab) -> None:
    lab.heddle("up", lab.write(ROUTED))
    lab.kill_agent()
    lab.exec("c0", "ip", "neigh", "flush", "dev", "eth0")
    lab.exec("c0", "ping", "-c", "1", "-W", "20", "10.1.0.1")
    lab.exec("c0", "ping", "-c", "1", "-W", "20", "10.2.0.10")


def drops(lab: Lab) -> set[tuple[str, str]]:
    counts = json.loads(lab.heddle("drops", "--json").stdout)
    return {(count["port"], count["reason"]) for count in counts}
