"""One change costs the same whatever else there is: counted in fragments that
are compiled again, not in time."""

from __future__ import annotations

import pytest
from compiler_intents import HOST, dual_stack, interface, machine, network, port, router, static

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
