"""What a plan says and does, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

import pytest

from heddle.errors import ConflictError
from heddle.intent.expand import expand
from heddle.intent.model import AnyResource, FixedIp, Kind, Machine, Network, Port
from heddle.intent.plan import Plan, plan
from heddle.intent.topology import Topology
from heddle.store.interface import Snapshot, Transaction
from heddle.store.sqlite import SqliteStore

LoadText = Callable[..., Topology]

FILE = """\
version: 1
networks:
  web: {cidr: 10.0.0.0/24, vni: 7}
  db: {cidr: 10.1.0.0/24, vni: 8}
routers:
  main: {networks: [web, db]}
machines:
  vm0: {nics: [{network: web, mac: 52:54:00:00:00:01}]}
"""


def snapshot(resources: Iterable[AnyResource] = ()) -> Snapshot:
    objects: dict[Kind, dict[str, AnyResource]] = {kind: {} for kind in Kind}
    for resource in resources:
        objects[resource.kind][resource.id] = resource
    return Snapshot(1, objects)


def resources_of(topology: Topology, stored: Snapshot) -> list[AnyResource]:
    return expand(topology, stored, "box", topology.origin)


def plan_of(topology: Topology, stored: Snapshot) -> Plan:
    return plan(stored, resources_of(topology, stored), topology.origin)


def applied(topology: Topology) -> Snapshot:
    return snapshot(resources_of(topology, snapshot()))


def test_a_plan_for_an_empty_store_creates_everything(load: LoadText) -> None:
    first = plan_of(load(FILE), snapshot())
    assert first
    assert (first.update, first.delete) == ((), ())
    assert first.lines() == [
        "+ network db: vni 8, mtu 1450",
        "+ network web: vni 7, mtu 1450",
        "+ subnet db/10.1.0.0/24: gateway 10.1.0.1, dhcp",
        "+ subnet web/10.0.0.0/24: gateway 10.0.0.1, dhcp",
        "+ router main: interface 10.0.0.1, interface 10.1.0.1",
        "+ security group default",
        "+ security group rule default from_vm to 0.0.0.0/0",
        "+ security group rule default from_vm to ::/0",
        "+ security group rule default to_vm ipv4 from group default",
        "+ security group rule default to_vm ipv6 from group default",
        "+ machine vm0: vm, image tiny, 1 cpu, 256M",
        "+ port vm0/web: 10.0.0.2, mac 52:54:00:00:00:01",
    ]


def test_a_second_plan_is_empty(load: LoadText) -> None:
    topology = load(FILE)
    second = plan_of(topology, applied(topology))
    assert not second
    assert second.lines() == []


def test_what_the_store_fills_in_is_no_difference(load: LoadText, tmp_path: Path) -> None:
    topology = load(FILE)
    with closing(SqliteStore(tmp_path / "store.sqlite")) as store:
        first = plan_of(topology, store.snapshot())
        store.commit(Transaction(put=first.put, delete=first.removed, expected_revision=0))
        assert not plan_of(topology, store.snapshot())


def test_changes_say_what_was_and_what_will_be(load: LoadText) -> None:
    before = applied(load(FILE))
    after = load(
        FILE.replace("vni: 7", "vni: 7, mtu: 1400, domain: a.example")
        .replace(
            "[web, db]}", "[web], routes: [{to: 10.9.0.0/16, via: 10.0.0.9}, {to: 10.8.0.0/16}]}"
        )
        .replace("52:54:00:00:00:01", "52:54:00:00:00:02, address: 10.0.0.5")
        .replace("vm0: {", "vm0: {memory: 1G, ")
    )
    assert plan_of(after, before).lines() == [
        "~ network web: mtu 1450 -> 1400, domain none -> a.example",
        "~ router main: interfaces -interface 10.1.0.1, "
        "routes +10.9.0.0/16 via 10.0.0.9 +10.8.0.0/16 blackhole",
        "~ machine vm0: memory 256M -> 1024M",
        "~ port vm0/web: mac 52:54:00:00:00:01 -> 52:54:00:00:00:02, fixed ips -10.0.0.2 +10.0.0.5",
    ]


def test_what_left_the_file_is_deleted_dependents_first(load: LoadText) -> None:
    before = applied(load(FILE))
    assert plan_of(load("version: 1\n"), before).lines() == [
        "- port vm0/web",
        "- machine vm0",
        "- router main",
        "- subnet web/10.0.0.0/24",
        "- subnet db/10.1.0.0/24",
        "- network web",
        "- network db",
    ]


def test_down_takes_away_what_the_file_owns_and_nothing_else(load: LoadText) -> None:
    topology = load(FILE)
    foreign = Machine(id="x", name="other", machine_kind="vm", host="box", origin="api")
    stored = snapshot([*resources_of(topology, snapshot()), foreign])
    down = plan(stored, [], topology.origin)
    assert len(down.delete) == 7
    assert ("machine", "x") not in down.removed


def test_a_running_machine_stays_running(load: LoadText) -> None:
    topology = load(FILE)
    stored = snapshot(
        one.model_copy(update={"running": True}) if isinstance(one, Machine) else one
        for one in resources_of(topology, snapshot())
    )
    assert not plan_of(topology, stored)


def test_starting_a_machine_is_a_change(load: LoadText) -> None:
    topology = load(FILE)
    started = [
        one.model_copy(update={"running": True}) if isinstance(one, Machine) else one
        for one in resources_of(topology, snapshot())
    ]
    assert plan(applied(topology), started, topology.origin).lines() == [
        "~ machine vm0: running no -> yes"
    ]


def test_names_of_another_file_are_refused_with_its_owner(load: LoadText) -> None:
    first, second = load(FILE), load("version: 1\nmachines: {vm0: }\n", name="second.yaml")
    with pytest.raises(ConflictError) as caught:
        plan_of(second, applied(first))
    assert str(caught.value) == (
        f"machine vm0: belongs to {first.origin} already; rename it here, or take that one away "
        f"with: heddle down {first.origin}"
    )


def test_two_files_with_the_same_names_get_a_line_per_name(load: LoadText) -> None:
    first, second = load(FILE), load(FILE, name="second.yaml")
    with pytest.raises(ConflictError) as caught:
        plan_of(second, applied(first))
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == [
        "network db",
        "network web",
        "router main",
        "machine vm0",
    ]


def test_what_another_owner_has_taken_is_refused(load: LoadText) -> None:
    topology = load(FILE.replace("{network: web,", "{network: web, address: 10.0.0.9,"))
    web, port = (
        next(one for one in resources_of(topology, snapshot()) if isinstance(one, model))
        for model in (Network, Port)
    )
    subnet = port.fixed_ips[0].subnet_id
    foreign: list[AnyResource] = [
        web.model_copy(update={"id": "net", "name": "theirs", "origin": "api"}),
        Port(
            id="port",
            name="theirs/0",
            origin="api",
            network_id=port.network_id,
            mac="52:54:00:00:00:01",
            fixed_ips=(FixedIp(subnet_id=subnet, ip="10.0.0.9"),),
            machine_id="m",
            host="box",
        ),
        Machine(id="m", name="VM0", machine_kind="vm", host="box", origin="api"),
    ]
    with pytest.raises(ConflictError) as caught:
        plan_of(topology, snapshot(foreign))
    remedy = "choose another, or remove that one first"
    number = web.vni
    assert sorted(str(caught.value).splitlines()) == sorted(
        [
            f"network db: VNI {number} is taken by network theirs of the API; {remedy}",
            f"machine vm0: machine name vm0 is taken by machine VM0 of the API; {remedy}",
            "port vm0/web: MAC 52:54:00:00:00:01 is taken by port theirs/0 of the API; " + remedy,
            f"port vm0/web: address 10.0.0.9 is taken by port theirs/0 of the API; {remedy}",
        ]
    )


def test_a_network_that_others_use_is_not_taken_away(load: LoadText) -> None:
    topology = load(FILE)
    resources = resources_of(topology, snapshot())
    (port,) = [one for one in resources if isinstance(one, Port)]
    foreign = port.model_copy(
        update={"id": "port", "name": "x", "origin": "api", "fixed_ips": (), "machine_id": "m"}
    )
    with pytest.raises(ConflictError) as caught:
        plan(snapshot([*resources, foreign]), [], topology.origin)
    assert str(caught.value) == (
        "network web: is in use by port x of the API; keep it, or remove that one first"
    )


def test_vnis_and_addresses_left_open_avoid_those_of_others(load: LoadText) -> None:
    topology = load(FILE.replace(", vni: 7", "").replace(", vni: 8", ""))
    web = next(one for one in resources_of(topology, snapshot()) if isinstance(one, Network))
    foreign = web.model_copy(update={"id": "net", "name": "theirs", "origin": "api"})
    planned = plan_of(topology, snapshot([foreign]))
    vnis = [one.vni for one in planned.create if isinstance(one, Network)]
    assert len({*vnis, foreign.vni}) == 3
