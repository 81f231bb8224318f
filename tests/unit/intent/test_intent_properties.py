"""What holds for every topology, found by trying many."""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from heddle.errors import TopologyError
from heddle.intent.conflicts import AGENT_ORIGIN
from heddle.intent.expand import expand
from heddle.intent.hosts import registered_host
from heddle.intent.model import (
    AddressGroup,
    AnyResource,
    Kind,
    Machine,
    Network,
    Port,
    Router,
    SecurityGroup,
    SecurityGroupRule,
    Subnet,
)
from heddle.intent.names import PROJECT_ORIGIN
from heddle.intent.plan import plan
from heddle.intent.reference import TABLES
from heddle.intent.stored import stored_of
from heddle.intent.topology import Topology, load_topology
from heddle.store.interface import Snapshot

NETWORKS = ["web", "db", "app", "lan"]
MACHINES = ["vm0", "vm1", "vm2", "vm10", "edge", "gate"]

many = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def networks(draw: st.DrawFn) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in draw(st.lists(st.sampled_from(NETWORKS), unique=True, min_size=1)):
        index = NETWORKS.index(name)
        subnets: list[Any] = [f"10.{index}.0.0/27"]
        six = draw(st.sampled_from([None, "slaac", "dhcpv6-stateful", "dhcpv6-stateless"]))
        if six:
            subnets.append({"cidr": f"fd00:{index}::/64", "ipv6_mode": six})
        if draw(st.booleans()):
            subnets.reverse()
        found[name] = {"cidr": subnets}
        if draw(st.booleans()):
            found[name]["vni"] = draw(st.integers(1, 3)) * 10 + index
        if draw(st.booleans()):
            found[name]["flood"] = "239.0.0.1"
        if draw(st.booleans()):
            behind = {f"02:00:00:00:00:0{index}": draw(st.sampled_from([None, f"10.{index}.0.2"]))}
            found[name]["foreign"] = {"sw1": {"learn": draw(st.booleans()), "macs": behind}}
    return found


PREFIXES = ["192.0.2.0/24", "192.0.2.7", "0.0.0.0/0", "2001:db8::/48", "::/0"]


@st.composite
def rules(draw: st.DrawFn, groups: list[str]) -> dict[str, Any]:
    """A rule that is right by itself."""
    rule: dict[str, Any] = {"direction": draw(st.sampled_from(["from_vm", "to_vm"]))}
    protocol = draw(st.sampled_from([None, "tcp", "udp", 132, 99, "icmp", "icmpv6"]))
    remote = draw(st.sampled_from([None, "remote", "remote_group", "address_group"]))
    if protocol is not None:
        rule["protocol"] = protocol
    if protocol in ("tcp", "udp", 132) and draw(st.booleans()):
        rule["ports"] = draw(st.sampled_from([80, "80-443"]))
    if str(protocol).startswith("icmp") and draw(st.booleans()):
        rule["icmp_type"] = draw(st.sampled_from([0, 8]))
        if draw(st.booleans()):
            rule["icmp_code"] = 0
    only = {"icmp": "4", "icmpv6": "6"}.get(str(protocol))
    if remote == "remote":
        fitting = [one for one in PREFIXES if only in (None, "6" if ":" in one else "4")]
        rule["remote"] = draw(st.sampled_from(fitting))
    elif remote == "remote_group":
        rule["remote_group"] = draw(st.sampled_from([*groups, "default"]))
    elif remote == "address_group":
        rule["address_group"] = "offices"
    elif only is None and draw(st.booleans()):
        rule["ethertype"] = draw(st.sampled_from(["ipv4", "ipv6"]))
    return rule


def meanings(group: str, rule: dict[str, Any]) -> set[tuple[object, ...]]:
    """What a rule allows, per IP version, worked out from the file alone."""
    remote = rule.get("remote")
    remote = str(ip_network(remote)) if remote else None
    versions = {4, 6}
    if remote is not None:
        versions &= {6 if ":" in remote else 4}
    if "ethertype" in rule:
        versions &= {int(rule["ethertype"][-1])}
    versions -= {"icmp": {6}, "icmpv6": {4}}.get(rule.get("protocol"), set())
    keys = ("direction", "protocol", "ports", "icmp_type", "icmp_code")
    rest = [rule.get(key) for key in (*keys, "remote_group", "address_group")]
    everything = (None, "0.0.0.0/0", "::/0")
    end = None if remote in everything else remote
    return {(group, version, end, *rest) for version in versions}


@st.composite
def policies(draw: st.DrawFn) -> dict[str, Any]:
    """The sections of a file about groups, without mistakes."""
    names = draw(st.lists(st.sampled_from(["web", "db", "all"]), unique=True))
    groups: dict[str, Any] = {}
    for name in names:
        seen: set[tuple[object, ...]] = set()
        groups[name] = []
        for rule in draw(st.lists(rules(names), max_size=6)):
            found = meanings(name, rule)
            if not found & seen:
                groups[name].append(rule)
                seen |= found
    # Of one family alone, a rule for the other one would be refused.
    prefixes = st.lists(st.sampled_from(PREFIXES), unique=True)
    entries = draw(prefixes.filter(lambda found: len({":" in one for one in found}) != 1))
    return {"address_groups": {"offices": entries}, "security_groups": groups}


@st.composite
def nic_policies(draw: st.DrawFn, groups: list[str]) -> dict[str, Any]:
    """Keys of a NIC about what may pass, and how fast."""
    keys: dict[str, Any] = {}
    if draw(st.booleans()):
        keys["port_security"] = False
    elif draw(st.booleans()):
        names = st.lists(st.sampled_from([*groups, "default"]), unique=True)
        keys["security_groups"] = draw(names)
    if draw(st.booleans()):
        keys["rate"] = draw(st.sampled_from([{}, {"from_vm": "1mbit"}, {"packets_to_vm": 10}]))
    if draw(st.booleans()):
        keys["dscp"] = draw(st.integers(0, 63))
    return keys


@st.composite
def topologies(draw: st.DrawFn) -> dict[str, Any]:
    """The data of a topology file without mistakes."""
    nets = draw(networks())
    groups = draw(policies())
    some_networks = st.lists(st.sampled_from(sorted(nets)), unique=True)
    machines: dict[str, Any] = {}
    free = {name: iter(range(20, 30)) for name in nets}
    for name in draw(st.lists(st.sampled_from(MACHINES), unique=True)):
        nics = []
        for network in draw(st.lists(st.sampled_from(sorted(nets)), max_size=3)):
            nic = {"network": network, **draw(nic_policies(sorted(groups["security_groups"])))}
            host = next(free[network], None)
            if host is not None and draw(st.booleans()):
                nic["address"] = f"10.{NETWORKS.index(network)}.0.{host}"
            nics.append(nic)
        kind = draw(st.sampled_from(["vm", "container"]))
        machines[name] = {"kind": kind, "nics": nics}
        if draw(st.booleans()):
            machines[name]["host"] = draw(st.sampled_from(["h1", "h2"]))
    relay = draw(st.sampled_from([{}, {"relay": "h1"}]))
    return {
        "version": 1,
        "hosts": {"h1": {}, "h2": relay, "sw1": {"foreign": True, "vtep": "192.0.2.9"}},
        "networks": nets,
        **groups,
        "routers": {"main": {"networks": draw(some_networks)}},
        "machines": machines,
    }


def shuffled(data: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    """The same mappings in another order; lists keep theirs."""
    items = [
        (key, shuffled(value, chance) if isinstance(value, dict) else value)
        for key, value in data.items()
    ]
    chance.shuffle(items)
    return dict(items)


def load_text(text: str) -> Topology:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "net.yaml"
        file.write_bytes(text.encode(errors="surrogatepass"))
        return load_topology(file)


def load(data: dict[str, Any]) -> Topology:
    return load_text(yaml.safe_dump(data, sort_keys=False))


def resources_of(data: dict[str, Any], stored: Snapshot) -> list[AnyResource]:
    return expand(load(data), stored, "box", "net.yaml")


def store_of(resources: Iterable[AnyResource]) -> Snapshot:
    objects: dict[Kind, dict[str, AnyResource]] = {kind: {} for kind in Kind}
    for resource in resources:
        objects[resource.kind][resource.id] = resource
    return Snapshot(1, objects)


def apply(data: dict[str, Any], stored: Snapshot) -> Snapshot:
    """The store after the plan was carried out."""
    found = plan(stored, resources_of(data, stored), "net.yaml")
    kept = {
        (kind, key): one for kind, objects in stored.objects.items() for key, one in objects.items()
    }
    kept.update({(one.kind, one.id): one for one in found.put})
    for removed in found.removed:
        del kept[removed]
    return store_of(kept.values())


# Two hosts, and nothing on them.
FIRST = registered_host(store_of([]), "h1", vtep="192.0.2.1")
EMPTY = store_of([FIRST, registered_host(store_of([FIRST]), "h2", vtep="192.0.2.2")])

KEYS = sorted(
    {key for model in TABLES.values() for key in model.model_fields} | {"web", "vm0", "10", ""}
)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-1, 1 << 65),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["web", "10.0.0.0/24", "10.0.0.1", "fd00::/64", "fd00::1", "container", "1G"]),
)
ANYTHING = st.recursive(
    VALUES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6)
    ),
    max_leaves=40,
)


@settings(many, max_examples=150)
@given(st.dictionaries(st.sampled_from(KEYS), ANYTHING, max_size=6), st.booleans())
def test_any_data_is_right_or_a_topology_error(data: dict[str, Any], with_version: bool) -> None:
    file = {**data, "version": 1} if with_version else data
    with suppress(TopologyError):
        resources_of(file, EMPTY)


@settings(many, max_examples=150)
@given(st.one_of(st.text(max_size=60), st.text(alphabet="ab:-{}[]&*!|>'\"#,? \n\t1", max_size=60)))
def test_any_text_is_right_or_a_topology_error(text: str) -> None:
    with suppress(TopologyError):
        load_text(f"version: 1\n{text}")


@settings(many, max_examples=150)
@given(topologies(), st.data())
def test_a_damaged_topology_is_right_or_a_topology_error(
    data: dict[str, Any], choice: st.DataObject
) -> None:
    """One value somewhere in a good file is replaced by something else."""
    place: Any = data
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return
        key = choice.draw(st.sampled_from(keys))
        if not isinstance(place[key], dict | list) or choice.draw(st.integers(0, 3)) == 0:
            break
        place = place[key]
    place[key] = choice.draw(ANYTHING)
    with suppress(TopologyError):
        resources_of(data, EMPTY)


@many
@given(topologies())
def test_the_plan_of_an_applied_file_is_empty(data: dict[str, Any]) -> None:
    stored = apply(data, EMPTY)
    assert plan(stored, resources_of(data, stored), "net.yaml").lines() == []


@many
@given(topologies(), topologies())
def test_the_plan_is_empty_also_after_another_file(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    stored = apply(second, apply(first, EMPTY))
    assert plan(stored, resources_of(second, stored), "net.yaml").lines() == []
    wanted = resources_of(second, stored)
    left = (one for objects in stored.objects.values() for one in objects.values())
    ids = {one.id for one in left if one.origin not in (PROJECT_ORIGIN, AGENT_ORIGIN)}
    assert {one.id for one in wanted if one.origin != PROJECT_ORIGIN} == ids


@many
@given(topologies(), topologies(), st.randoms(use_true_random=False))
def test_the_order_of_a_file_does_not_matter(
    first: dict[str, Any], second: dict[str, Any], chance: random.Random
) -> None:
    stored = apply(first, EMPTY)
    assert resources_of(second, stored) == resources_of(shuffled(second, chance), stored)


@many
@given(topologies(), topologies())
def test_ids_do_not_depend_on_the_store(first: dict[str, Any], second: dict[str, Any]) -> None:
    fresh = [(one.kind, one.id, one.name) for one in resources_of(second, EMPTY)]
    later = [(one.kind, one.id, one.name) for one in resources_of(second, apply(first, EMPTY))]
    assert fresh == later


@many
@given(topologies(), topologies())
def test_machines_are_moved_by_name_alone(first: dict[str, Any], second: dict[str, Any]) -> None:
    """One that the second file names no host for, or the host of the first, stays."""
    before = hosts_of(apply(first, EMPTY))
    after = hosts_of(apply(second, apply(first, EMPTY)))
    for name, machine in second["machines"].items():
        named = machine.get("host")
        stays = named is None or named == first["machines"].get(name, {}).get("host")
        if stays and name in before:
            assert after[name] == before[name]
        elif named is not None:
            assert after[name] == named


def hosts_of(stored: Snapshot) -> dict[str, str]:
    """Of machines by name; their ports are where they are."""
    machines = stored_of(stored, Machine)
    for port in stored_of(stored, Port).values():
        assert port.host == machines[port.machine_id].host
    return {machine.name: machine.host for machine in machines.values()}


@many
@given(topologies(), topologies())
def test_nothing_is_given_out_twice(first: dict[str, Any], second: dict[str, Any]) -> None:
    stored = apply(first, EMPTY)
    resources = resources_of(second, stored)
    claims: Counter[tuple[str, ...]] = Counter()
    for one in resources:
        claims["id", one.id] += 1
        claims["name", one.kind, one.name] += 1
        if isinstance(one, Network):
            claims["vni", str(one.vni)] += 1
            behind = [each for member in one.foreign_members for each in member.macs]
            claims.update(("mac", each.mac) for each in behind)
            claims.update(("address", one.id, each.address) for each in behind if each.address)
        elif isinstance(one, Subnet | Router | SecurityGroupRule):
            claims[one.kind, str(one.number)] += 1
        elif isinstance(one, AddressGroup | SecurityGroup):
            claims["set", str(one.number)] += 1
        elif isinstance(one, Port):
            claims["mac", one.mac] += 1
            claims["nic", one.machine_id, str(one.nic)] += 1
            claims.update(("address", one.network_id, fixed.ip) for fixed in one.fixed_ips)
        if isinstance(one, Router):
            claims.update(("mac", interface.mac) for interface in one.interfaces)
            claims.update(
                ("address", interface.network_id, address)
                for interface in one.interfaces
                for address in interface.addresses
            )
    assert claims.total() == len(claims), claims.most_common(3)


@many
@given(topologies(), topologies())
def test_ports_have_one_address_per_subnet_and_inside_it(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    resources = resources_of(second, apply(first, EMPTY))
    subnets = {one.id: one for one in resources if isinstance(one, Subnet)}
    for port in (one for one in resources if isinstance(one, Port)):
        own = [one for one in subnets.values() if one.network_id == port.network_id]
        assert {fixed.subnet_id for fixed in port.fixed_ips} == {one.id for one in own}
        for fixed in port.fixed_ips:
            subnet = subnets[fixed.subnet_id]
            assert ip_address(fixed.ip) in ip_network(subnet.cidr)
            assert fixed.ip != subnet.gateway_ip


@many
@given(topologies(), topologies())
def test_who_stays_keeps_mac_number_and_open_addresses(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    """Unless the second file names them."""
    second["networks"] = first["networks"]
    for machine in second["machines"].values():
        machine["nics"] = [
            {"network": nic["network"]}
            for nic in machine["nics"]
            if nic["network"] in first["networks"]
        ]
    second["routers"] = {}
    before = apply(first, EMPTY)
    for port in resources_of(second, before):
        old = before.objects[Kind.PORT].get(port.id)
        if isinstance(port, Port) and isinstance(old, Port):
            assert (port.mac, port.nic) == (old.mac, old.nic)
            assert port.fixed_ips == old.fixed_ips


@many
@given(policies())
def test_rules_become_what_they_mean(data: dict[str, Any]) -> None:
    """One object per meaning and IP version, under a name of its own."""
    wanted = set()
    for group, listed in data["security_groups"].items():
        for rule in listed:
            wanted |= meanings(group, rule)
    resources = resources_of({"version": 1, **data}, EMPTY)
    ids = {one.id: one.name for one in resources}
    found = {}
    for one in resources:
        if isinstance(one, SecurityGroupRule) and one.origin != PROJECT_ORIGIN:
            found[_meaning(one, ids)] = one.name
    assert set(found) == wanted
    assert len(set(found.values())) == len(wanted)


def _meaning(rule: SecurityGroupRule, names: dict[str, str]) -> tuple[object, ...]:
    """As ``meanings`` has it, from the object."""
    protocols = {6: "tcp", 17: "udp", 1: "icmp", 58: "icmpv6"}
    ports = None
    icmp = (None, None)
    if rule.protocol in (1, 58):
        icmp = (rule.port_min, rule.port_max)
    elif rule.port_min is not None:
        ports = {80: 80, 443: "80-443"}[rule.port_max or 0]
    return (
        names[rule.security_group_id],
        rule.ip_version,
        rule.remote_cidr,
        rule.direction.value,
        protocols.get(rule.protocol or 0, rule.protocol),
        ports,
        *icmp,
        names.get(rule.remote_group_id or ""),
        names.get(rule.address_group_id or ""),
    )
