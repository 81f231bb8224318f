"""A private host with containers behind security groups, and what asks whether
they can reach each other."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path
from subprocess import Popen
from typing import Any

from lab import Lab, eventually

from heddle.datapath.flows import read_connections
from heddle.events.counters import read_drops
from heddle.store.reader import read_revision

TRAFFIC = str(Path(__file__).parent / "traffic.py")
ADDRESS = {
    "a": ("10.1.0.10", "fd00:1::10"),
    "b": ("10.1.0.11", "fd00:1::11"),
    "c": ("10.2.0.10", "fd00:2::10"),
}
_NETWORK = {"a": "web", "b": "web", "c": "db"}

_TOPOLOGY = """
version: 1
networks:
  web: {cidr: [10.1.0.0/24, {cidr: "fd00:1::/64", ipv6_mode: dhcpv6-stateful}]}
  db: {cidr: [10.2.0.0/24, {cidr: "fd00:2::/64", ipv6_mode: dhcpv6-stateful}]}
routers:
  main: {networks: [web, db]}
"""

# A TCP connection: "connected" when it is, then a line back for each that it sends.
_CONNECT = """
import socket, sys
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])))
print("connected", flush=True)
words = connection.makefile("rw")
for line in sys.stdin:
    words.write(line)
    words.flush()
    print(words.readline(), end="", flush=True)
"""

# Serves TCP ports, each connection echoed until it ends.
_SERVE = """
import socket, socketserver, sys, threading
class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line)
class Server(socketserver.ThreadingTCPServer):
    daemon_threads, allow_reuse_address, address_family = True, True, socket.AF_INET6
for port in sys.argv[1:]:
    threading.Thread(target=Server(("::", int(port)), Echo).serve_forever, daemon=True).start()
print("listening", flush=True)
sys.stdin.read()
"""


def topology(groups: str = "", **nics: str) -> str:
    """The file, with ``security_groups:`` and others given, and more keys of a
    machine's NIC, such as ``a="security_groups: [web]"``."""
    lines = [_TOPOLOGY, groups, "machines:"]
    for name, addresses in ADDRESS.items():
        more = f", {nics[name]}" if name in nics else ""
        nic = f'{{network: {_NETWORK[name]}, address: ["{addresses[0]}", "{addresses[1]}"]{more}}}'
        lines.append(f"  {name}: {{kind: container, nics: [{nic}]}}")
    return "\n".join(lines) + "\n"


class PolicyHost:
    """The lab, and questions to it."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def apply(self, groups: str = "", **nics: str) -> None:
        """Change the policy; the containers stay."""
        self.lab.heddle("apply", self.lab.write(topology(groups, **nics)))

    @cached_property
    def _ifindexes(self) -> dict[str, int]:
        """By machine; each has one NIC."""
        ports = self.lab.show("ports")
        return {port["name"].split("/")[0]: port["status"]["ifindex"] for port in ports}

    @contextmanager
    def without_agent(self) -> Iterator[None]:
        """The agent is killed, and started again after the block."""
        self.lab.kill_agent()
        try:
            yield
        finally:
            self.lab.heddle("agent", "--detach")

    @contextmanager
    def killed_amid(self, groups: str, **nics: str) -> Iterator[None]:
        """The agent is killed as soon as this policy is stored, and is started
        again after the block."""
        file, before = self.lab.write(topology(groups, **nics)), self.revision()
        command = (sys.executable, "-m", "heddle.cli.main", "apply", str(file))
        with self.lab.background(self.lab.command(*command)):
            eventually(lambda: self.revision() > before, "the change to be stored")
            with self.without_agent():
                yield

    def revision(self) -> int:
        """Of the stored intent, carried out or not."""
        return read_revision(self.lab.root / "var/lib/heddle/store.sqlite")

    def drops(self, machine: str, reason: str) -> int:
        """Packets that were dropped for a reason at a machine's port."""
        ifindex = self._ifindexes[machine]
        with self.lab.datapath() as datapath:
            counts = read_drops(datapath)
        return sum(c.packets for c in counts if (c.ifindex, c.reason) == (ifindex, reason))

    def trace(self, *words: str) -> dict[str, Any]:
        """What ``heddle trace`` reports."""
        report: dict[str, Any] = json.loads(self.lab.heddle("trace", *words, "--json").stdout)
        return report

    def await_packets(self, address: str, *ports: int, packets: int = 100) -> None:
        """Wait until the flows to these ports have each carried so many more."""
        before = self._carried(address)
        for port in ports:
            goal = before[port] + packets
            eventually(lambda: self._carried(address)[port] > goal, f"traffic to {port}")  # noqa: B023

    def _carried(self, address: str) -> Counter[int]:
        """Packets by destination port, of flows to an address."""
        raw = ip_address("::ffff:" + address).packed
        carried: Counter[int] = Counter()
        with self.lab.datapath() as datapath:
            for connection in read_connections(datapath):
                if connection.destination == raw:
                    carried[connection.destination_port] += connection.packets
        return carried

    def flows(self, *words: str) -> list[dict[str, Any]]:
        """What ``heddle show flows`` lists."""
        found: list[dict[str, Any]] = self.lab.show("flows", *words)
        return found

    def ping(self, source: str, address: str, *options: str) -> None:
        """It must be answered."""
        self.lab.exec(source, "ping", "-c", "1", "-W", "30", *options, address)

    def may_not_ping(
        self, machine: str, address: str, *, at: str, reason: str = "POLICY_TO_VM"
    ) -> None:
        """The echo request must be dropped for that reason at that machine's port."""
        before = self.drops(at, reason)
        with self.lab.background(self.lab.inside(machine, "ping", "-c", "1", address)):
            eventually(lambda: self.drops(at, reason) > before, f"{reason} at {at}")

    @contextmanager
    def serving(self, machine: str, *ports: int) -> Iterator[None]:
        """TCP servers in a container."""
        with self._program(machine, _SERVE, *map(str, ports)) as server:
            assert read_line(server) == "listening"
            yield

    @contextmanager
    def connecting(self, machine: str, address: str, port: int) -> Iterator[Popen[str]]:
        """A container tries to connect; ``connected`` is the first line then."""
        with self._program(machine, _CONNECT, address, str(port)) as client:
            yield client

    def connects(self, machine: str, address: str, port: int) -> None:
        """It must work, both ways."""
        with self.connecting(machine, address, port) as client:
            assert read_line(client) == "connected"
            assert echoed(client, "hello")

    def may_not_connect(
        self, machine: str, address: str, port: int, *, at: str, reason: str = "POLICY_TO_VM"
    ) -> None:
        """The SYN must be dropped for that reason at that port."""
        before = self.drops(at, reason)
        with self.connecting(machine, address, port):
            eventually(lambda: self.drops(at, reason) > before, f"{reason} at {at}")

    @contextmanager
    def _program(self, machine: str, text: str, *words: str) -> Iterator[Popen[str]]:
        argv = self.lab.inside(machine, sys.executable, "-c", text, *words)
        with self.lab.background(argv) as process:
            yield process


def echoed(client: Popen[str], word: str) -> bool:
    """Whether a word comes back over a connection."""
    assert client.stdin is not None
    client.stdin.write(word + "\n")
    client.stdin.flush()
    return read_line(client) == word


def read_line(process: Popen[str]) -> str:
    """What a program says next; it fails when that is nothing."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.stderr.read() if process.stderr else "ended"
    return line.strip()


class Datagrams:
    """Numbered UDP datagrams from one container to a port of another."""

    RATE = 500  # per second

    def __init__(self, lab: Lab, stack: ExitStack, source: str, target: str, port: int) -> None:
        self._counter = stack.enter_context(
            lab.background(lab.inside(target, sys.executable, TRAFFIC, "count", str(port)))
        )
        assert read_line(self._counter) == "listening"
        words = ("send", ADDRESS[target][0], str(port), str(self.RATE))
        self._sender = stack.enter_context(
            lab.background(lab.inside(source, sys.executable, TRAFFIC, *words))
        )
        assert read_line(self._sender) == "sending"

    def stop(self) -> tuple[int, int]:
        """How many were sent, and how many came."""
        sent = int(finish(self._sender))
        came: dict[str, int] = json.loads(finish(self._counter))
        assert came["came"] == came["different"]
        return sent, came["came"]


class Stream:
    """A TCP stream from one container to a port of another."""

    def __init__(self, lab: Lab, stack: ExitStack, source: str, target: str, port: int) -> None:
        self._sink = stack.enter_context(
            lab.background(lab.inside(target, sys.executable, TRAFFIC, "sink", str(port)))
        )
        assert read_line(self._sink) == "listening"
        words = ("stream", ADDRESS[target][0], str(port))
        self._stream = stack.enter_context(
            lab.background(lab.inside(source, sys.executable, TRAFFIC, *words))
        )

    def stop(self) -> tuple[int, int]:
        """Bytes sent and taken; no reset came in between."""
        return int(finish(self._stream)), int(finish(self._sink))


def finish(process: Popen[str]) -> str:
    """Close its standard input and return what it says; it must end well."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out
