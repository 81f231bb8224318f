"""The flow table as commands show it: connections, limits, and a full table."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from lab import Lab, eventually

from heddle.datapath.abi import Abi
from heddle.datapath.loader import OBJECT

LIMIT = 20
CAPACITY = Abi.from_object(OBJECT).value("FLOWS_MAX") // 2
LIMITED = f"""
version: 1
networks:
  one: {{cidr: 10.1.0.0/24}}
machines:
  c0:
    kind: container
    nics: [{{network: one, address: 10.1.0.10, connections: {LIMIT}}}]
  c1: {{kind: container, nics: [{{network: one, address: 10.1.0.11}}]}}
"""

# Connections that stay: near the limit, what is not established ends early.
SERVE = """
import socket, sys
server = socket.create_server(("", 1000), backlog=100)
print("listening", flush=True)
held = []
while True:
    held.append(server.accept())
"""
CONNECT = """
import socket, sys
held = [socket.create_connection((sys.argv[1], 1000)) for _ in range(int(sys.argv[2]))]
print("connected", flush=True)
sys.stdin.read()
"""
# Datagrams to so many ports.
OPEN = """
import socket, sys
sender = socket.socket(type=socket.SOCK_DGRAM)
for port in range(int(sys.argv[2])):
    sender.sendto(b"?", (sys.argv[1], 1000 + port))
"""
MADE = 10_000  # connections, more than one batch of the table


@pytest.fixture(scope="module")
def limited_lab(module_lab: Lab) -> Lab:
    module_lab.heddle("up", module_lab.write(LIMITED))
    return module_lab


@pytest.fixture(scope="module")
def at_its_limit(limited_lab: Lab) -> Iterator[Lab]:
    """With all connections that c0 may have."""
    lab = limited_lab
    connect = (sys.executable, "-c", CONNECT, "10.1.0.11", str(LIMIT))
    with lab.background(lab.inside("c1", sys.executable, "-c", SERVE)) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "listening\n"
        with lab.background(lab.inside("c0", *connect)) as client:
            assert client.stdout is not None
            assert client.stdout.readline() == "connected\n"
            yield lab


# ---- one port ---------------------------------------------------------------------


def test_a_port_at_its_limit_is_said_everywhere(at_its_limit: Lab) -> None:
    """And what it opens beyond that is dropped, for that reason."""
    lab = at_its_limit
    lab.exec("c0", sys.executable, "-c", OPEN, "10.1.0.11", "5")
    trouble = f"c0:0 has all the {LIMIT} connections it may have"
    assert lab.show("port", "c0/one")["connections"] == {"used": LIMIT, "limit": LIMIT}
    assert lab.show("port", "c1/one")["connections"] == {"used": 0, "limit": CAPACITY - LIMIT}
    assert re.search(rf"^c0:0 .* {LIMIT}/{LIMIT} ", lab.heddle("show", "port").stdout, re.MULTILINE)
    overview = lab.heddle("show").stdout.splitlines()
    line = overview.index(f"flow table: {LIMIT} of {CAPACITY} connections in use")
    assert overview[line + 1] == f"  {trouble}"
    assert lab.show()["flow_table"]["troubles"] == [trouble]
    doctor = lab.heddle("doctor", check=False)
    assert re.search(rf"^flow table +full +{trouble}$", doctor.stdout, re.MULTILINE)
    assert doctor.returncode == 1
    rows = json.loads(lab.heddle("top", "--json").stdout)
    used = {row["port"]: (row["connections"], row["connections_limit"]) for row in rows}
    assert used == {"c0:0": (LIMIT, LIMIT), "c1:0": (0, CAPACITY - LIMIT)}
    text = lab.heddle("top", "--once").stdout
    assert re.search(rf"^c0:0 .* {LIMIT}/{LIMIT}$", text, re.MULTILINE)
    drops = {row["reason"]: row for row in json.loads(lab.heddle("drops", "--json").stdout)}
    assert (drops["CONNECTION_LIMIT"]["port"], drops["CONNECTION_LIMIT"]["packets"]) == ("c0:0", 5)
    report = json.loads(lab.heddle("trace", "c0", "c1", "--tcp", "80", "--json").stdout)
    assert (report["reason"], report["port"]) == ("CONNECTION_LIMIT", "c0:0")


def test_flows_of_a_port(at_its_limit: Lab) -> None:
    """By machine, NIC or name of the port; the other end has them as well."""
    for name in ("c0", "c0:0", "c0/one", "c1"):
        assert len(at_its_limit.show("flows", name)) == LIMIT
        assert len(at_its_limit.show("flows", "--port", name)) == LIMIT
    done = at_its_limit.heddle("show", "flows", "c9", check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("heddle: no port 'c9'; there is: c0/one, c1/one")


def test_a_flow_in_a_table(at_its_limit: Lab) -> None:
    table = at_its_limit.heddle("show", "flows").stdout
    assert re.search(
        r"^c0:0 +c1:0 +tcp +10\.1\.0\.10:\d+ +10\.1\.0\.11:1000 +established +[\d.]+s +[\d.]+s "
        r"+\d+\+\d+ +\d+\+\d+ +default from_vm to 0\.0\.0\.0/0 "
        r"+default to_vm ipv4 from group default$",
        table,
        re.MULTILINE,
    )
    assert len(table.splitlines()) == 1 + LIMIT


# ---- all of them ------------------------------------------------------------------


@pytest.fixture
def many(limited_lab: Lab) -> Iterator[Lab]:
    """With thousands of connections in the table, written there by the test."""
    with limited_lab.datapath() as datapath:
        flow_key, flow = datapath.abi.codec("flow_key"), datapath.abi.codec("flow")
        roles = datapath.abi.enum("flow_role")
        one, other = (limited_lab.show("port", f"{name}/one") for name in ("c0", "c1"))
        here, there = (port["status"]["ifindex"] for port in (one, other))
        entries = []
        for number in range(MADE):
            a, b = ipv4(number), ipv4(1 << 24 | number)
            opener = {"ifindex": here, "source": a, "destination": b, "l4_protocol": 47}
            reply = {"ifindex": there, "source": b, "destination": a, "l4_protocol": 47}
            for key, role, to in ((opener, "OPENER", there), (reply, "REPLY", here)):
                value = {"ifindex": to, "other_ifindex": to, "role": roles[f"FLOW_{role}"]}
                row = {**value, "packets": number, "bytes": 100 * number}
                entries.append((flow_key.pack(key), flow.pack(row)))
        flows = datapath.table("flows")
        flows.put_many(entries)
        yield limited_lab
        flows.delete_many(key for key, _ in entries)


def ipv4(number: int) -> bytes:
    return bytes(10) + b"\xff\xff" + (10 << 24 | number).to_bytes(4, "big")


def test_all_flows_are_listed(many: Lab) -> None:
    found = [flow for flow in many.show("flows") if flow["protocol"] == "gre"]
    assert {flow["source"] for flow in found} == {text(number) for number in range(MADE)}
    assert all(flow["reply_bytes"] == 100 * flow["packets"] for flow in found)
    listed = many.heddle("show", "flows", "c1").stdout.splitlines()
    assert sum(" gre " in line for line in listed) == MADE


def text(number: int) -> str:
    return ".".join(map(str, (10, number >> 16, number >> 8 & 255, number & 255)))


def test_a_terminal_shows_the_busiest(many: Lab) -> None:
    lines = on_a_terminal(many, "show", "flows").replace("\r\n", "\n").splitlines()
    assert len(lines) < 24
    assert lines[0].startswith("FROM ")
    assert f" {text(MADE - 1)} " in lines[1]
    assert re.match(rf"\d+ connections; here are the {len(lines) - 2} with most bytes", lines[-1])


def on_a_terminal(lab: Lab, *words: str) -> str:
    """What a command prints there, of 24 lines."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 200))
    argv = lab.command(sys.executable, "-m", "heddle.cli.main", *words)
    environment = {k: v for k, v in lab.environment.items() if k not in ("LINES", "COLUMNS")}
    with subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs, env=environment):
        os.close(theirs)
        said = b"".join(iter(lambda: _read(ours), b""))
    os.close(ours)
    return said.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # EIO: the other end is closed
        return b""


# ---- a full table -----------------------------------------------------------------


@contextmanager
def full_table(lab: Lab) -> Iterator[None]:
    """The data plane is told that so many are in use."""
    with lab.datapath() as datapath:
        usage, codec = datapath.table("total_usage"), datapath.abi.codec("port_usage")

        def add(connections: int) -> None:
            now = codec.unpack(usage.get(bytes(4)) or bytes(codec.size))
            usage.put(
                bytes(4), codec.pack({**now, "connections": now["connections"] + connections})
            )

        add(CAPACITY)
        try:
            yield
        finally:
            add(-CAPACITY)


def test_a_full_table_is_said_everywhere(limited_lab: Lab) -> None:
    said = "the flow table is full"
    with full_table(limited_lab):
        assert said in limited_lab.heddle("show").stdout
        assert said in limited_lab.heddle("top", "--once").stdout
        assert said in limited_lab.heddle("doctor", check=False).stdout
        assert limited_lab.show("port", "c1/one")["connections"]["limit"] == 0
        report = json.loads(limited_lab.heddle("trace", "c1", "c0", "--json").stdout)
        assert report["reason"] == "CONNECTION_LIMIT"
        limited_lab.exec("c1", sys.executable, "-c", OPEN, "10.1.0.10", "3")
        eventually(lambda: refused(limited_lab) == 3, "the drops to be counted")
    assert said not in limited_lab.heddle("show").stdout


def refused(lab: Lab) -> int:
    rows = json.loads(lab.heddle("drops", "--port", "c1", "--json").stdout)
    return sum(row["packets"] for row in rows if row["reason"] == "CONNECTION_LIMIT")
