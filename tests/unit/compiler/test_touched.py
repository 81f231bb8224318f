"""Which networks must decide their flows again."""

from __future__ import annotations

import pytest
from compiler_intents import HOST, dual_stack, interface, machine, network, port, router, subnet4

from heddle.compiler.host import Compiler
from heddle.intent.model import AnyResource, Kind

# Networks 1 and 2 are joined by a router, 2 and 3 by another; 4 is alone.
WORLD: list[AnyResource] = [
    *(o for o in dual_stack(1, 2, 3, 4) if o.kind != "router"),
    router(interface(1), interface(2)),
    router(interface(2, "10.2.0.9"), interface(3), number=2),
    machine("m1"),
]


@pytest.fixture
def compiler() -> Compiler:
    compiler = Compiler(HOST)
    compiler.update((r.kind, r.id, r) for r in WORLD)
    return compiler


def touched(compiler: Compiler, *objects: AnyResource) -> set[int]:
    return compiler.update([(r.kind, r.id, r) for r in objects]).touched


def test_a_port_touches_all_that_can_reach_it(compiler: Compiler) -> None:
    assert touched(compiler, port(1, 2)) == {1, 2, 3}
    assert compiler.update([(Kind.PORT, port(1, 2).id, None)]).touched == {1, 2, 3}
    assert touched(compiler, port(4, 2)) == {4}


def test_what_changes_nothing_touches_nothing(compiler: Compiler) -> None:
    assert touched(compiler, *WORLD) == set()
    assert touched(compiler, network(1, tags=("x",))) == set()


def test_a_router_touches_both_as_it_was_and_as_it_is(compiler: Compiler) -> None:
    moved = router(interface(3, "10.3.0.9"), interface(4), number=2)
    assert touched(compiler, moved) == {1, 2, 3, 4}


def test_a_router_that_goes_touches_what_it_joined(compiler: Compiler) -> None:
    assert compiler.update([(Kind.ROUTER, "router2", None)]).touched == {1, 2, 3}
    assert touched(compiler, port(3, 2)) == {3}


def test_a_router_that_comes_joins_for_good(compiler: Compiler) -> None:
    assert touched(compiler, port(4, 2)) == {4}
    assert touched(compiler, router(interface(4), number=3)) == {4}
    joining = router(interface(4), interface(3, "10.3.0.8"), number=3)
    assert touched(compiler, joining) == {1, 2, 3, 4}
    assert touched(compiler, port(4, 3, nic=1)) == {1, 2, 3, 4}


def test_a_new_router_joins_networks_already_searched(compiler: Compiler) -> None:
    compiler.update([(Kind.ROUTER, "router2", None)])
    assert touched(compiler, port(3, 2)) == {3}
    assert touched(compiler, WORLD[-2]) == {1, 2, 3}
    assert touched(compiler, port(3, 3, nic=1)) == {1, 2, 3}


def test_another_vni_touches_the_old_one(compiler: Compiler) -> None:
    touched(compiler, port(4, 2))
    assert touched(compiler, network(4, vni=44)) == {4, 44}


def test_an_indirect_change_touches_too(compiler: Compiler) -> None:
    """The machine that appears plugs in a port that was there before."""
    assert touched(compiler, port(1, 2, "m9")) == set()
    assert touched(compiler, machine("m9")) == {1, 2, 3}


def test_a_subnet_that_moves_touches_both_networks(compiler: Compiler) -> None:
    assert touched(compiler, subnet4(4, network_id="net1")) == {1, 2, 3, 4}
