"""The registry, and the intent that the scale figure loads."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest

from bench.cluster_plan import ClusterPlan
from bench.figures import SUITES, figure_named
from bench.ports import Plan
from bench.run import main
from heddle.compiler.host import Compiler
from heddle.intent.model import Kind, Port
from heddle.paths import host_name


def test_local_has_every_figure_of_one_host() -> None:
    values = [name for figure in SUITES["local"] for name in figure.goals]

    assert values == [
        "tcp-of-joined-veths",
        "tcp-of-ip-forwarding",
        "frames-of-ip-forwarding",
        "frames-of-bridge",
        "ping-of-ip-forwarding",
        "vm-tcp-of-bridge",
        "tiny-guest-boot",
        "load-10000-ports",
        "add-port-among-10000",
        "add-port-growth",
        "agent-memory",
        "repair-among-10000",
    ]


def test_cluster_has_every_figure_of_many_hosts() -> None:
    values = [name for figure in SUITES["cluster"] for name in figure.goals]

    assert values == [
        "cluster-tcp-of-kernel-vxlan",
        "cluster-tcp-of-one-host",
        "cluster-frames-of-kernel-vxlan",
        "cluster-frames-of-open-vswitch",
        "ladder-tcp-of-udp-sockets",
        "ladder-udp-of-udp-sockets",
        "vm-tcp-of-udp-socket",
        "vm-udp-of-udp-socket",
        "new-port-first-packet",
        "migration-until-traffic",
        "migration-lost-between-hosts",
        "cluster-agent-memory",
        "cluster-agent-start",
        "cluster-agent-change",
        "outage-pings-lost",
        "outage-stream-bytes-lost",
        "outage-objects-lost",
    ]


def test_scale_has_every_figure_of_many_agents() -> None:
    values = [name for figure in SUITES["scale"] for name in figure.goals]

    assert values == [
        "scale-change",
        "scale-bytes",
        "scale-bystanders-told",
        "scale-bystanders-cpu",
        "scale-memory",
        "scale-etcd-at-rest",
        "scale-writes-at-rest",
        "scale-storm",
        "scale-etcd-back",
        "scale-calls-when-back",
    ]


def test_hosts_of_a_group_share_all_networks_and_no_others() -> None:
    plan = ClusterPlan(1200, ports_per_host=100, hosts_per_network=4)
    ports = [item for item in plan.resources() if isinstance(item, Port)]
    machine, port = plan.another(7, 39, 0, "more")

    hosts_of = defaultdict(set)
    for one in (*ports, port):
        hosts_of[one.network_id].add(one.host)
    groups = [{f"host{first + n}" for n in range(4)} for first in (0, 4, 8)]
    assert list(hosts_of.values()) == [group for group in groups for _ in range(20)]
    assert set(Counter(one.host for one in ports).values()) == {100}
    assert machine.host == port.host == "host7"
    assert port.fixed_ips[0].ip not in {one.fixed_ips[0].ip for one in ports}


def test_a_cluster_plan_places_ports_evenly() -> None:
    plan = list(ClusterPlan(1000).resources())
    ports = [item for item in plan if isinstance(item, Port)]

    assert set(Counter(port.host for port in ports).values()) == {50}
    assert len({(port.machine_id, port.nic) for port in ports}) == 1000
    pairs = {(port.network_id, port.host) for port in ports}
    assert set(Counter(network for network, _ in pairs).values()) == {2}
    compiler = Compiler("host0")
    compiler.update((item.kind, item.id, item) for item in plan)
    assert compiler.errors == {}


def test_names_are_unique() -> None:
    names = [figure.name for suite in SUITES.values() for figure in suite]

    assert len(names) == len(set(names))
    assert all(figure_named(name).name == name for name in names)


def test_an_unknown_figure_is_a_wrong_request(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["local", "--only", "nonsense"]) == 2
    assert "local has no figure nonsense" in capsys.readouterr().err


def test_a_plan_compiles_without_an_error() -> None:
    plan = Plan(250)
    machine, port, gateway = plan.another(0)

    compiler = Compiler(host_name())
    compiler.update((r.kind, r.id, r) for r in [*plan.resources, machine, port])

    assert compiler.errors == {}
    assert len(compiler.state.links) == 251
    assert gateway == "10.0.0.1"


def test_a_plan_has_no_mac_or_address_twice() -> None:
    plan = Plan(1000)
    added = [plan.another(number)[1] for number in range(25)]
    ports = [*(r for r in plan.resources if isinstance(r, Port)), *added]

    assert len(ports) == 1025
    assert max(Counter(port.mac for port in ports).values()) == 1
    assert max(Counter(port.fixed_ips[0].ip for port in ports).values()) == 1


def test_everything_of_a_plan_can_be_deleted_again() -> None:
    plan = Plan(40)
    plan.another(0)
    compiler = Compiler(host_name())
    compiler.update((r.kind, r.id, r) for r in plan.resources)

    deleted = list(plan.everything())
    compiler.update((kind, name, None) for kind, name in deleted)

    assert deleted[-1][0] is Kind.NETWORK
    assert not compiler.state.links
    assert not compiler.state.rows
