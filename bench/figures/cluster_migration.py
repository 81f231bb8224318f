"""Live migration of an emulated VM between two hosts, to which a container on a third
host sends a numbered datagram each millisecond.

What the hypervisor and the emulated guest take is not counted: only when, after the VM
goes on, the next datagram is given to its TAP, and which are given to neither host's.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import bench
from bench import private
from bench.commands import BenchError
from bench.figures.vms import prepare
from bench.product import HEDDLE, heddle
from bench.report import Figure, Measured, at_most
from bench.tap_watch import MARK
from heddle.intent.names import tap_name

ROUNDS = 5
LAB = "moves"
_ADDRESS = "10.89.0.2"
_SETTLED_SECONDS = 60.0
_AFTERWARDS = 1.0  # s, for which datagrams go on being sent
_CHECKOUT = Path(bench.__file__).parent.parent
_NS_PER_MS = 1e6

_TOPOLOGY = f"""\
version: 1
hosts: {{h1: {{}}, h2: {{}}, h3: {{vtep: 198.18.0.33}}}}
networks: {{wide: {{cidr: 10.89.0.0/24}}}}
security_groups: {{open: [{{direction: from_vm}}, {{direction: to_vm}}]}}
machines:
  mover: {{kind: vm, host: h1, memory: 128M, nics: [
    {{network: wide, address: {_ADDRESS}, security_groups: [open]}}]}}
  sender: {{kind: container, host: h3, nics: [{{network: wide, security_groups: [open]}}]}}
"""
_DIRECT_FROM = "198.18.0.33"
_SEND = f"""
import select, socket, sys, time
sender = socket.socket(type=socket.SOCK_DGRAM)
number, began = 0, time.monotonic()
while not select.select([sys.stdin], [], [], max(began + number / 1000 - time.monotonic(), 0))[0]:
    sender.sendto({MARK!r} + number.to_bytes(8, "big"), ("{_ADDRESS}", 9))
    number += 1
"""


class Move(NamedTuple):
    """One migration; ms, and numbers of datagrams."""

    traffic: float  # from the VM's resumption until the next datagram was given to it
    direct: float  # until one came straight from the sender's host
    relayed_before: float  # since when, before that, datagrams waited at the new TAP
    lost: int  # given to neither TAP


def measure() -> Measured:
    private.borrow_images()
    file = private.ROOT / f"{LAB}.yaml"
    file.write_text(_TOPOLOGY, encoding="utf-8")
    heddle("lab", "up", str(file), "--name", LAB)
    (port,) = [p for p in _show("port") if p["fixed_ips"][0]["ip"] == _ADDRESS]
    moves = [_move(tap_name(port["id"])) for _ in range(ROUNDS)]
    detail = {
        "until traffic, median": sorted(move.traffic for move in moves)[ROUNDS // 2],
        "until it comes direct, worst": max(move.direct for move in moves),
        "relayed before, least": min(move.relayed_before for move in moves),
    }
    values = {
        "migration-until-traffic": max(move.traffic for move in moves),
        "migration-lost-between-hosts": float(sum(move.lost for move in moves)),
    }
    return Measured(values, "ms", detail)


def _move(device: str) -> Move:
    """To the other host, and what was seen meanwhile."""
    machine = _settled()
    here = machine["host"]
    there = {"h1": "h2", "h2": "h1"}[here]
    with ExitStack() as stack:
        source, target = (
            stack.enter_context(_watching(host, device, machine["id"])) for host in (here, there)
        )
        in_sender = ("ip", "netns", "exec", "heddle-sender", sys.executable, "-c", _SEND)
        sender = stack.enter_context(_running("h3", *in_sender))
        heddle("lab", "exec", here, "--", "heddle", "migrate", "mover", there)
        time.sleep(_AFTERWARDS)
        _ended(sender)
        return _evaluated(json.loads(_ended(source)), json.loads(_ended(target)))


def _evaluated(source: dict[str, Any], target: dict[str, Any]) -> Move:
    resumed = target["resumed"]
    given = sorted(at for _, at in target["delivered"])
    direct = [at for _, at in target["direct"] if at >= resumed]
    traffic = [at for at in given if at >= resumed]
    if resumed is None or not traffic or not direct:
        raise BenchError("no traffic came to the VM on its new host")
    numbers = sorted({number for number, _ in source["delivered"] + target["delivered"]})
    lost = sum(after - before - 1 for before, after in pairwise(numbers)) + target["dropped"]
    return Move(
        (traffic[0] - resumed) / _NS_PER_MS,
        (direct[0] - resumed) / _NS_PER_MS,
        (resumed - given[0]) / _NS_PER_MS,
        lost,
    )


def _show(kind: str) -> list[dict[str, Any]]:
    told = heddle("lab", "exec", "h3", "--", "heddle", "show", kind, "--json")
    found: list[dict[str, Any]] = json.loads(told)
    return found


def _settled() -> dict[str, Any]:
    """The VM, once nothing is left of an earlier migration."""
    deadline = time.monotonic() + _SETTLED_SECONDS
    while time.monotonic() < deadline:
        (machine,) = [m for m in _show("machine") if m["name"] == "mover"]
        if machine["status"]["ready"] and not machine["moved_from"]:
            return machine
        time.sleep(0.2)
    raise BenchError("the VM does not get ready")


@contextmanager
def _watching(host: str, device: str, machine_id: str) -> Iterator[subprocess.Popen[str]]:
    argv = (sys.executable, "-m", "bench.tap_watch", device, machine_id, _DIRECT_FROM)
    with _running(host, "env", f"PYTHONPATH={_CHECKOUT}", *argv) as watch:
        assert watch.stdout is not None
        if watch.stdout.readline() != "watching\n":
            raise BenchError(f"host {host} can't be watched")
        yield watch


@contextmanager
def _running(host: str, *argv: str) -> Iterator[subprocess.Popen[str]]:
    pipe = subprocess.PIPE
    command = (str(HEDDLE), "lab", "exec", host, "--", *argv)
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _ended(process: subprocess.Popen[str]) -> str:
    """What it says once its standard input ends."""
    return process.communicate()[0]


FIGURE = Figure(
    "cluster-migration",
    "Live migration of a VM under traffic from a third host",
    {
        "migration-until-traffic": at_most(10, "ms, worst of five"),
        "migration-lost-between-hosts": at_most(0, "datagrams"),
    },
    measure,
    prepare,
    patience=600,
)
