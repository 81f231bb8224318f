"""Which networks must decide their flows again."""

from __future__ import annotations

import pytest
from compiler_intents import (
    HOST,
    address_group,
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
    subnet4,
)

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


# ---- policy: network 4 is where a port uses the group, network 2 where the members are

FAR = port(2, 7, "m9", host="h2", security_group_ids=("db",))
STRANGER = port(2, 8, "m9", host="h2")
POLICY: list[AnyResource] = [
    port(4, 2, security_group_ids=("web",)),
    port(1, 9, nic=9),
    FAR,
    STRANGER,
    group("web", 1),
    group("db", 2),
    rule(1, remote_group_id="db"),
    rule(2, address_group_id="offices"),
    rule(3, protocol=6, port_min=80, port_max=80),
    address_group("offices", 50),
    entry("192.0.2.0/24"),
]
# A member counts in its network alone, which routers join to 1 and 3.
TAKEN_AWAY: dict[str, tuple[AnyResource, set[int]]] = {
    "a rule": (rule(3), {4}),
    "an entry": (entry("192.0.2.0/24"), {4}),
    "a member": (FAR, {1, 2, 3}),
    "a set": (address_group("offices", 50), {4}),
    "a set of ports": (group("db", 2), {4}),
    "the group": (group("web", 1), {4}),
}


@pytest.fixture
def guarded(compiler: Compiler) -> Compiler:
    compiler.update((r.kind, r.id, r) for r in POLICY)
    return compiler


@pytest.mark.parametrize(("resource", "vnis"), TAKEN_AWAY.values(), ids=TAKEN_AWAY)
def test_what_is_taken_away_touches_the_ports_that_stand_under_it(
    guarded: Compiler, resource: AnyResource, vnis: set[int]
) -> None:
    assert guarded.update([(resource.kind, resource.id, None)]).touched == vnis


ADDED: dict[str, AnyResource] = {
    "a rule": rule(9, remote_cidr="10.0.0.0/8"),
    "an entry": entry("198.51.100.0/24"),
    "a member": STRANGER.model_copy(update={"security_group_ids": ("db",)}),
}


@pytest.mark.parametrize("resource", ADDED.values(), ids=ADDED)
def test_what_only_allows_more_touches_nothing(guarded: Compiler, resource: AnyResource) -> None:
    delta = guarded.update([(resource.kind, resource.id, resource)])
    assert delta.rows
    assert delta.touched == set()


@pytest.mark.parametrize("resource", ADDED.values(), ids=ADDED)
def test_with_a_stateless_group_it_does(guarded: Compiler, resource: AnyResource) -> None:
    """What it allows may have a connection now, which needs a decision."""
    assert touched(guarded, group("web", 1, stateful=False)) == {4}
    assert touched(guarded, resource) == ({1, 2, 3} if resource.kind is Kind.PORT else {4})


def test_a_port_of_another_host_touches_all_that_can_reach_it(guarded: Compiler) -> None:
    """Of this host, that is: network 5 it can't reach."""
    assert touched(guarded, host(3)) == set()
    assert touched(guarded, port(2, 10, "m9", host="h2")) == {1, 2, 3}
    assert touched(guarded, network(5), subnet4(5), port(5, 9, "m9", host="h2")) == {5}
    assert touched(guarded, port(5, 8, "m9", host="h2")) == set()
    assert touched(guarded, port(2, 10, "m9", host="h3")) == {1, 2, 3}


def test_a_stateless_group_becomes_stateful(guarded: Compiler) -> None:
    touched(guarded, group("web", 1, stateful=False))
    assert touched(guarded, group("web", 1)) == {4}
    assert touched(guarded, rule(9, remote_cidr="10.0.0.0/8")) == set()


def test_a_smaller_rule_touches(guarded: Compiler) -> None:
    assert touched(guarded, rule(3, protocol=6, port_min=81, port_max=81)) == {4}


def test_a_rule_in_whose_place_another_comes_touches(guarded: Compiler) -> None:
    """Flows name the rule that allows them."""
    assert touched(guarded, rule(4, protocol=6, port_min=80, port_max=80)) == set()
    delta = guarded.update([(Kind.SECURITY_GROUP_RULE, "rule3", None)])
    assert list(delta.rows.values()) == [4]
    assert delta.touched == {4}


def test_rules_of_a_group_in_joined_networks_touch_all_of_them(guarded: Compiler) -> None:
    touched(guarded, port(3, 5, nic=1, security_group_ids=("web",)))
    assert guarded.update([(Kind.SECURITY_GROUP_RULE, "rule3", None)]).touched == {1, 2, 3, 4}


def test_what_nobody_uses_touches_nothing(guarded: Compiler) -> None:
    assert touched(guarded, rule(7, "db", protocol=17)) == set()
    assert guarded.update([(Kind.SECURITY_GROUP_RULE, "rule7", None)]).touched == set()


def test_a_group_that_a_port_leaves_touches_its_network(guarded: Compiler) -> None:
    assert touched(guarded, port(4, 2)) == {4}
    assert not [key for key in guarded.state.rows if key.table.startswith(("policy", "set"))]
