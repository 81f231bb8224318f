"""What a host needs of intent, as scopes."""

from __future__ import annotations

from heddle.intent.model import (
    AddressGroup,
    AddressGroupEntry,
    AnyResource,
    Direction,
    Kind,
    Machine,
    Network,
    Port,
    QosPolicy,
    Router,
    RouterInterface,
    SecurityGroup,
    SecurityGroupRule,
    Subnet,
)
from heddle.store.interest import Interest
from heddle.store.scope import Scope
from heddle.store.scopes import HOSTS, homes, needs, roots, signposts


def port(**fields: object) -> Port:
    given = {"id": "p", "name": "p", "network_id": "n", "mac": "m", "machine_id": "m", "host": "h1"}
    return Port.model_validate(given | fields)


def rule(**fields: object) -> SecurityGroupRule:
    return SecurityGroupRule.model_validate(
        {
            "id": "r",
            "name": "r",
            "number": 1,
            "security_group_id": "g",
            "direction": Direction.TO_VM,
            "ip_version": 4,
            **fields,
        }
    )


ROUTER = Router(
    id="r",
    name="r",
    number=1,
    interfaces=tuple(
        RouterInterface(network_id=name, mac="m", addresses=()) for name in ("n1", "n2", "n1")
    ),
)


def test_each_kind_has_a_home() -> None:
    subnet = Subnet(id="s", name="s", network_id="n", number=1, cidr="c", gateway_ip="g")
    entry = AddressGroupEntry(id="e", name="e", address_group_id="a", cidr="c")
    machine = Machine(id="m", name="m", machine_kind="vm", host="h1")
    places: list[tuple[AnyResource, Scope]] = [
        (Network(id="n", name="n", vni=1), Scope("network", "n")),
        (subnet, Scope("network", "n")),
        (port(), Scope("network", "n")),
        (ROUTER, Scope("router", "r")),
        (SecurityGroup(id="g", name="g", number=1), Scope("group", "g")),
        (rule(), Scope("rules", "g")),
        (AddressGroup(id="a", name="a", number=1), Scope("address_group", "a")),
        (entry, Scope("entries", "a")),
        (QosPolicy(id="q", name="q"), Scope("qos", "q")),
        (machine, Scope("host", "h1")),
    ]
    for resource, scope in places:
        assert homes(resource) == (scope,)


def test_who_moves_is_wanted_at_both_ends() -> None:
    machine = Machine(id="m", name="m", machine_kind="vm", host="h1", migrating_to="h2")
    assert homes(machine) == (Scope("host", "h1"), Scope("host", "h2"))
    moving = port(migrating_to="h2", security_group_ids=("g",))
    assert set(signposts(moving)) == {Scope("host", "h1"), Scope("host", "h2")}
    assert set(needs(moving, "h2")) == {Scope("group", "g"), Scope("rules", "g")}
    assert set(needs(moving, "h3")) == set()


def test_a_local_port_needs_its_groups_and_limits() -> None:
    local = port(security_group_ids=("g",), qos_policy_id="q")
    assert set(needs(local, "h1")) == {Scope("group", "g"), Scope("rules", "g"), Scope("qos", "q")}
    assert set(needs(local, "h2")) == set()


def test_a_rule_needs_whom_it_names() -> None:
    assert set(needs(rule(remote_group_id="o"), "h")) == {Scope("group", "o")}
    assert set(needs(rule(address_group_id="a"), "h")) == {
        Scope("address_group", "a"),
        Scope("entries", "a"),
    }


def test_a_router_joins_what_it_is_announced_in() -> None:
    assert list(signposts(ROUTER)) == [Scope("network", "n1"), Scope("network", "n2")]
    assert set(needs(ROUTER, "h")) == {Scope("network", "n1"), Scope("network", "n2")}


def test_everybody_follows_hosts() -> None:
    assert roots("h1") == (HOSTS, Scope("host", "h1"))
    assert set(Kind) >= {Kind.NETWORK}


H, N1, N2, R = (
    Scope("host", "h"),
    Scope("network", "1"),
    Scope("network", "2"),
    Scope("router", "r"),
)


def test_interest_reaches_along_edges_and_ends_with_them() -> None:
    interest = Interest([H])
    assert interest.wanted == {H}
    interest.point(H, "port", [N1])
    interest.point(N1, "router", [R])
    interest.point(R, "router", [N1, N2])
    interest.point(N2, "router", [R])
    assert interest.wanted == {H, N1, N2, R}
    interest.point(H, "port", [])  # what is left is a circle that nobody needs
    assert interest.wanted == {H}


def test_two_that_need_the_same_count_as_two() -> None:
    interest = Interest([H])
    interest.point(H, "a", [N1])
    interest.point(H, "b", [N1])
    interest.point(H, "a", [])
    assert interest.wanted == {H, N1}
    interest.point(H, "b", [N2])
    assert interest.wanted == {H, N2}


def test_a_forgotten_scope_points_nowhere() -> None:
    interest = Interest([H])
    interest.point(H, "a", [N1])
    interest.point(N1, "a", [N2])
    interest.forget(N1, ["a"])
    assert interest.wanted == {H, N1}
    interest.point(N1, "a", [R])
    assert interest.wanted == {H, N1, R}
