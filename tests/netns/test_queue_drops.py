"""What the queues of bandwidth limits drop has a name and a port, too."""

from __future__ import annotations

import json
import sys

import pytest
from lab import Lab

TOPOLOGY = """
version: 1
networks:
  one: {cidr: 10.1.0.0/24}
machines:
  slow:
    kind: container
    nics: [{network: one, address: 10.1.0.10, rate: {from_vm: 1mbit, to_vm: 1mbit}}]
  fast: {kind: container, nics: [{network: one, address: 10.1.0.11}]}
"""
DATAGRAMS = 400  # of 1 KB, far more than burst and queue hold
SEND = f"""
import socket, sys
sender = socket.socket(type=socket.SOCK_DGRAM)
for number in range({DATAGRAMS}):
    sender.sendto(bytes(1000), (sys.argv[1], 9))
"""


@pytest.fixture(scope="module")
def slow_lab(module_lab: Lab) -> Lab:
    module_lab.heddle("up", module_lab.write(TOPOLOGY))
    return module_lab


@pytest.mark.parametrize(
    ("sender", "target", "reason"),
    [
        ("slow", "10.1.0.11", "BANDWIDTH_FROM_VM"),
        ("fast", "10.1.0.10", "BANDWIDTH_TO_VM"),
    ],
)
def test_a_full_queue_is_told_as_a_drop(
    slow_lab: Lab, sender: str, target: str, reason: str
) -> None:
    slow_lab.exec(sender, sys.executable, "-c", SEND, target)
    drops = json.loads(slow_lab.heddle("drops", "--json").stdout)
    (found,) = [drop for drop in drops if drop["reason"] == reason]
    assert found["port"] == "slow:0"
    assert found["direction"] == reason.removeprefix("BANDWIDTH_").lower()
    assert found["bytes"] is None
    assert 0 < found["packets"] < DATAGRAMS
    assert reason in slow_lab.heddle("drops").stdout
