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
from heddle.intent.expand import expand
from heddle.intent.model import AnyResource, Kind, Network, Port, Router, Subnet
from heddle.intent.names import PROJECT_ORIGIN
from heddle.intent.plan import plan
from heddle.intent.reference import TABLES
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
    return found


@st.composite
def topologies(draw: st.DrawFn) -> dict[str, Any]:
    """The data of a topology file without mistakes."""
    nets = draw(networks())
    some_networks = st.lists(st.sampled_from(sorted(nets)), unique=True)
    machines: dict[str, Any] = {}
    free = {name: iter(range(20, 30)) for name in nets}
    for name in draw(st.lists(st.sampled_from(MACHINES), unique=True)):
        nics = []
        for network in draw(st.lists(st.sampled_from(sorted(nets)), max_size=3)):
            nic: dict[str, Any] = {"network": network}
            host = next(free[network], None)
            if host is not None and draw(st.booleans()):
                nic["address"] = f"10.{NETWORKS.index(network)}.0.{host}"
            nics.append(nic)
        kind = draw(st.sampled_from(["vm", "container"]))
        machines[name] = {"kind": kind, "nics": nics}
    return {
        "version": 1,
        "networks": nets,
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
        return load_topology(file, "box")


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


EMPTY = store_of([])

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
    ids = {one.id for one in left if one.origin != PROJECT_ORIGIN}
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
def test_nothing_is_given_out_twice(first: dict[str, Any], second: dict[str, Any]) -> None:
    resources = resources_of(second, apply(first, EMPTY))
    claims: Counter[tuple[str, ...]] = Counter()
    for one in resources:
        if isinstance(one, Network):
            claims["vni", str(one.vni)] += 1
        elif isinstance(one, Subnet | Router):
            claims[one.kind, str(one.number)] += 1
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
