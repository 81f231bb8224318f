"""A copy of networks: what is the same in it, what is its own, and what is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TypeVar

import pytest

from heddle.errors import ConflictError, NotFoundError, RequestError
from heddle.intent.claims import claims_of
from heddle.intent.clone import clone, clone_origin, originals
from heddle.intent.expand import expand
from heddle.intent.expand_policy import security_group_id
from heddle.intent.model import (
    AddressGroupEntry,
    AnyResource,
    Kind,
    Machine,
    Port,
    Resource,
    Router,
    SecurityGroup,
    SecurityGroupRule,
)
from heddle.intent.names import PROJECT_ORIGIN
from heddle.intent.plan import plan
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
address_groups:
  offices: [192.0.2.0/24]
  unused: [192.0.2.0/24]
security_groups:
  front: [{direction: to_vm, protocol: tcp, ports: 80, address_group: offices}]
  back: [{direction: to_vm, protocol: icmp, remote_group: front}]
  unused: [{direction: to_vm, protocol: icmp, remote_group: back}]
machines:
  vm0:
    nics:
      - {network: web}
      - {network: db, address: 192.168.0.2, security_groups: [back], rate: {to_vm: 1gbit}}
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


ResourceT = TypeVar("ResourceT", bound=Resource)


def of(items: list[AnyResource], model: type[ResourceT]) -> dict[str, ResourceT]:
    return {item.name: item for item in items if isinstance(item, model)}


def test_what_a_copy_has(objects: list[AnyResource]) -> None:
    stored = snapshot(objects)
    made = clone(stored, originals(stored, ["web", "db"]), "test", {})
    assert Counter(item.kind for item in made) == {
        Kind.NETWORK: 2,
        Kind.SUBNET: 3,
        Kind.ROUTER: 1,
        Kind.ADDRESS_GROUP: 1,
        Kind.ADDRESS_GROUP_ENTRY: 1,
        Kind.SECURITY_GROUP: 2,
        Kind.SECURITY_GROUP_RULE: 3,  # icmp, and tcp of each IP version
        Kind.QOS_POLICY: 1,
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
    copy_of_main, main = of(made, Router)["test-main"], of(objects, Router)["main"]
    assert isinstance(copy_of_main, Router)
    assert isinstance(main, Router)
    sides = [[(i.mac, i.addresses) for i in each.interfaces] for each in (copy_of_main, main)]
    assert sides[0] == sides[1]
    assert copy_of_main.routes == main.routes


def test_numbers_are_its_own(objects: list[AnyResource]) -> None:
    stored = snapshot(objects)
    made = clone(stored, originals(stored, ["web", "db"]), "test", {})
    claims = Counter(claim for item in [*made, *objects] for claim in claims_of(item))
    assert set(claims.values()) == {1}


def test_nothing_of_it_refers_to_an_original(objects: list[AnyResource]) -> None:
    """But for what is the project's own."""
    stored = snapshot(objects)
    made = clone(stored, originals(stored, ["web", "db"]), "test", {})
    foreign = {item.id for item in objects if item.origin != PROJECT_ORIGIN}
    text = " ".join(item.model_dump_json() for item in made)
    assert not [name for name in foreign if name in text]


def test_its_groups_are_told_what_the_originals_are(objects: list[AnyResource]) -> None:
    stored = snapshot(objects)
    made = clone(stored, originals(stored, ["web", "db"]), "test", {})
    groups, rules = of(made, SecurityGroup), of(made, SecurityGroupRule)
    asked = {rule.security_group_id: rule for rule in rules.values()}
    assert asked[groups["test-back"].id].remote_group_id == groups["test-front"].id
    (entry,) = of(made, AddressGroupEntry).values()
    assert asked[groups["test-front"].id].address_group_id == entry.address_group_id
    ports = of(made, Port)
    assert ports["test-vm0/db"].security_group_ids == (groups["test-back"].id,)
    assert ports["test-vm0/web"].security_group_ids == (security_group_id("default"),)


def test_a_file_may_change_and_go_while_a_copy_is_there(objects: list[AnyResource]) -> None:
    stored = snapshot(objects)
    made = clone(stored, originals(stored, ["web", "db"]), "test", {})
    own = [item for item in objects if item.origin == PROJECT_ORIGIN]
    gone = plan(snapshot([*objects, *made]), own, objects[0].origin)
    assert {item.id for item in gone.delete} == {i.id for i in objects} - {i.id for i in own}


def test_who_has_what_a_copy_has_is_told(objects: list[AnyResource]) -> None:
    made = clone(snapshot(objects), originals(snapshot(objects), ["lone"]), "test", {})
    with pytest.raises(
        ConflictError,
        match="network test-lone: belongs to the clone test already; rename it here, or take "
        "that one away with: heddle clone --remove test",
    ):
        plan(snapshot([*objects, *made]), [made[0].model_copy(update={"origin": "/b"})], "/b")


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
