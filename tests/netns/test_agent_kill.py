"""The agent killed under load: no packet lost, no connection reset, and nothing
rewritten when it is back."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from lab import Lab, eventually
from lab_topologies import ROUTED

from heddle.compiler.state import TABLE_ORDER
from heddle.events.counters import read_ports

TRAFFIC = str(Path(__file__).parent / "traffic.py")
RATE = 1000  # datagrams per second, each way
UDP, TCP = "5001", "5002"
ADDRESS = {"c0": "10.1.0.10", "c1": "10.2.0.10"}
OTHER = {"c0": "c1", "c1": "c0"}

Process = subprocess.Popen[str]


class Load:
    """UDP both ways and a TCP stream between c0 and c1."""

    def __init__(self, lab: Lab, stack: ExitStack) -> None:
        self._lab, self._stack = lab, stack
        self._counters = {name: self._start(name, "count", UDP) for name in ADDRESS}
        self._sink = self._start("c1", "sink", TCP)
        for listener in (*self._counters.values(), self._sink):
            assert listener.stdout is not None
            assert listener.stdout.readline() == "listening\n"
        self._senders = {
            name: self._start(name, "send", ADDRESS[OTHER[name]], UDP, str(RATE))
            for name in ADDRESS
        }
        for sender in self._senders.values():
            assert sender.stdout is not None
            assert sender.stdout.readline() == "sending\n"
        self._stream = self._start("c0", "stream", ADDRESS["c1"], TCP)

    def forwarded(self) -> int:
        """Packets so far, as the data plane counts them."""
        with self._lab.datapath() as datapath:
            return sum(port.to_vm_packets for port in read_ports(datapath).ports.values())

    def stop(self) -> tuple[dict[str, int], dict[str, dict[str, int]], int, int]:
        """Datagrams sent and counted by machine, bytes of the stream sent and taken."""
        sent = {name: int(_end(process)) for name, process in self._senders.items()}
        streamed = int(_end(self._stream))
        taken = int(_end(self._sink))
        came = {name: json.loads(_end(process)) for name, process in self._counters.items()}
        return sent, came, streamed, taken

    def _start(self, machine: str, *words: str) -> Process:
        argv = self._lab.inside(machine, sys.executable, TRAFFIC, *words)
        return self._stack.enter_context(self._lab.background(argv))


def test_nothing_is_lost(lab: Lab) -> None:
    lab.heddle("up", lab.write(ROUTED))
    before = fingerprint(lab)
    with ExitStack() as stack:
        load = Load(lab, stack)
        flows(load)
        lab.kill_agent()
        flows(load)
        lab.heddle("agent", "--detach")
        flows(load)
        assert fingerprint(lab) == before
        sent, came, streamed, taken = load.stop()
    for name, other in OTHER.items():
        assert sent[name] > 0
        assert came[other] == {"came": sent[name], "different": sent[name]}
    assert taken == streamed > 0


def test_restart_rewrites_nothing(lab: Lab) -> None:
    lab.heddle("up", lab.write(ROUTED))
    before = fingerprint(lab)
    lab.kill_agent()
    log = lab.root / "var/lib/heddle/agent.log"
    log.write_text("")
    lab.heddle("agent", "--detach")
    eventually(lambda: lab.show("agent")["revision"] == 1, "the revision to be taken over")
    assert fingerprint(lab) == before
    changes = [line for line in log.read_text().splitlines() if " revision 1: " in line]
    assert changes == [], "the applier changed something"


def flows(load: Load, seconds: float = 1.5) -> None:
    """Wait until as much has gone through as is sent in so long."""
    goal = load.forwarded() + 2 * RATE * seconds
    eventually(lambda: load.forwarded() > goal, "traffic to flow")


def fingerprint(lab: Lab) -> dict[str, object]:
    """Whatever must outlive the agent: links, filters, program, maps, rows."""
    links = {
        link["ifname"]: (link["ifindex"], link["ifalias"], link["mtu"]) for link in lab.links()
    }
    filters = {
        device: lab.run("tc", "filter", "show", "dev", device, "ingress").stdout for device in links
    }
    with lab.datapath() as datapath:
        written = (*TABLE_ORDER, "epochs")  # the others are the data plane's own
        tables = {name: sorted(datapath.table(name).items()) for name in written}
    return {"links": links, "filters": filters, "ids": lab.kernel_ids(), "tables": tables}


def _end(process: Process) -> str:
    """Close its standard input and return what it says; it must end well."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out
