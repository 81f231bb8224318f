"""What a cluster loses when etcd or a host of it fails.

Three hosts and three etcd servers. From a container on one host to one on another,
ping goes each millisecond, and a TCP stream, while

- all of etcd is gone for a minute, and a container asks for its address;
- servers of etcd are killed at random for a minute, one at a time, while
  `heddle apply` makes objects on two hosts at once;
- the third host is cut off, something is wanted of it, and it is healed.

What a command acknowledged must be there at the end, and unique.
"""

from __future__ import annotations

import json
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from bench import cluster_lab, private
from bench.commands import BenchError, progress, run
from bench.product import heddle
from bench.report import Figure, Measured, at_most
from heddle.lab.build import space_of
from heddle.lab.etcd import start_members, stop_member
from heddle.lab.folder import ETCD, LabFolder, plan_of

SECONDS = 60.0  # of each of the two failures of etcd
SERVERS = 3
WRITERS = ("h1", "h2")
_TO = "10.83.2.2"
_PORT = 7000
_HEALED_SECONDS = 60.0
_CUT_SECONDS = 10.0
_TOPOLOGY = f"""\
version: 1
hosts: {{h1: {{}}, h2: {{}}, h3: {{}}}}
networks: {{left: {{cidr: 10.83.1.0/24}}, right: {{cidr: 10.83.2.0/24}}}}
routers: {{main: {{networks: [left, right]}}}}
machines:
  sender: {{kind: container, host: h1, nics: [{{network: left}}]}}
  receiver: {{kind: container, host: h2, nics: [{{network: right, address: {_TO}}}]}}
"""
_MORE = """\
version: 1
networks: {{{name}: {{cidr: 10.84.1.0/24}}}}
machines: {{{name}: {{kind: container, host: {host}, nics: [{{network: {name}}}]}}}}
"""
_SEND = f"""
import select, socket, sys
sender, sent = socket.create_connection(("{_TO}", {_PORT})), 0
while not select.select([sys.stdin], [], [], 0.005)[0]:
    sender.sendall(bytes(65536))
    sent += 65536
sender.close()
print(sent)
"""
_TAKE = f"""
import socket
server, taken = socket.create_server(("", {_PORT})), 0
print("listening", flush=True)
connection, _ = server.accept()
while data := connection.recv(1 << 20):
    taken += len(data)
print(taken)
"""


@dataclass
class Traffic:
    """What came of it, once it has ended."""

    pings: int = 0
    pings_lost: int = 0
    stream_bytes_lost: int = 0


def measure() -> Measured:
    file = private.ROOT / "outage.yaml"
    file.write_text(_TOPOLOGY, encoding="utf-8")
    up = ("lab", "up", str(file), "--name", cluster_lab.LAB, "--etcd-servers", str(SERVERS))
    heddle(*up)
    sender = cluster_lab.borrow_container("h1", "sender")
    receiver = cluster_lab.borrow_container("h2", "receiver")
    run("ip", "netns", "exec", sender, "ping", "-c", "3", "-i", "0.2", _TO)
    with _traffic(sender, receiver) as traffic:
        _lose_etcd(receiver)
        acknowledged = _lose_servers()
        acknowledged.append(_lose_host())
    values = {
        "outage-pings-lost": float(traffic.pings_lost),
        "outage-stream-bytes-lost": float(traffic.stream_bytes_lost),
        "outage-objects-lost": float(_missing(acknowledged)),
    }
    detail = {"pings": float(traffic.pings), "objects acknowledged": float(len(acknowledged))}
    return Measured(values, "", detail)


# ---- failures -----------------------------------------------------------------------


def _lose_etcd(container: str) -> None:
    progress("etcd is gone")
    for number in range(1, SERVERS + 1):
        stop_member(LabFolder(cluster_lab.LAB).etcd, number)
    back_at = time.monotonic() + SECONDS
    dhcp = ("busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-f", "-s", "/bin/true")
    run("ip", "netns", "exec", container, *dhcp)
    time.sleep(max(back_at - time.monotonic(), 0))
    _start_servers()
    _until(lambda: _apply("h1", "after"), "etcd serves again")


def _lose_servers() -> list[str]:
    """Names of the objects that were acknowledged meanwhile."""
    progress("servers of etcd are killed")
    end = time.monotonic() + SECONDS
    with ThreadPoolExecutor(len(WRITERS)) as pool:
        written = [pool.submit(_write, host, end) for host in WRITERS]
        while time.monotonic() < end:
            stop_member(LabFolder(cluster_lab.LAB).etcd, random.randint(1, SERVERS))  # noqa: S311
            time.sleep(random.uniform(0.3, 2))  # noqa: S311
            _start_servers()
            time.sleep(random.uniform(1, 3))  # noqa: S311
        return [name for writer in written for name in writer.result()]


def _lose_host() -> str:
    """What was wanted of it meanwhile is made when it is back."""
    progress("a host is cut off")
    heddle("lab", "cut", "h3", "--name", cluster_lab.LAB)
    time.sleep(_CUT_SECONDS)
    _apply("h1", "late", on="h3", timeout=1)  # it can't be ready yet
    heddle("lab", "heal", "--name", cluster_lab.LAB)
    _until(partial(_is_ready, "late"), "the host that was cut off does what was wanted of it")
    return "late"


def _start_servers() -> None:
    lab = LabFolder(cluster_lab.LAB)
    start_members(space_of(lab, ETCD), lab.etcd, plan_of(lab))


# ---- what operators do --------------------------------------------------------------


def _write(host: str, end: float) -> list[str]:
    names = [f"{host}-{number}" for number in range(1000)]
    acknowledged = []
    while time.monotonic() < end:
        name = names.pop(0)
        if _apply(host, name):
            acknowledged.append(name)
    return acknowledged


def _apply(host: str, name: str, on: str = "", timeout: int = 60) -> bool:
    """Make a network and a machine of this name; whether that was acknowledged."""
    file = private.ROOT / f"{name}.yaml"
    file.write_text(_MORE.format(name=name, host=on or host), encoding="utf-8")
    try:
        _on(host, "apply", str(file), "--timeout", str(timeout))
    except BenchError as error:
        progress(str(error))
        return False
    return True


def _missing(acknowledged: list[str]) -> int:
    """Acknowledged objects that are not there, and numbers that two of them have."""
    networks = _shown("network")
    names = {network["name"] for network in networks} & {one["name"] for one in _shown("machine")}
    numbers = {network["vni"] for network in networks}
    return len(set(acknowledged) - names) + len(networks) - len(numbers)


def _is_ready(machine: str) -> bool:
    found = [one for one in _shown("machine") if one["name"] == machine]
    return bool(found and (found[0].get("status") or {}).get("ready"))


def _shown(kind: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(_on("h1", "show", kind, "--json"))
    return found


def _on(host: str, *argv: str) -> str:
    return heddle("lab", "exec", "--name", cluster_lab.LAB, host, "--", "heddle", *argv)


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _HEALED_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise BenchError(f"not within {_HEALED_SECONDS:.0f} s: {what}")
        time.sleep(0.1)


# ---- traffic ------------------------------------------------------------------------


@contextmanager
def _traffic(sender: str, receiver: str) -> Iterator[Traffic]:
    """Both go on during the block."""
    found = Traffic()
    python = (sys.executable, "-c")
    with _process(receiver, *python, _TAKE) as taker:
        assert taker.stdout is not None
        taker.stdout.readline()  # it listens
        pinging = ("ping", "-q", "-i", "0.001", "-W", "5", _TO)
        with _process(sender, *python, _SEND) as streamer, _process(sender, *pinging) as pinger:
            yield found
            pinger.send_signal(signal.SIGINT)
            _read_pings(pinger.communicate()[0], found)
            sent = int(streamer.communicate("\n")[0])
            found.stream_bytes_lost = sent - int(taker.communicate()[0])


def _read_pings(said: str, found: Traffic) -> None:
    counts = re.search(r"(\d+) packets transmitted, (\d+) received", said)
    if counts is None:
        raise BenchError(f"ping said nothing of what came: {said}")
    found.pings = int(counts[1])
    found.pings_lost = max(int(counts[1]) - int(counts[2]) - 1, 0)  # the last is under way


@contextmanager
def _process(namespace: str, *argv: str) -> Iterator[subprocess.Popen[str]]:
    command = ("ip", "netns", "exec", namespace, *argv)
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


FIGURE = Figure(
    "cluster-outage",
    "etcd gone for a minute, its servers killed for another, a host cut off",
    {
        "outage-pings-lost": at_most(0, "pings, one each millisecond"),
        "outage-stream-bytes-lost": at_most(0, "bytes"),
        "outage-objects-lost": at_most(0, "objects"),
    },
    measure,
    patience=420.0,
)
