"""Random sequences of changes, dangling references and conflicts included."""

from __future__ import annotations

from collections.abc import Iterator

from compiler_intents import (
    HOST,
    address_group,
    address_pair,
    detour,
    dual_stack,
    entry,
    foreign,
    group,
    host,
    host_route,
    interface,
    machine,
    network,
    path,
    port,
    presence,
    qos,
    router,
    rule,
    static,
    subnet4,
    subnet6,
)
from compiler_policy import must_touch
from compiler_states import STATES
from hypothesis import given, settings
from hypothesis import strategies as st
from test_states import patch, snapshot

from heddle.compiler.fragment import Limits
from heddle.compiler.host import Compiler, compile_host
from heddle.compiler.index import Change
from heddle.compiler.questions import ObjectKey
from heddle.compiler.state import HostDelta, HostState, Link, RowKey
from heddle.intent.model import AnyResource, FixedIp, Ipv6Mode, Kind, RouterInterface

# Tight enough that a subnet with both DNS servers is refused.
LIMITS = Limits(dhcp_options=50, ra_message=120, groups=2, sets=2)

# Few of everything, so that objects meet.
numbers = st.integers(1, 3)
port_numbers = st.integers(1, 4)
machine_names = st.sampled_from(["m1", "m2"])
hosts = st.sampled_from([HOST, HOST, HOST, "h2"])
other_ends = st.sampled_from(["", "", "", HOST, "h2", "h3"])  # of a migration

networks = st.builds(
    network,
    numbers,
    vni=st.integers(1, 4),
    mtu=st.sampled_from([1400, 1450]),
    domain=st.sampled_from(["", "one.example", "a..b"]),
    flood_group=st.sampled_from([None, None, "239.0.0.1", "ff05::1", "10.0.0.1"]),
    foreign_members=st.sampled_from(
        [
            (),
            (),
            (foreign("sw1", ("fa:16:3e:01:01:02", "10.1.0.3")), foreign("h2", learn=True)),
            (foreign(HOST, ("02:00:00:00:00:01", None)),),
        ]
    ),
)
subnets4 = st.builds(
    subnet4,
    numbers,
    network_id=st.sampled_from(["net1", "net2", "net3"]),
    number=st.integers(1, 4),
    enable_dhcp=st.booleans(),
    dns=st.sampled_from([(), ("9.9.9.9",), ("9.9.9.9", "8.8.8.8")]),
    host_routes=st.sampled_from([(), (host_route("10.8.0.0/15", "10.1.0.9"),)]),
)
subnets6 = st.builds(
    subnet6,
    numbers,
    enable_dhcp=st.booleans(),
    ipv6_mode=st.sampled_from([None, *Ipv6Mode]),
    dns=st.sampled_from([(), ("fd00::53",)]),
)
routes = st.builds(
    static,
    st.sampled_from(["10.9.0.0/16", "0.0.0.0/0", "10.2.0.0/24"]),
    st.sampled_from([None, "10.1.0.2", "10.2.0.3", "10.9.9.9"]),
)


def _interface(number: int, address: int) -> RouterInterface:
    return interface(number, f"10.{number}.0.{address}", f"fd00:{number}::{address}")


routers = st.builds(
    lambda interfaces, number, identity, routes: router(
        *interfaces, number=number, id=f"router{identity}", routes=tuple(routes)
    ),
    st.lists(st.builds(_interface, numbers, st.integers(1, 2)), max_size=3),
    st.integers(1, 2),
    st.integers(1, 2),
    st.lists(routes, max_size=2),
)
machines = st.builds(
    machine,
    machine_names,
    st.sampled_from(["vm", "container"]),
    name=machine_names,
    host=hosts,
    migrating_to=other_ends,
    moved_from=other_ends,
    cpus=st.integers(1, 2),
)
host_names = st.sampled_from([HOST, "h2", "h3", "sw1"])
host_objects = st.builds(
    host,
    st.integers(1, 4),
    name=host_names,
    number=st.integers(1, 4),
    vtep=st.sampled_from(["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1", "", "x"]),
    udp_port=st.sampled_from([4789, 4789, 8472]),
)
ways = st.one_of(
    st.builds(detour, host_names, host_names),
    st.builds(path, host_names, st.one_of(st.none(), host_names), st.sampled_from([0, 1400])),
    st.builds(presence, machine_names.map(lambda name: f"machine-{name}"), here=st.booleans()),
)


def _fixed_ips(where: int, numbers: list[int]) -> tuple[FixedIp, ...]:
    return tuple(
        FixedIp(subnet_id=f"sub{family}-{where}", ip=f"{prefix}{number}")
        for number in numbers
        for family, prefix in ((4, f"10.{where}.0."), (6, f"fd00:{where}::"))
    )


group_names = st.sampled_from(["web", "db", "gone"])
group_lists = st.lists(group_names, max_size=2, unique=True).map(tuple)
prefixes4 = st.sampled_from(["10.0.0.0/8", "10.1.0.2/32", "0.0.0.0/0"])
prefixes6 = st.sampled_from(["fd00::/16", "::/0"])
prefixes = st.one_of(prefixes4, prefixes6)
address_pairs = st.lists(
    st.builds(address_pair, prefixes, st.sampled_from([None, "00:00:5e:00:01:01"])), max_size=2
).map(tuple)
groups = st.builds(group, group_names, st.integers(1, 4), stateful=st.sampled_from([True, False]))
address_groups = st.builds(address_group, st.sampled_from(["a", "b"]), st.integers(1, 4))
entries = st.builds(
    entry, prefixes, st.sampled_from(["a", "b"]), id=st.sampled_from(["e1", "e2", "e3"])
)
remotes = st.one_of(
    st.just({}),
    st.builds(lambda cidr: {"remote_cidr": cidr}, prefixes),
    st.builds(lambda name: {"remote_group_id": name}, group_names),
    st.builds(lambda name: {"address_group_id": name}, st.sampled_from(["a", "b", "c"])),
)
services = st.one_of(
    st.just({}),
    st.builds(
        lambda protocol, first, last: {"protocol": protocol, "port_min": first, "port_max": last},
        st.sampled_from([6, 17, 132]),
        st.integers(0, 20),
        st.integers(10, 40),
    ),
    st.sampled_from([{"protocol": 1}, {"protocol": 1, "port_min": 8}, {"protocol": 58}]),
)


def _rule(
    identity: int, number: int, of: str, remote: dict[str, object], service: dict[str, object]
) -> AnyResource:
    version = 6 if ":" in str(remote.get("remote_cidr")) else 4
    fields = {"id": f"rule{identity}", "ip_version": version} | remote | service
    return rule(number, of, **fields)


rules = st.builds(_rule, st.integers(1, 5), st.integers(1, 6), group_names, remotes, services)
policies = st.builds(
    qos,
    dscp=st.sampled_from([None, 46]),
    bandwidth_from_vm=st.sampled_from([None, {"rate": 10**6, "burst": 65536}]),
)
ports = st.builds(
    port,
    numbers,
    port_numbers,
    machine_names,
    mac=st.sampled_from(["fa:16:3e:00:01:01", *(f"fa:16:3e:02:00:{n:02x}" for n in range(9)), "x"]),
    fixed_ips=st.builds(_fixed_ips, numbers, st.lists(port_numbers, max_size=2)),
    nic=st.integers(0, 2),
    host=hosts,
    migrating_to=other_ends,
    moved_from=other_ends,
    security_group_ids=st.lists(group_names, max_size=3).map(tuple),
    port_security=st.booleans(),
    address_pairs=address_pairs,
    qos_policy_id=st.sampled_from([None, "gold"]),
)
sound_ports = st.builds(
    port,
    numbers,
    port_numbers,
    machine_names,
    nic=st.integers(0, 2),
    security_group_ids=group_lists,
)
cluster: st.SearchStrategy[AnyResource] = st.one_of(host_objects, host_objects, ways)
connectivity: st.SearchStrategy[AnyResource] = st.one_of(
    cluster,
    networks,
    networks,
    subnets4,
    subnets6,
    routers,
    machines,
    ports,
    sound_ports,
    sound_ports,
)
policy: st.SearchStrategy[AnyResource] = st.one_of(
    groups, address_groups, entries, rules, rules, rules, policies
)
resources = st.one_of(connectivity, policy)
writes: st.SearchStrategy[Change] = resources.map(lambda r: (r.kind, r.id, r))
deletions: st.SearchStrategy[Change] = resources.map(lambda r: (r.kind, r.id, None))
# A host that already has something, then transactions of several changes.
beginnings = st.sampled_from(list(STATES.values())).map(
    lambda objects: [(r.kind, r.id, r) for r in objects]
)
transactions = st.lists(st.lists(st.one_of(writes, writes, deletions), max_size=8), max_size=8)

# Policy alone, among ports that are there, in networks that no router joins.
POLICY_WORLD: list[AnyResource] = [
    *(network(n) for n in (1, 2, 3)),
    *(machine(f"m{n}") for n in (1, 2, 3)),
    *(port(n, n, f"m{n}", security_group_ids=("web", "db", "gone")[:n]) for n in (1, 2, 3)),
    *(port(n, 4, "m9", host="h2", security_group_ids=("db",)) for n in (1, 2)),
    *(group(label, n) for n, label in enumerate(("web", "db", "gone"), 1)),
    *(address_group(label, n) for n, label in enumerate(("a", "b"), 11)),
    rule(1, "web", remote_group_id="db"),
    rule(2, "web", address_group_id="a"),
    rule(3, "db", remote_group_id="web"),
    entry("10.0.0.0/8", "a", id="e1"),
]
plugged_ports = st.builds(
    lambda n, groups: port(n, n, f"m{n}", security_group_ids=groups), numbers, group_lists
)
sound_rules = st.builds(
    lambda n, of, remote, service: rule(n, of, **(remote | service)),
    st.integers(1, 7),
    group_names,
    st.one_of(
        st.builds(lambda name: {"remote_group_id": name}, group_names),
        st.builds(lambda name: {"address_group_id": name}, st.sampled_from(["a", "b"])),
        st.builds(lambda cidr: {"remote_cidr": cidr}, prefixes4),
    ),
    st.sampled_from([{}, {"protocol": 6, "port_min": 3, "port_max": 9}, {"protocol": 6}]),
)
policy_changes = st.one_of(policy, policy, sound_rules, sound_rules, plugged_ports).flatmap(
    lambda r: st.sampled_from([(r.kind, r.id, r), (r.kind, r.id, r), (r.kind, r.id, None)])
)
policy_transactions = st.lists(st.lists(policy_changes, min_size=1, max_size=3), max_size=12)
policy_beginning = [(r.kind, r.id, r) for r in POLICY_WORLD]

# Other hosts alone: sound, and few, so that most changes matter.
CLUSTER_WORLD: list[AnyResource] = [
    *(host(n) for n in (1, 2, 3)),
    *dual_stack(1, 2),
    network(3),
    subnet4(3),
    machine("m1"),
    port(1, 1, "m1"),
    *(port(n, 2, "m9", host="h2") for n in (1, 2, 3)),
]
sound_hosts = st.builds(
    lambda number, vtep: host(number, vtep=vtep or f"192.0.2.{number}"),
    st.integers(1, 4),
    st.sampled_from(["", "", "192.0.2.9", "2001:db8::9"]),
)
far_ports = st.builds(
    port,
    numbers,
    port_numbers,
    st.just("m9"),
    host=st.sampled_from(["h2", "h3", "h4"]),
    migrating_to=st.sampled_from(["", "", "h3", HOST]),
)
moving_ports = st.builds(
    port,
    numbers,
    st.just(1),
    host=st.sampled_from([HOST, "h2", "h3"]),
    migrating_to=other_ends,
    moved_from=other_ends,
    nic=st.integers(0, 3),
)
moving_machines = st.builds(
    machine,
    st.just("m1"),
    host=st.sampled_from([HOST, "h2", "h3"]),
    migrating_to=other_ends,
    moved_from=other_ends,
)
sound_networks = st.builds(
    network,
    numbers,
    flood_group=st.sampled_from([None, None, "239.0.0.1", "239.0.0.2"]),
    foreign_members=st.sampled_from([(), (foreign("sw1", learn=True),), (foreign("h4"),)]),
)
sound_routers = st.builds(
    lambda ends: router(*map(interface, sorted(ends))), st.sets(numbers, max_size=3)
)
cluster_changes = st.one_of(
    sound_hosts,
    ways,
    far_ports,
    far_ports,
    moving_ports,
    moving_machines,
    sound_networks,
    sound_routers,
).flatmap(lambda r: st.sampled_from([(r.kind, r.id, r), (r.kind, r.id, r), (r.kind, r.id, None)]))
cluster_transactions = st.lists(st.lists(cluster_changes, min_size=1, max_size=4), max_size=12)
cluster_beginning = [(r.kind, r.id, r) for r in CLUSTER_WORLD]
histories = st.one_of(
    st.builds(lambda first, rest: [first, *rest], beginnings, transactions),
    st.builds(lambda rest: [cluster_beginning, *rest], cluster_transactions),
    st.builds(lambda rest: [policy_beginning, *rest], policy_transactions),
)


def unneeded(before: HostState, delta: HostDelta) -> list[object]:
    """What a delta sets to what it was already."""
    pairs = ((before.rows, delta.rows), (before.links, delta.links))
    found: list[object] = [k for old, new in pairs for k in new if old.get(k) == new[k]]
    found += [k for k, value in delta.machines.items() if before.machines.get(k) == value]
    return found + [n for n, there in delta.namespaces.items() if (n in before.namespaces) == there]


def vnis_of(state: HostState, delta: HostDelta) -> set[int]:
    """Networks that the changed rows are about, as they are in ``state``."""
    return {
        vni
        for key in delta.rows
        if key in state.rows and key.table != "set_members"
        for vni in _vnis(state, key)
    }


def _vnis(state: HostState, key: RowKey) -> set[int]:
    fields = (key.key, state.rows[key])
    if key.table in ("ra_templates", "tunnel_networks"):
        return {int(str(key.key))}
    return {vni for part in fields if (vni := getattr(part, "network", 0))}


def _added(links: dict[str, Link | None]) -> dict[str, Link]:
    return {name: link for name, link in links.items() if link is not None}


@given(histories)
@settings(max_examples=300, deadline=None)
def test_incremental_equals_full(sequence: list[list[Change]]) -> None:
    compiler = Compiler(HOST, LIMITS)
    objects: dict[ObjectKey, AnyResource] = {}
    for changes in sequence:
        before = snapshot(compiler.state)
        foreseen: list[Link] = []
        delta = compiler.update(changes, foreseen.append)
        for kind, object_id, value in changes:
            objects.pop((kind, object_id), None)
            if value is not None:
                objects[kind, object_id] = value
        full = Compiler(HOST, LIMITS)
        full.update((r.kind, r.id, r) for r in objects.values())
        assert compiler.state == full.state
        assert compiler.errors == full.errors
        assert patch(before, delta) == full.state
        assert not unneeded(before, delta)
        assert {link.name: link for link in foreseen}.items() >= _added(delta.links).items()
        assert delta.tunnel_changed == (before.tunnel != full.state.tunnel)
        assert vnis_of(before, delta) | vnis_of(compiler.state, delta) <= delta.touched
        assert must_touch(before, compiler.state) <= delta.touched


def leftovers(part: object) -> Iterator[object]:
    """Everything that the compiler and its parts still remember."""
    for value in vars(part).values():
        if isinstance(value, dict | list | set):
            yield from value
        elif type(value).__module__.startswith("heddle.compiler") and hasattr(value, "__dict__"):
            yield from leftovers(value)


@given(histories)
@settings(max_examples=50, deadline=None)
def test_deleting_everything_leaves_nothing(sequence: list[list[Change]]) -> None:
    compiler = Compiler(HOST, LIMITS)
    keys: dict[ObjectKey, None] = {}
    for changes in sequence:
        compiler.update(changes)
        keys |= dict.fromkeys((kind, object_id) for kind, object_id, _ in changes)
    compiler.update([(kind, object_id, None) for kind, object_id in keys])
    assert compiler.state == HostState()
    assert compiler.errors == {}
    assert list(leftovers(compiler)) == []


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_order_of_objects_does_not_matter(data: st.DataObject) -> None:
    objects = data.draw(st.lists(resources, max_size=25, unique_by=lambda r: (r.kind, r.id)))
    shuffled = data.draw(st.permutations(objects))
    assert compile_host(objects, HOST) == compile_host(shuffled, HOST)


def test_limits_are_met() -> None:
    """The sequences above are of use only if some objects hit the limits."""
    compiler = Compiler(HOST, LIMITS)
    wide = [network(1), subnet4(1, dns=("9.9.9.9", "8.8.8.8"), host_routes=ROUTES), router()]
    compiler.update((r.kind, r.id, r) for r in wide)
    assert set(compiler.errors) == {(Kind.SUBNET, "sub4-1")}


ROUTES = (host_route("10.8.0.0/15", "10.1.0.9"),)
