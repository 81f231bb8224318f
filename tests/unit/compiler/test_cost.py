"""One change costs the same whatever else there is: counted in fragments that
are compiled again, not in time."""

from __future__ import annotations

import pytest
from compiler_intents import (
    HOST,
    address_group,
    address_pair,
    dual_stack,
    entry,
    group,
    host,
    interface,
    machine,
    network,
    port,
    router,
    rule,
    static,
)

from heddle.compiler.host import Compiler
from heddle.compiler.index import Change
from heddle.intent.model import AnyResource, FixedIp

FEW, MANY = 10, 2000


def port_and_machine(number: int) -> list[AnyResource]:
    label = f"m{number:05}"
    high, low = divmod(number + 2, 250)
    fixed_ips = (
        FixedIp(subnet_id="sub4-1", ip=f"10.1.{high}.{low}"),
        FixedIp(subnet_id="sub6-1", ip=f"fd00:1::{number + 2:x}"),
    )
    mac = f"fa:16:3e:02:{high:02x}:{low:02x}"
    identity = f"{number:05}-port"
    return [machine(label), port(1, 2, label, id=identity, mac=mac, fixed_ips=fixed_ips)]


def written(objects: list[AnyResource]) -> list[Change]:
    return [(r.kind, r.id, r) for r in objects]


def with_ports(count: int) -> Compiler:
    compiler = Compiler(HOST)
    compiler.update(written(dual_stack(1, 2)))
    for number in range(count):
        compiler.update(written(port_and_machine(number)))
    assert len(compiler.state.links) == count
    return compiler


@pytest.fixture(scope="module")
def small() -> Compiler:
    return with_ports(FEW)


@pytest.fixture(scope="module")
def large() -> Compiler:
    return with_ports(MANY)


# By what it is: the objects that it writes.
CHANGES: dict[str, list[AnyResource]] = {
    "a port, first in the ring": [
        machine("m-"),
        port(1, 2, "m-", id="0----port", fixed_ips=(FixedIp(subnet_id="sub4-1", ip="10.1.99.9"),)),
    ],
    "a port in the middle": [
        machine("m-"),
        port(1, 2, "m-", id="00004-x", fixed_ips=()),
    ],
    "another machine state": [machine("m00001", running=True)],
    "another address": [
        port_and_machine(3)[1].model_copy(
            update={"fixed_ips": (FixedIp(subnet_id="sub4-1", ip="10.1.77.7"),)}
        )
    ],
    "a static route through a port": [
        router(interface(1), interface(2), routes=(static("10.9.0.0/16", "10.1.0.2"),))
    ],
    "another network": [network(3)],
}


@pytest.mark.parametrize("objects", CHANGES.values(), ids=CHANGES)
def test_cost_does_not_grow(small: Compiler, large: Compiler, objects: list[AnyResource]) -> None:
    costs = []
    for compiler in (small, large):
        before = {(r.kind, r.id): r for r in (*dual_stack(1, 2), *port_and_machine(1))}
        before |= {(r.kind, r.id): r for r in port_and_machine(3)}
        delta = compiler.update(written(objects))
        there = compiler.recompiled
        compiler.update([(r.kind, r.id, before.get((r.kind, r.id))) for r in objects])
        costs.append((there, compiler.recompiled, len(delta.rows), len(delta.links)))
    assert costs[0] == costs[1]
    assert costs[0][0] <= 8


def test_one_port_costs_three_fragments(large: Compiler) -> None:
    """Itself, its machine, and the port before it in the ring."""
    objects = CHANGES["a port in the middle"]
    compiler_delta = large.update(written(objects))
    assert large.recompiled == 3
    assert len(compiler_delta.links) == 1
    large.update([(r.kind, r.id, None) for r in objects])


# ---- ports of other hosts ------------------------------------------------------

MANY_FAR = 10_000
HOSTS = 50


def far_port(number: int, where: int = 1, on: int | None = None) -> AnyResource:
    high, low = divmod(number + 500, 250)
    fixed_ips = (FixedIp(subnet_id=f"sub4-{where}", ip=f"10.{where}.{high}.{low}"),)
    mac = f"fa:16:3e:0{where}:{high:02x}:{low:02x}"
    name = f"h{on or 2 + number % (HOSTS - 1)}"
    fields = {"id": f"{where}-{number:05}-far", "mac": mac, "fixed_ips": fixed_ips, "host": name}
    return port(where, 2, f"far{number}", security_group_ids=("web",), **fields)


def with_far_ports(count: int) -> Compiler:
    """Of as many ports in network 1, where this host has one, and in network 3, where
    it has none. Each of the other hosts has some of them."""
    compiler = Compiler(HOST)
    hosts = [host(n, vtep=f"192.0.2.{n}") for n in range(1, HOSTS + 2)]
    local = [machine("m1"), port(1, 2, security_group_ids=("web",)), group("web", 1)]
    compiler.update(written([*hosts, *dual_stack(1, 2), network(3), *local]))
    compiler.update(written([rule(1, remote_group_id="web")]))
    compiler.update(written([far_port(n, w) for n in range(count) for w in (1, 3)]))
    return compiler


@pytest.fixture(scope="module")
def few_far() -> Compiler:
    return with_far_ports(3 * HOSTS)


@pytest.fixture(scope="module")
def many_far() -> Compiler:
    return with_far_ports(MANY_FAR)


FAR_CHANGES: dict[str, tuple[AnyResource, int, int]] = {  # fragments, rows
    "a port": (far_port(20_000), 1, 3),
    "a port, first of its host": (far_port(20_000, on=HOSTS + 1), 3, 5),
    "a port that moves": (far_port(7, on=20), 1, 2),
    "a port out of reach": (far_port(20_000, 3), 1, 0),
    "a port out of reach, first of its host": (far_port(20_000, 3, on=HOSTS + 1), 2, 0),
}


@pytest.mark.parametrize(("resource", "fragments", "rows"), FAR_CHANGES.values(), ids=FAR_CHANGES)
def test_cost_of_far_ports_does_not_grow(
    few_far: Compiler, many_far: Compiler, resource: AnyResource, fragments: int, rows: int
) -> None:
    for compiler in (few_far, many_far):
        key = (resource.kind, resource.id)
        before = far_port(7) if key == ("port", far_port(7).id) else None
        delta = compiler.update([(*key, resource)])
        assert (compiler.recompiled, len(delta.rows)) == (fragments, rows)
        compiler.update([(*key, before)])
        assert compiler.recompiled == fragments


# ---- policy --------------------------------------------------------------------

MANY_RULES = 10_000


def member(number: int) -> AnyResource:
    """A port of another host."""
    high, low = divmod(number, 250)
    fixed_ips = (FixedIp(subnet_id="sub4-1", ip=f"10.2.{high}.{low}"),)
    mac = f"fa:16:3e:03:{high:02x}:{low:02x}"
    fields = {"id": f"{number:05}-far", "mac": mac, "fixed_ips": fixed_ips, "host": "h2"}
    return port(1, 2, f"far{number}", security_group_ids=("web",), **fields)


def one_rule(number: int) -> AnyResource:
    high, low = divmod(number, 250)
    remotes = ({"remote_cidr": f"10.3.{high}.{low}/32"}, {"remote_group_id": "web"})
    return rule(
        number + 10, protocol=6, port_min=number, port_max=number + 9, **remotes[number % 2]
    )


def one_entry(number: int) -> AnyResource:
    high, low = divmod(number, 250)
    return entry(f"10.4.{high}.{low}/32")


def with_policy(count: int) -> Compiler:
    """A port with a group of ``count`` rules and members, and an address group of
    as many entries."""
    compiler = Compiler(HOST)
    compiler.update(
        written(
            [
                *dual_stack(1, 2),
                machine("m1"),
                port(1, 2, security_group_ids=("web",)),
                group("web", 1),
                address_group(),
                rule(1, remote_group_id="web"),
                rule(2, address_group_id="offices"),
                *(make(n) for n in range(1, count + 1) for make in (member, one_rule, one_entry)),
            ]
        )
    )
    assert len(compiler.state.rows) > 3 * count
    return compiler


@pytest.fixture(scope="module")
def few_rules() -> Compiler:
    return with_policy(FEW)


@pytest.fixture(scope="module")
def many_rules() -> Compiler:
    return with_policy(MANY_RULES)


POLICY_CHANGES: dict[str, AnyResource] = {
    "another rule": rule(99_999, protocol=17, port_min=1, port_max=9),
    "a rule of which there is one": rule(99_998, id="rule0", protocol=6, port_min=3, port_max=9),
    "a rule with a port range that others share": one_rule(5).model_copy(
        update={"id": "rule5x", "number": 99_996}
    ),
    "a rule with a new length of prefix": rule(99_997, remote_cidr="10.0.0.0/9"),
    "a member": member(60_000),
    "a member with a new length of prefix": member(60_001).model_copy(
        update={"address_pairs": (address_pair("10.0.0.0/9"),)}
    ),
    "an entry": entry("10.5.0.0/32"),
    "an entry that is there already": entry("10.4.0.1/32", id="again"),
    "another name of the group": group("web", 1, name="internet"),
    "another kind of group": group("web", 1, stateful=False),
}


@pytest.mark.parametrize("resource", POLICY_CHANGES.values(), ids=POLICY_CHANGES)
def test_cost_of_policy_does_not_grow(
    few_rules: Compiler, many_rules: Compiler, resource: AnyResource
) -> None:
    key = (resource.kind, resource.id)
    costs = []
    for compiler in (few_rules, many_rules):
        before = group("web", 1) if key == ("security_group", "web") else None
        delta = compiler.update([(*key, resource)])
        there = compiler.recompiled
        compiler.update([(*key, before)])
        costs.append((there, compiler.recompiled, len(delta.rows), delta.touched))
    assert costs[0] == costs[1]
    assert costs[0][:2] == (1, 1)


def test_one_of_many_goes_and_comes_back(many_rules: Compiler) -> None:
    before = dict(many_rules.state.rows)
    for resource in (one_rule(5_000), one_rule(5_001), member(5_000), one_entry(5_000)):
        delta = many_rules.update([(resource.kind, resource.id, None)])
        assert many_rules.recompiled == 1
        assert delta.rows
        many_rules.update(written([resource]))
        assert many_rules.recompiled == 1
    assert many_rules.state.rows == before


def test_rules_stay_while_their_only_port_changes(many_rules: Compiler) -> None:
    plain = port(1, 2, security_group_ids=("web",))
    moved = plain.model_copy(update={"network_id": "net2", "fixed_ips": ()})
    for resource in (moved, plain):
        many_rules.update(written([resource]))
        assert many_rules.recompiled <= 4  # it, its machine, and both networks
