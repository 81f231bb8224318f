"""Hundreds of agents at once, in a cluster of 1,000 hosts and 100,000 ports.

etcd is real, and so are the agents, but for the kernels below them and the
other hosts' answers to their probes. The hosts without an agent are intent alone.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from statistics import median
from typing import NamedTuple

from bench.agents import Agents, running_agents
from bench.cluster_plan import PORTS_PER_NETWORK, ClusterPlan
from bench.etcd import Etcd, running_etcd, settings
from bench.figures.cluster_scale import store_plan
from bench.figures.scale import resident_megabytes
from bench.private import cpu_seconds
from bench.report import Figure, Measured, at_most
from heddle.intent.model import Machine, Port
from heddle.store.etcd.store import EtcdStore
from heddle.store.interface import Transaction

HOSTS, PORTS = 1_000, 100_000
AGENTS = 300
HOSTS_PER_NETWORK = 4
CHANGES = 200
FAR_CHANGES = 100
STORM = 1_000  # ports in one commit
REST_SECONDS = 20.0
DOWN_SECONDS = 15.0  # of etcd
_PATIENCE = 120.0
_SETTLE_SECONDS = 10.0
_SENT = "etcd_network_client_grpc_sent_bytes_total"
_PUTS = "etcd_mvcc_put_total"
_CALLS = "grpc_server_started_total"


class _Use(NamedTuple):
    """What was used in a window."""

    seconds: float
    agents: float  # seconds of CPU, all together
    etcd: float  # seconds of CPU
    sent: float  # bytes by etcd
    puts: float
    calls: float
    told: int  # batches that agents were told


class _Cluster:
    """The cluster while it is measured."""

    def __init__(self, etcd: Etcd, store: EtcdStore, plan: ClusterPlan, agents: Agents) -> None:
        self.etcd = etcd
        self.store = store
        self.plan = plan
        self.agents = agents
        self._made: Counter[int] = Counter()  # ports, by group

    @contextmanager
    def window(self) -> Iterator[list[_Use]]:
        """Fills the list with what was used meanwhile."""
        before = self.use()
        used: list[_Use] = []
        yield used
        pairs = zip(self.use(), before, strict=True)
        used.append(_Use(*(after - earlier for after, earlier in pairs)))  # type: ignore[arg-type]

    @property
    def groups(self) -> int:
        """Groups of hosts that share networks, of hosts with an agent."""
        return len(self.agents.hosts) // HOSTS_PER_NETWORK

    def hosts_of(self, group: int) -> Sequence[str]:
        first = group * HOSTS_PER_NETWORK
        return self.agents.hosts[first : first + HOSTS_PER_NETWORK]

    def rest(self) -> _Use:
        with self.window() as used:
            time.sleep(REST_SECONDS)
        return used[0]

    def another_port(self, group: int) -> tuple[Machine, Port]:
        """One more, for hosts that share networks."""
        self._made[group] += 1
        number = self._made[group]
        networks = self.plan.ports_per_host * HOSTS_PER_NETWORK // PORTS_PER_NETWORK
        network = group * networks + number % networks
        host = group * HOSTS_PER_NETWORK + number % HOSTS_PER_NETWORK
        return self.plan.another(host, network, number // networks, f"more-{group}-{number}")

    def use(self) -> _Use:
        return _Use(
            time.monotonic(),
            self.agents.cpu_seconds(),
            cpu_seconds(self.etcd.pid),
            self.etcd.metric(_SENT),
            self.etcd.metric(_PUTS),
            self.etcd.metric(_CALLS),
            self.agents.told,
        )


def measure() -> Measured:
    plan = ClusterPlan(PORTS, ports_per_host=PORTS // HOSTS, hosts_per_network=HOSTS_PER_NETWORK)
    with running_etcd("etcd") as etcd, closing(EtcdStore(settings(), "operator")) as store:
        store_plan(store, plan)
        with running_agents(AGENTS) as agents:
            return _measured(_Cluster(etcd, store, plan, agents))


def _measured(cluster: _Cluster) -> Measured:
    time.sleep(_SETTLE_SECONDS)
    megabytes = cluster.agents.megabytes()
    watchers = cluster.etcd.metric("etcd_debugging_mvcc_watcher_total")
    rest = cluster.rest()
    change = _changes(cluster)
    far = _far_changes(cluster)
    storm_seconds = _storm(cluster)
    time.sleep(_SETTLE_SECONDS)
    back_seconds, back = _restart(cluster)
    values = {
        "scale-change": change.milliseconds,
        "scale-bytes": change.use.sent / (CHANGES * HOSTS_PER_NETWORK),
        "scale-bystanders-told": float(far.told + change.strangers),
        "scale-bystanders-cpu": max(far.agents - rest.agents, 0) / AGENTS / FAR_CHANGES * 1000,
        "scale-memory": megabytes,
        "scale-etcd-at-rest": rest.etcd / rest.seconds * HOSTS / AGENTS,
        "scale-writes-at-rest": rest.puts / rest.seconds * HOSTS / AGENTS,
        "scale-storm": storm_seconds,
        "scale-etcd-back": back_seconds,
        "scale-calls-when-back": back.calls / AGENTS,
    }
    detail = {
        "median of a change, ms": change.median,
        "agent at rest, ms of CPU per second": rest.agents / rest.seconds / AGENTS * 1000,
        "etcd at rest, ms of CPU per second": rest.etcd / rest.seconds * 1000,
        "etcd at rest, calls per second": rest.calls / rest.seconds,
        "etcd at rest, bytes sent per second": rest.sent / rest.seconds,
        "etcd, ms of CPU per change": (change.use.etcd) / CHANGES * 1000,
        "etcd, memory in MB": resident_megabytes(cluster.etcd.pid),
        "watches per agent": watchers / AGENTS,
        "kB sent per agent when etcd is back": back.sent / AGENTS / 1000,
    }
    return Measured(values, "", detail)


class _Changes(NamedTuple):
    milliseconds: float  # until the last agent has done it, the 99th of 100
    median: float
    strangers: int  # things that agents were told that no change was for
    use: _Use


def _changes(cluster: _Cluster) -> _Changes:
    """Ports are added one by one, in a group of hosts after the other."""
    took = []
    with cluster.window() as used:
        for number in range(CHANGES):
            group = number % cluster.groups
            machine, port = cluster.another_port(group)
            revision = cluster.store.commit(Transaction(put=[machine]))
            cluster.agents.wait_for_revision([str(machine.host)], revision, _PATIENCE)
            began = time.monotonic()
            revision = cluster.store.commit(Transaction(put=[port]))
            hosts = cluster.hosts_of(group)
            took.append(cluster.agents.wait_for_revision(hosts, revision, _PATIENCE) - began)
    strangers = used[0].told - CHANGES * (HOSTS_PER_NETWORK + 1)
    ordered = sorted(seconds * 1000 for seconds in took)
    return _Changes(ordered[len(ordered) * 99 // 100], median(ordered), strangers, used[0])


def _far_changes(cluster: _Cluster) -> _Use:
    """Changes for hosts without an agent, in as much time as the rest took."""
    with cluster.window() as used:
        began = time.monotonic()
        for number in range(FAR_CHANGES):
            cluster.store.commit(Transaction(put=cluster.plan.change(number, near=False)))
        time.sleep(max(began + REST_SECONDS - time.monotonic(), 0))
    return used[0]


def _storm(cluster: _Cluster) -> float:
    """Seconds until many ports that come at once are carried out everywhere."""
    added = [cluster.another_port(number % cluster.groups) for number in range(STORM)]
    cluster.store.commit(Transaction(put=[machine for machine, _ in added]))
    time.sleep(_SETTLE_SECONDS)
    began = time.monotonic()
    revision = cluster.store.commit(Transaction(put=[port for _, port in added]))
    return cluster.agents.wait_for_revision(cluster.agents.hosts, revision, _PATIENCE) - began


def _restart(cluster: _Cluster) -> tuple[float, _Use]:
    """Seconds from etcd's first answer until all agents have carried out what is
    then changed for each of them, and what all that took."""
    cluster.etcd.kill()
    time.sleep(DOWN_SECONDS)
    cluster.etcd.start()
    began = time.monotonic()
    added = [cluster.another_port(group) for group in range(cluster.groups)]
    objects = [one for pair in added for one in pair]
    revision = cluster.store.commit(Transaction(put=objects))
    done = cluster.agents.wait_for_revision(cluster.agents.hosts, revision, _PATIENCE) - began
    return done, cluster.use()._replace(told=0)


FIGURE = Figure(
    "many-agents",
    f"{AGENTS} agents in a cluster of {HOSTS:,} hosts and {PORTS:,} ports",
    {
        "scale-change": at_most(100, "ms until all hosts concerned have it, p99"),
        "scale-bytes": at_most(4_000, "bytes from etcd per change and host concerned"),
        "scale-bystanders-told": at_most(0, "things told to agents that are not concerned"),
        "scale-bystanders-cpu": at_most(0.1, "ms of CPU of such an agent per change"),
        "scale-memory": at_most(25, "MB per agent beside Python and its modules"),
        "scale-etcd-at-rest": at_most(0.5, f"of a core for {HOSTS:,} hosts at rest"),
        "scale-writes-at-rest": at_most(20, f"writes per second of {HOSTS:,} hosts at rest"),
        "scale-storm": at_most(10, f"s until {STORM:,} new ports are everywhere"),
        "scale-etcd-back": at_most(10, "s from etcd's return until a change is everywhere"),
        "scale-calls-when-back": at_most(20, "calls of each agent until then"),
    },
    measure,
    patience=1200,
)
