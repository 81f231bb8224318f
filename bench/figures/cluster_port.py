"""A new port on one host: from its commit until the first packet from another
host comes out of its TAP.

A container on the other host sends a datagram to the coming port's address each
millisecond; until there is such a port, they are dropped.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import bench
from bench import cluster_lab
from bench.cluster_ports import SENDER, SENDER_HOST
from bench.commands import BenchError
from bench.ports import another_address
from bench.product import HEDDLE
from bench.report import Figure, Measured, at_most

PORTS = 1000
ADDED = 100
_PATIENCE = 30.0
_CHECKOUT = Path(bench.__file__).parent.parent
_SEND = """
import select, socket, sys
sender = socket.socket(type=socket.SOCK_DGRAM)
address = sys.stdin.readline().strip()
while address:
    if select.select([sys.stdin], [], [], 0.001)[0]:
        address = sys.stdin.readline().strip()
    else:
        try:
            sender.sendto(bytes(64), (address, 9))
        except OSError:
            pass  # the network says that there is no such port yet
"""


def measure() -> Measured:
    cluster_lab.start()
    module = (sys.executable, "-m", "bench.cluster_ports", str(PORTS))
    on_host = ("lab", "exec", "h1", "--", "env", f"PYTHONPATH={_CHECKOUT}")
    operator = _python(str(HEDDLE), *on_host, *module)
    try:
        if _answer(operator) != "loaded":
            raise BenchError("the ports could not be loaded")
        sender = _python("ip", "netns", "exec", _sender_namespace(), sys.executable, "-c", _SEND)
        try:
            milliseconds = [_add(operator, sender, number) for number in range(ADDED)]
        finally:
            _end(sender)
    finally:
        _end(operator)
    milliseconds.sort()
    slowest = milliseconds[-1 - ADDED // 100]
    detail = {"median": milliseconds[ADDED // 2], "99 of 100": slowest}
    return Measured({"new-port-first-packet": slowest}, "ms", detail)


def _add(operator: subprocess.Popen[str], sender: subprocess.Popen[str], number: int) -> float:
    """Milliseconds until the new port's first datagram."""
    _say(sender, another_address(number))
    _say(operator, "")
    address, milliseconds = _answer(operator).split()
    if address != another_address(number):
        raise BenchError(f"the new port is {address}, datagrams went to {another_address(number)}")
    return float(milliseconds)


def _sender_namespace() -> str:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return cluster_lab.borrow_container(SENDER_HOST, SENDER)
        except BenchError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _python(*argv: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True)


def _say(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def _answer(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()


FIGURE = Figure(
    "cluster-port",
    "A new port among 1,000, until the first packet from another host",
    {"new-port-first-packet": at_most(100, "ms, 99 of 100")},
    measure,
)
