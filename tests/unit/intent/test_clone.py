"""A copy of networks: what is the same in it, what is its own, and what is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from heddle.errors import ConflictError, NotFoundError, RequestError
from heddle.intent.clone import clone, clone_origin, originals
from heddle.intent.expand import expand
from heddle.intent.model import (
    AnyResource,
    Kind,
    Machine,
    Network,
    Port,
    Router,
    Subnet,
)
from heddle.intent.topology import Topology
from heddle.store.interface import Snapshot

TEXT = """
version: 1
networks:
  web: {cidr: [172.17.17.0/24, "fd00:17::/64"]}
  db: {cidr: 192.168.0.0/24}
  lone: {cidr: 10.5.0.0/24}
routers:
  main: {networks: [web, db], routes: [{to: 10.9.0.0/16, via: 192.168.0.9}]}
machines:
  vm0: {nics: [{network: web}, {network: db, address: 192.168.0.2}]}
  box: {kind: container, nics: [{network: web}]}
  other: {kind: container, nics: [{network: lone}]}
"""


def snapshot(objects: list[AnyResource]) -> Snapshot:
    found: dict[Kind, dict[str, AnyResource]] = {kind: {} for kind in Kind}
    for item in objects:
        found[item.kind][item.id] = item
    return Snapshot(1, found)


@pytest.fixture
def objects(load: Callable[..., Topology]) -> list[AnyResource]:
    topology = load(TEXT)
    return expand(topology, snapshot([]), "h1", topology.origin)


def of(items: list[AnyResource], model: type[AnyResource]) -> dict[str, AnyResource]:
    return {item.name: item for item in items if isinstance(item, model)}


def test_what_a_copy_has(objects: list[AnyResource]) -> None:
    stored = snapshot(objects)
    made = clone(stored, originals(stored, ["web", "db"]), "test", {})
    assert Counter(item.kind for item in made) == {
        Kind.NETWORK: 2,
        Kind.SUBNET: 3,
        Kind.ROUTER: 1,
        Kind.MACHINE: 2,
        Kind.PORT: 3,
    }
    assert all(item.name.startswith("test-") for item in made)
    assert {item.origin for item in made} == {clone_origin("test")}
    assert not {item.id for item in made} & {item.id for item in objects}


def test_macs_and_addresses_are_the_same(objects: list[AnyResource]) -> None:
    stored = snapshot(objects)
    made = clone(stored, originals(stored, ["web", "db"]), "test", {})
    for name, copy in of(made, Port).items():
        original = of(objects, Port)[name.removeprefix("test-")]
        assert isinstance(copy, Port)
        assert isinstance(original, Port)
        assert copy.mac == original.mac
        assert [a.ip for a in copy.fixed_ips] == [a.ip for a in original.fixed_ips]
        assert copy.security_group_ids == original.security_group_ids
    copy_of_main, main = of(made, Router)["test-main"], of(objects, Router)["main"]
    assert isinstance(copy_of_main, Router)
    assert isinstance(main, Router)
    sides = [[(i.mac, i.addresses) for i in each.interfaces] for each in (copy_of_main, main)]
    assert sides[0] == sides[1]
    assert copy_of_main.routes == main.routes


def test_numbers_are_its_own(objects: list[AnyResource]) -> None:
    stored = snapshot(objects)
    made = clone(stored, originals(stored, ["web", "db"]), "test", {})
    for model, field in ((Network, "vni"), (Subnet, "number"), (Router, "number")):
        numbers = [getattr(item, field) for item in [*made, *objects] if isinstance(item, model)]
        assert len(set(numbers)) == len(numbers)


def test_nothing_of_it_refers_to_an_original(objects: list[AnyResource]) -> None:
    """But for what is shared: groups and policies."""
    stored = snapshot(objects)
    made = clone(stored, originals(stored, ["web", "db"]), "test", {})
    shared = {Kind.SECURITY_GROUP, Kind.SECURITY_GROUP_RULE, Kind.ADDRESS_GROUP, Kind.QOS_POLICY}
    foreign = {item.id for item in objects if item.kind not in shared}
    text = " ".join(item.model_dump_json() for item in made)
    assert not [name for name in foreign if name in text]


def test_a_copy_of_a_copy(objects: list[AnyResource]) -> None:
    stored = snapshot(objects)
    first = clone(stored, originals(stored, ["lone"]), "a", {})
    stored = snapshot([*objects, *first])
    second = clone(stored, originals(stored, ["a-lone"]), "b", {})
    assert of(second, Machine).keys() == {"b-a-other"}


def test_what_runs_runs_in_the_copy_as_well(objects: list[AnyResource]) -> None:
    busy = {"running": True, "paused": True, "saved": "/x", "migrating_to": "h2"}
    changed = [i.model_copy(update=busy) if isinstance(i, Machine) else i for i in objects]
    stored = snapshot(changed)
    for machine in of(clone(stored, originals(stored, ["lone"]), "t", {}), Machine).values():
        assert isinstance(machine, Machine)
        assert (machine.running, machine.paused, machine.saved) == (True, False, "")
        assert (machine.host, machine.migrating_to) == ("h1", "")


def test_a_disk_is_its_own(objects: list[AnyResource]) -> None:
    changed = [i.model_copy(update={"image": "/x.raw"}) if i.name == "vm0" else i for i in objects]
    stored = snapshot(changed)
    found = originals(stored, ["web", "db"])
    (machine_id,) = [m.id for m in found.machines if m.name == "vm0"]
    copy = of(clone(stored, found, "t", {machine_id: "/y.raw"}), Machine)["t-vm0"]
    assert isinstance(copy, Machine)
    assert copy.image == "/y.raw"


def test_what_can_not_be_copied(objects: list[AnyResource]) -> None:
    stored = snapshot(objects)
    with pytest.raises(NotFoundError, match="no network 'wed'; there is: db, lone, web"):
        originals(stored, ["wed"])
    with pytest.raises(RequestError, match="machine vm0 is in network db as well: name that, too"):
        originals(stored, ["web"])
    text = "router main joins network web as well: name that, too"
    no_vm = [item for item in objects if item.name not in ("vm0/web",)]
    with pytest.raises(RequestError, match=text):
        originals(snapshot(no_vm), ["db"])


def test_names_that_are_taken(objects: list[AnyResource]) -> None:
    stored = snapshot(objects)
    made = clone(stored, originals(stored, ["lone"]), "t", {})
    with pytest.raises(ConflictError, match=r"there is a clone 't' already: .* --remove t"):
        clone(snapshot([*objects, *made]), originals(stored, ["lone"]), "t", {})
    taken = [item.model_copy(update={"origin": "/a.yaml"}) for item in made]
    with pytest.raises(ConflictError, match="there is a network t-lone already"):
        clone(snapshot([*objects, *taken]), originals(stored, ["lone"]), "t", {})
