"""10,000 ports on one host: how long until they work, what one more costs, and
how much memory the agent takes.

The ports are NICs of stopped VMs, so each has a TAP, the program at its ingress
and its rows, and nothing else of the machine is busy. A new port works when its
TAP gets an ARP answer for the gateway.
"""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from statistics import median

from bench import guests, product
from bench.commands import BenchError, progress, run
from bench.ports import Plan
from bench.private import cpu_seconds
from bench.report import Figure, Measured, at_most
from heddle.agent.client import AgentClient
from heddle.agent.daemon import start_detached, stop_running
from heddle.intent.model import Port
from heddle.intent.names import tap_name
from heddle.paths import store_file
from heddle.store.interface import Transaction
from heddle.store.sqlite import SqliteStore

MANY = 10_000
FEW = 10
ADDED = 25  # ports added one by one; the median counts
QUIET_SECONDS = 0.5  # in which the agent may use ...
QUIET_SHARE = 0.1  # ... so much of a CPU to count as at rest
QUIET_PATIENCE = 20.0
REPAIR_PATIENCE = 30.0


def measure() -> Measured:
    few_ms = _few()
    with closing(SqliteStore(store_file())) as store:
        pid = start_detached()
        plan = Plan(MANY)
        _rest(pid)
        load_seconds = product.load(store, plan.resources)
        memory = resident_megabytes(pid)
        _rest(pid)
        many_ms = _add_one_by_one(store, plan, pid)
        memory = max(memory, resident_megabytes(pid))
        repair_seconds = _repair(plan)
    values = {
        "load-10000-ports": load_seconds,
        "add-port-among-10000": many_ms,
        "add-port-growth": many_ms / few_ms,
        "agent-memory": memory,
        "repair-among-10000": repair_seconds,
    }
    detail = {"one port more among 10": few_ms, "one port more among 10,000": many_ms}
    return Measured(values, "ms of agent CPU", detail)


def _few() -> float:
    """The cost of a port among few, on the same machine just before."""
    with closing(SqliteStore(store_file())) as store:
        pid = start_detached()
        plan = Plan(FEW)
        product.load(store, plan.resources)
        _rest(pid)
        cost = _add_one_by_one(store, plan, pid)
        store.commit(Transaction(delete=plan.everything()))
        _rest(pid)
    stop_running()
    return cost


def _add_one_by_one(store: SqliteStore, plan: Plan, pid: int) -> float:
    """Median milliseconds of agent CPU from the commit until a new port works."""
    costs = []
    for number in range(ADDED):
        machine, port, gateway = plan.another(number)
        store.commit(Transaction(put=(machine,)))
        _rest(pid)
        began = cpu_seconds(pid)
        store.commit(Transaction(put=(port,)))
        with guests.Guest(port) as guest:
            guest.await_arp_answer(gateway)
            costs.append((cpu_seconds(pid) - began) * 1000)
    progress("agent CPU per added port, ms: " + " ".join(f"{cost:.1f}" for cost in costs))
    return median(costs)


def _repair(plan: Plan) -> float:
    """Seconds until the agent has repaired a TAP that was left without its guard."""
    tap = next(tap_name(each.id) for each in plan.resources if isinstance(each, Port))
    with AgentClient() as agent:
        before = agent.request("status")["repaired"]
        start = time.monotonic()
        run("tc", "qdisc", "delete", "dev", tap, "ingress")
        while agent.request("status")["repaired"] == before:
            if time.monotonic() - start > REPAIR_PATIENCE:
                raise BenchError(f"{tap} not repaired after {REPAIR_PATIENCE:.0f} s")
            time.sleep(0.02)
    return time.monotonic() - start


def _rest(pid: int) -> None:
    """Wait until the agent has nothing left to do but its regular looks."""
    deadline = time.monotonic() + QUIET_PATIENCE
    while time.monotonic() < deadline:
        began = cpu_seconds(pid)
        time.sleep(QUIET_SECONDS)
        if cpu_seconds(pid) - began < QUIET_SECONDS * QUIET_SHARE:
            return
    raise BenchError(f"the agent is still busy after {QUIET_PATIENCE:.0f} s")


def resident_megabytes(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise BenchError("the agent has gone")


FIGURE = Figure(
    "scale",
    "10,000 ports on one host",
    {
        "load-10000-ports": at_most(3, "s"),
        "add-port-among-10000": at_most(5, "ms of agent CPU"),
        "add-port-growth": at_most(1.5, "times the cost among 10 ports"),
        "agent-memory": at_most(150, "MB"),
        "repair-among-10000": at_most(5, "s"),
    },
    measure,
)
