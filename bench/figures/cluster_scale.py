"""What an agent costs in a cluster of 100,000 ports, against one of 100: it
follows what its own 50 ports need, and no more.

The agent is real, as is etcd; its kernel is in memory, and the other hosts are
intent alone.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median

import bench
from bench import private
from bench.cluster_plan import ClusterPlan
from bench.commands import BenchError, progress
from bench.etcd import running_etcd, settings
from bench.figures.scale import resident_megabytes
from bench.report import Figure, Measured, at_most
from heddle.store.etcd.store import EtcdStore
from heddle.store.interface import Transaction

MANY, FEW = 100_000, 100
CHANGES = 30
_AT_ONCE = 2_000  # objects in a commit
_WINDOW = 0.25  # seconds
_CHECKOUT = Path(bench.__file__).parent.parent


@dataclass(frozen=True, slots=True)
class _Cost:
    megabytes: float
    start_ms: float  # of CPU from the start of the process, until all was carried out
    near_ms: float  # of CPU for a port on another host, in a network of ours
    far_ms: float  # the same in a network that is not


def measure() -> Measured:
    few, many = _cost_among(FEW), _cost_among(MANY)
    values = {
        "cluster-agent-memory": many.megabytes / few.megabytes,
        "cluster-agent-start": many.start_ms / few.start_ms,
        "cluster-agent-change": many.near_ms / few.near_ms,
    }
    detail = {}
    for name, cost in ((f"{FEW:,} ports", few), (f"{MANY:,} ports", many)):
        detail[f"{name}: memory, MB"] = cost.megabytes
        detail[f"{name}: start"] = cost.start_ms
        detail[f"{name}: a port in our networks"] = cost.near_ms
        detail[f"{name}: a port elsewhere"] = cost.far_ms
    return Measured(values, "ms of agent CPU", detail)


def _cost_among(ports: int) -> _Cost:
    plan = ClusterPlan(ports)
    with running_etcd(f"etcd-{ports}"), closing(EtcdStore(settings(), "operator")) as store:
        store_plan(store, plan)
        with _agent() as agent:
            start_ms = _await_ready(agent)
            near = median(_near_ms(store, plan, agent, number) for number in range(CHANGES))
            far = median(_far_ms(store, plan, agent, number) for number in range(CHANGES))
            return _Cost(resident_megabytes(agent.pid), start_ms, near, far)


def _near_ms(
    store: EtcdStore, plan: ClusterPlan, agent: subprocess.Popen[str], number: int
) -> float:
    machine, port = plan.change(number, near=True)
    store.commit(Transaction(put=(machine,)))
    time.sleep(_WINDOW)
    began = private.cpu_seconds(agent.pid)
    revision = store.commit(Transaction(put=(port,)))
    while _read_revision(agent) < revision:
        pass
    return (private.cpu_seconds(agent.pid) - began) * 1000


def _far_ms(
    store: EtcdStore, plan: ClusterPlan, agent: subprocess.Popen[str], number: int
) -> float:
    """What it uses while the change happens, beyond what it uses at rest."""
    at_rest = _used_in_window(agent)
    store.commit(Transaction(put=plan.change(number, near=False)))
    return max(_used_in_window(agent) - at_rest, 0.0)


def _used_in_window(agent: subprocess.Popen[str]) -> float:
    began = private.cpu_seconds(agent.pid)
    time.sleep(_WINDOW)
    return (private.cpu_seconds(agent.pid) - began) * 1000


def store_plan(store: EtcdStore, plan: ClusterPlan) -> None:
    """In commits of a size that etcd's journal takes in good time."""
    began = time.monotonic()
    resources = plan.resources()
    while part := list(islice(resources, _AT_ONCE)):
        store.commit(Transaction(put=part))
    progress(f"{plan.ports} ports stored in {time.monotonic() - began:.0f} s")


@contextmanager
def _agent() -> Iterator[subprocess.Popen[str]]:
    """The agent of the first host."""
    argv = [sys.executable, "-m", "bench.cluster_agent", "0", "1"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=_CHECKOUT) as process:
        try:
            yield process
        finally:
            process.kill()


def _await_ready(agent: subprocess.Popen[str]) -> float:
    """Milliseconds of CPU until it has carried out all."""
    _read_revision(agent)
    return private.cpu_seconds(agent.pid) * 1000


def _read_revision(agent: subprocess.Popen[str]) -> int:
    assert agent.stdout is not None
    while words := agent.stdout.readline().split():
        if len(words) == 4:
            return int(words[2])
    raise BenchError("the agent has ended")


FIGURE = Figure(
    "cluster-scale",
    f"An agent with 50 ports in a cluster of {MANY:,} ports, against one of {FEW}",
    {
        "cluster-agent-memory": at_most(2, f"of that among {FEW}"),
        "cluster-agent-start": at_most(2, f"of that among {FEW}"),
        "cluster-agent-change": at_most(2, f"of that among {FEW}"),
    },
    measure,
    patience=900,
)
