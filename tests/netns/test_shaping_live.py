"""Limits of bandwidth on ports that are in use, with an agent."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lab import Lab, eventually

from heddle.events.counters import read_ports
from heddle.intent.names import SHAPER

TRAFFIC = str(Path(__file__).parent / "traffic.py")
UDP, TCP = "5001", "5002"
DATAGRAMS_PER_SECOND = 500

TOPOLOGY = """
version: 1
networks:
  net: {{cidr: 10.7.0.0/24}}
machines:
  a: {{kind: container, nics: [{{network: net, address: 10.7.0.10, port_security: false{a}}}]}}
  b: {{kind: container, nics: [{{network: net, address: 10.7.0.11, port_security: false{b}}}]}}
"""

# More than is sent, so that queues never are full: whatever is lost a change has lost.
FROM_A = ("from_vm: 1gbit", "from_vm: 500mbit, minimum: 5mbit", "")
TO_B = ("to_vm: 1gbit", "to_vm: 500mbit", "")

# Sends datagrams of 1000 bytes for so many seconds, as fast as it can.
BLAST = """
import socket, sys, time
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
end = time.monotonic() + float(sys.argv[3])
while time.monotonic() < end:
    sender.sendto(bytes(1000), (sys.argv[1], int(sys.argv[2])))
"""


def topology(lab: Lab, a: str = "", b: str = "") -> Path:
    rates = {"a": a, "b": b}
    return lab.write(
        TOPOLOGY.format(
            **{name: f", rate: {{{rate}}}" if rate else "" for name, rate in rates.items()}
        )
    )


def forwarded(lab: Lab) -> int:
    with lab.datapath() as datapath:
        return sum(port.to_vm_packets for port in read_ports(datapath).ports.values())


def flows(lab: Lab, packets: int) -> None:
    goal = forwarded(lab) + packets
    eventually(lambda: forwarded(lab) > goal, "traffic to flow")


@contextmanager
def program(lab: Lab, machine: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    with lab.background(lab.inside(machine, sys.executable, TRAFFIC, *words)) as process:
        yield process


def end(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


def test_limits_come_change_and_go_without_loss(lab: Lab) -> None:
    lab.heddle("up", topology(lab))
    with ExitStack() as stack:
        counter = stack.enter_context(program(lab, "b", "count", UDP))
        sink = stack.enter_context(program(lab, "b", "sink", TCP))
        for listener in (counter, sink):
            assert listener.stdout is not None
            assert listener.stdout.readline() == "listening\n"
        words = ("send", "10.7.0.11", UDP, str(DATAGRAMS_PER_SECOND))
        sender = stack.enter_context(program(lab, "a", *words))
        assert sender.stdout is not None
        assert sender.stdout.readline() == "sending\n"
        stream = stack.enter_context(program(lab, "a", "stream", "10.7.0.11", TCP))
        flows(lab, DATAGRAMS_PER_SECOND)
        for a, b in zip(FROM_A, TO_B, strict=True):
            lab.heddle("up", topology(lab, a=a, b=b))
            flows(lab, DATAGRAMS_PER_SECOND // 2)
        sent, streamed = int(end(sender)), int(end(stream))
        assert int(end(sink)) == streamed > 0
        assert json.loads(end(counter)) == {"came": sent, "different": sent}
    assert lab.show("agent")["pending"] == {}
    assert SHAPER not in {link["ifname"] for link in lab.links()}


def test_a_port_gets_no_more_than_its_burst_and_its_rate(lab: Lab) -> None:
    for a, b in (("from_vm: 2mbit", ""), ("", "to_vm: 2mbit")):
        lab.heddle("up", topology(lab, a=a, b=b))
        lab.exec("a", "ping", "-c", "1", "-W", "20", "10.7.0.11")
        before = received(lab)
        lab.exec("a", sys.executable, "-c", BLAST, "10.7.0.11", "9", "2")
        # 72 KiB at once, 250 kB in each second; this may run late, but not by 8 s.
        assert 250_000 < received(lab) - before < 73_728 + 250_000 * 10


def received(lab: Lab) -> int:
    """Bytes that have come to b."""
    path = "/sys/class/net/eth0/statistics/rx_bytes"
    return int(lab.exec("b", "cat", path).stdout)


def test_a_deleted_limit_comes_back(lab: Lab) -> None:
    lab.heddle("up", topology(lab, a=FROM_A[0], b=TO_B[0]))
    before = limits(lab)
    lab.run("tc", "qdisc", "delete", "dev", lab.device("b:0"), "root")
    (of_a,) = re.findall(r"class htb (\S+) parent 1:ffff", before)
    lab.run("tc", "class", "change", "dev", SHAPER, "classid", of_a, "htb", "rate", "1gbit")
    eventually(lambda: limits(lab) == before, "the limits to come back")
    eventually(lambda: lab.show("agent")["repaired"] >= 2, "reports")


def limits(lab: Lab) -> str:
    devices = (lab.device("a:0"), lab.device("b:0"), SHAPER)
    return "".join(lab.run("tc", "class", "show", "dev", device).stdout for device in devices)


def test_a_wrong_setting_of_the_host_is_told(lab: Lab) -> None:
    folder = lab.root / "etc/heddle"
    folder.mkdir(parents=True)
    (folder / "heddle.toml").write_text('capacity = "fast"\n')
    done = lab.heddle("up", topology(lab), check=False)
    assert done.returncode != 0
    assert "heddle.toml: capacity:" in done.stderr
    (folder / "heddle.toml").write_text('capacity = "1gbit"\n')
    lab.heddle("up", topology(lab, a=FROM_A[0]))
    assert "class htb 1:ffff root rate 1Gbit ceil 1Gbit" in limits(lab)


def test_down_leaves_nothing(lab: Lab) -> None:
    file = topology(lab, a=FROM_A[0], b=TO_B[0])
    lab.heddle("up", file)
    lab.heddle("down", file)
    assert lab.leftovers() == []
