"""What the queues of bandwidth limits drop has a name and a port, too."""

from __future__ import annotations

import json
import sys

import pytest
from lab import Lab, eventually

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


STOPPED = """
version: 1
networks:
  one: {cidr: 10.1.0.0/24}
machines:
  off: {nics: [{network: one, address: 10.1.0.12}]}
  fast: {kind: container, nics: [{network: one, address: 10.1.0.11}]}
"""


def not_taken(lab: Lab) -> int:
    """Packets counted as such at the stopped machine."""
    drops = json.loads(lab.heddle("drops", "--port", "off", "--json").stdout)
    return sum(drop["packets"] for drop in drops if drop["reason"] == "NOT_TAKEN_TO_VM")


@pytest.fixture
def stopped_lab(lab: Lab) -> Lab:
    """A running container, and a VM that does not run."""
    lab.heddle("up", lab.write(STOPPED.replace("  off:", "  #")))
    lab.heddle("apply", lab.write(STOPPED))
    return lab


def test_what_a_stopped_machine_does_not_take_is_told(stopped_lab: Lab) -> None:
    before = not_taken(stopped_lab)
    stopped_lab.exec("fast", sys.executable, "-c", SEND, "10.1.0.12")
    # The container's own multicast (MLD) may come in between.
    assert 0 <= not_taken(stopped_lab) - before - DATAGRAMS < 20
    told = stopped_lab.heddle("trace", "fast", "off").stdout
    assert "dropped: NOT_TAKEN_TO_VM: off:0, to_vm: the machine does not run" in told
    assert (
        json.loads(stopped_lab.heddle("trace", "fast", "off", "--json").stdout)["port"] == "off:0"
    )


def test_what_a_slow_machine_does_not_take_is_told(stopped_lab: Lab) -> None:
    """Its queue holds 1000 frames (txqueuelen); QEMU holds the TAP but reads nothing."""
    hold = (
        "import sys; from heddle.applier import tap; tap.attach(sys.argv[1]); print(flush=True);"
        "sys.stdin.read()"
    )
    device = stopped_lab.device("off:0")
    argv = stopped_lab.command(sys.executable, "-c", hold, device)
    with stopped_lab.background(argv) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        eventually(lambda: "LOWER_UP" in stopped_lab.run("ip", "link", "show", device).stdout, "up")
        before = not_taken(stopped_lab)
        for _ in range(4):
            stopped_lab.exec("fast", sys.executable, "-c", SEND, "10.1.0.12")
        assert 0 < not_taken(stopped_lab) - before < 4 * DATAGRAMS
