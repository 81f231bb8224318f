"""The agents of many simulated hosts, a few processes of them, from outside."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import bench
from bench import private
from bench.cluster_plan import host_name
from bench.commands import BenchError, progress
from bench.figures.scale import resident_megabytes

PROCESSES = 6  # an interpreter's lock is shared by no more agents than it must
_CHECKOUT = Path(bench.__file__).parent.parent


class Done(NamedTuple):
    """What an agent has carried out last."""

    what: str
    revision: int
    at: float  # seconds of CLOCK_MONOTONIC


class Agents:
    """So many hosts, from number 0 on."""

    def __init__(self, count: int) -> None:
        self.hosts = [host_name(number) for number in range(count)]
        self.done: dict[str, Done] = {}
        self.told = 0  # things, all together
        self._heard = threading.Condition()
        self._processes: list[subprocess.Popen[str]] = []
        self._empty = 0.0

    def start(self) -> float:
        """Seconds until all have carried out what the store holds for them."""
        each = -(-len(self.hosts) // PROCESSES)
        for first in range(0, len(self.hosts), each):
            count = min(each, len(self.hosts) - first)
            argv = [sys.executable, "-m", "bench.cluster_agent", str(first), str(count)]
            process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=_CHECKOUT)
            self._processes.append(process)
            threading.Thread(target=self._listen, args=(process,), daemon=True).start()
        began = time.monotonic()
        self.wait(self.hosts, lambda done: done.what == "ready", 300)
        return time.monotonic() - began

    def kill(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()

    def wait(self, hosts: Collection[str], test: Callable[[Done], bool], seconds: float) -> float:
        """When the last of the hosts had done what is waited for."""
        waiting = set(hosts)
        deadline = time.monotonic() + seconds
        with self._heard:
            while True:
                waiting = {h for h in waiting if h not in self.done or not test(self.done[h])}
                if not waiting:
                    return max(self.done[host].at for host in hosts)
                left = deadline - time.monotonic()
                if left <= 0:
                    raise BenchError(
                        f"{len(waiting)} of {len(hosts)} agents are late, "
                        f"{min(waiting)} last did {self.done.get(min(waiting))}"
                    )
                self._heard.wait(left)

    def wait_for_revision(self, hosts: Collection[str], revision: int, seconds: float) -> float:
        return self.wait(hosts, lambda done: done.revision >= revision, seconds)

    def cpu_seconds(self) -> float:
        return sum(private.cpu_seconds(process.pid) for process in self._processes)

    def megabytes(self) -> float:
        """Resident memory of an agent beyond that of a process without any."""
        held = sum(resident_megabytes(process.pid) for process in self._processes)
        return (held - self._empty) / len(self.hosts)

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            words = line.split()
            with self._heard:
                if words == ["started"]:
                    self._empty += resident_megabytes(process.pid)
                elif len(words) == 4:  # less is the last word of one that was killed
                    host, what, revision, at = words
                    self.done[host] = Done(what, int(revision), float(at))
                    self.told += 1
                self._heard.notify_all()


@contextmanager
def running_agents(count: int) -> Iterator[Agents]:
    agents = Agents(count)
    try:
        seconds = agents.start()
        progress(f"{count} agents have begun within {seconds:.0f} s")
        yield agents
    finally:
        agents.kill()
