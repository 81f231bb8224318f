"""What plans say and do about groups, rules and rates, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

import pytest

from heddle.errors import ConflictError
from heddle.intent.expand import expand
from heddle.intent.model import AnyResource, Kind, Port, SecurityGroup, SecurityGroupRule
from heddle.intent.names import PROJECT_ORIGIN
from heddle.intent.plan import Plan, plan
from heddle.intent.topology import Topology
from heddle.store.interface import Snapshot, Transaction
from heddle.store.sqlite import SqliteStore

LoadText = Callable[..., Topology]

FILE = """\
version: 1
address_groups:
  offices: [192.0.2.0/24]
security_groups:
  web:
    - {direction: to_vm, protocol: tcp, ports: 80-443, address_group: offices, ethertype: ipv4}
  less: {stateful: false}
networks: {web: {cidr: 10.0.0.0/24, vni: 7}}
machines:
  vm0:
    nics:
      - network: web
        mac: 52:54:00:00:00:01
        security_groups: [web, less]
        allowed_address_pairs: [10.0.0.100, {address: 10.0.0.16/28, mac: "00:00:5e:00:01:01"}]
        rate: {from_vm: 500mbit, to_vm: 1gbit, burst: 1mb, minimum: 10mbit, packets_to_vm: 1000}
        dscp: 46
        connections: 500
"""

OWN = [
    "+ security group default",
    "+ security group rule default from_vm to 0.0.0.0/0",
    "+ security group rule default from_vm to ::/0",
    "+ security group rule default to_vm ipv4 from group default",
    "+ security group rule default to_vm ipv6 from group default",
]


def nic(name: str, keys: str = "") -> str:
    """A file with one network and one machine of this name, in the own group."""
    network = f"version: 1\nnetworks: {{{name}: {{cidr: 10.0.0.0/24}}}}\n"
    return f"{network}machines: {{{name}: {{nics: [{{network: {name}{keys}}}]}}}}\n"


def snapshot(resources: Iterable[AnyResource] = ()) -> Snapshot:
    objects: dict[Kind, dict[str, AnyResource]] = {kind: {} for kind in Kind}
    for resource in resources:
        objects[resource.kind][resource.id] = resource
    return Snapshot(1, objects)


def everything(stored: Snapshot) -> list[AnyResource]:
    return [one for objects in stored.objects.values() for one in objects.values()]


def plan_of(topology: Topology, stored: Snapshot) -> Plan:
    return plan(stored, expand(topology, stored, "box", topology.origin), topology.origin)


def after(found: Plan, stored: Snapshot) -> Snapshot:
    """The store once the plan was carried out."""
    objects = {(one.kind, one.id): one for one in everything(stored)}
    objects |= {(one.kind, one.id): one for one in found.put}
    for removed in found.removed:
        del objects[removed]
    return snapshot(objects.values())


def applied(topology: Topology, stored: Snapshot | None = None) -> Snapshot:
    stored = stored or snapshot()
    return after(plan_of(topology, stored), stored)


def test_new_objects_are_told_in_full(load: LoadText) -> None:
    assert plan_of(load(FILE), snapshot()).lines() == [
        "+ network web: vni 7, mtu 1450",
        "+ subnet web/10.0.0.0/24: gateway 10.0.0.1, dhcp",
        "+ address group offices",
        "+ address group entry offices 192.0.2.0/24",
        "+ security group less: stateless",
        "+ security group web",
        "+ security group rule web to_vm ipv4 tcp 80-443 from address group offices",
        "+ qos policy vm0/web: bandwidth from vm 500mbit burst 1mb, bandwidth to vm 1gbit burst "
        "1mb, packet rate to vm 1000 per second burst 64, minimum bandwidth 10mbit, dscp 46",
        "+ machine vm0: vm, image tiny, 1 cpu, 256M",
        "+ port vm0/web: 10.0.0.2, mac 52:54:00:00:00:01, security groups less web, address pairs "
        "10.0.0.100/32 10.0.0.16/28 mac 00:00:5e:00:01:01, connections max 500",
    ]


@pytest.mark.parametrize(
    ("keys", "facts"),
    [
        ("", ""),
        (", security_groups: []", ", no security groups"),
        (", port_security: false", ", no port security"),
    ],
)
def test_a_port_says_what_is_special_about_it(load: LoadText, keys: str, facts: str) -> None:
    topology = load(nic("a", f", mac: 52:54:00:00:00:01{keys}"))
    line = plan_of(topology, snapshot()).lines()[-1]
    assert line == f"+ port a/a: 10.0.0.2, mac 52:54:00:00:00:01{facts}"


def test_changes_speak_of_groups_and_rates_as_files_do(load: LoadText) -> None:
    before = applied(load(FILE))
    text = FILE.replace("[web, less]", "[web, default]").replace("500mbit", "1.5gbit")
    text = text.replace("[10.0.0.100, ", "[10.0.0.101, ").replace("stateful: false", "")
    text = text.replace("minimum: 10mbit, ", "").replace("80-443", "80").replace("500\n", "501\n")
    changed = plan_of(load(text), before)
    assert changed.lines() == [
        *OWN,
        "+ security group rule web to_vm ipv4 tcp 80 from address group offices",
        "~ security group less: stateful no -> yes",
        "~ qos policy vm0/web: bandwidth from vm 500mbit burst 1mb -> 1.5gbit burst 1mb, minimum "
        "bandwidth 10mbit -> none",
        "~ port vm0/web: security groups -less +default, address pairs -10.0.0.100/32 "
        "+10.0.0.101/32, connections max 500 -> 501",
        "- security group rule web to_vm ipv4 tcp 80-443 from address group offices",
    ]
    assert not plan_of(load(text), after(changed, before))


def test_a_port_gets_and_loses_its_policy(load: LoadText) -> None:
    without = nic("a")
    stored = applied(load(without))
    gained = plan_of(load(nic("a", ", dscp: 46")), stored)
    assert gained.lines() == [
        "+ qos policy a/a: dscp 46",
        "~ port a/a: qos policy none -> a/a",
    ]
    assert plan_of(load(without), after(gained, stored)).lines() == [
        "~ port a/a: qos policy a/a -> none",
        "- qos policy a/a",
    ]


def test_a_rule_changes_nothing_but_itself(load: LoadText) -> None:
    before = applied(load(FILE))
    rule = "{direction: from_vm, remote: 192.0.2.9}"
    more = load(FILE.replace("  web:\n", f"  web:\n    - {rule}\n", 1))
    assert plan_of(more, before).lines() == [
        "+ security group rule web from_vm to 192.0.2.9/32",
    ]
    entry = load(FILE.replace("[192.0.2.0/24]", "[192.0.2.0/24, 198.51.100.7]"))
    assert plan_of(entry, before).lines() == ["+ address group entry offices 198.51.100.7/32"]


def test_the_order_of_rules_and_groups_is_no_difference(load: LoadText) -> None:
    text = FILE.replace("  less:", "    - {direction: from_vm}\n  less:")
    first, second = text.splitlines()[5:7]
    turned = text.replace(f"{first}\n{second}", f"{second}\n{first}")
    turned = turned.replace("[web, less]", "[less, web]")
    assert turned != text
    assert not plan_of(load(turned), applied(load(text)))


def test_deleting_goes_from_what_refers_to_what_is_referred_to(load: LoadText) -> None:
    assert plan_of(load("version: 1\n"), applied(load(FILE))).lines() == [
        "- port vm0/web",
        "- machine vm0",
        "- qos policy vm0/web",
        "- security group rule web to_vm ipv4 tcp 80-443 from address group offices",
        "- security group web",
        "- security group less",
        "- address group entry offices 192.0.2.0/24",
        "- address group offices",
        "- subnet web/10.0.0.0/24",
        "- network web",
    ]


def test_all_of_it_comes_back_from_the_store(load: LoadText, tmp_path: Path) -> None:
    topology = load(FILE.replace("[web, less]", "[web, less, default]"))
    with closing(SqliteStore(tmp_path / "store.sqlite")) as store:
        first = plan_of(topology, store.snapshot())
        store.commit(Transaction(put=first.put, delete=first.removed, expected_revision=0))
        stored = store.snapshot()
    bookkeeping = {"revision_number": 0, "created_at": "", "updated_at": ""}
    found = {one.id: one.model_copy(update=bookkeeping) for one in everything(stored)}
    assert found == {one.id: one for one in first.create}
    assert not plan_of(topology, stored)


# ---- the project's own group -----------------------------------------------


def own(stored: Snapshot) -> list[AnyResource]:
    return [one for one in everything(stored) if one.origin == PROJECT_ORIGIN]


def test_two_files_rely_on_the_own_group(load: LoadText) -> None:
    first, second = load(nic("a")), load(nic("b"), name="second.yaml")
    both = applied(second, applied(first))
    assert len(own(both)) == 5
    assert own(both) == own(applied(first))
    less = after(plan(both, [], first.origin), both)
    assert own(less) == own(both)
    assert not plan_of(second, less)


def test_the_own_group_stays_when_the_last_file_goes(load: LoadText) -> None:
    topology = load(nic("a"))
    stored = applied(topology)
    assert everything(after(plan(stored, [], topology.origin), stored)) == own(stored)


def test_no_file_changes_the_own_group(load: LoadText) -> None:
    """A rule that was added to it or taken from it stays so."""
    stored = applied(load(nic("a")))
    group, rule, *_ = own(stored)
    assert isinstance(group, SecurityGroup)
    assert isinstance(rule, SecurityGroupRule)
    kept = [one for one in everything(stored) if one.id not in (group.id, rule.id)]
    more = rule.model_copy(update={"id": "more", "name": "more", "number": 1})
    edited = snapshot([*kept, group.model_copy(update={"stateful": False}), more])
    for text in (nic("a"), nic("b")):
        topology = load(text)
        found = plan_of(topology, edited)
        changed = [*found.create, *(one.new for one in found.update), *found.delete]
        assert {one.origin for one in changed} <= {topology.origin}
        # Nor does a plan for objects that were made without regard to the store.
        afresh = expand(topology, snapshot(), "box", topology.origin)
        updates = plan(edited, afresh, topology.origin).update
        assert {one.new.origin for one in updates} <= {topology.origin}


def test_a_file_does_not_conflict_with_the_own_group(load: LoadText) -> None:
    stored = applied(load(nic("a")))
    text = "security_groups: {web: [{direction: to_vm, remote_group: default}]}\n"
    topology = load(nic("b") + text, name="second.yaml")
    assert "~" not in {line[0] for line in plan_of(topology, stored).lines()}
    # A changed rule of it may name what a file is about to take away.
    file = load(nic("a") + "address_groups: {x: []}\n")
    full = applied(file, stored)
    (group,) = full.objects[Kind.ADDRESS_GROUP]
    rule = own(full)[1].model_copy(update={"address_group_id": group})
    used = snapshot([*everything(full), rule])
    with pytest.raises(ConflictError, match="address group x: is in use by security group rule"):
        plan(used, [], file.origin)


# ---- conflicts -------------------------------------------------------------


def test_groups_of_another_file_are_refused_with_their_owner(load: LoadText) -> None:
    groups = "version: 1\naddress_groups: {x: [10.0.0.1]}\nsecurity_groups: {x: []}\n"
    first, second = load(groups), load(groups, name="second.yaml")
    with pytest.raises(ConflictError) as caught:
        plan_of(second, applied(first))
    remedy = (
        f"belongs to {first.origin} already; rename it here, or take that one away with: "
        f"heddle down {first.origin}"
    )
    assert str(caught.value).splitlines() == [
        f"address group x: {remedy}",
        f"security group x: {remedy}",
    ]


def test_groups_that_others_use_are_not_taken_away(load: LoadText) -> None:
    topology = load(FILE)
    stored = applied(topology)
    (port,) = stored.objects[Kind.PORT].values()
    (rule,) = stored.objects[Kind.SECURITY_GROUP_RULE].values()
    assert isinstance(port, Port)
    assert isinstance(rule, SecurityGroupRule)
    theirs = {"origin": "api", "name": "theirs"}
    foreign: list[AnyResource] = [
        SecurityGroup(id="group", number=1, name="theirs", origin="api"),
        port.model_copy(update={**theirs, "id": "port", "network_id": "", "fixed_ips": ()}),
        rule.model_copy(update={**theirs, "id": "rule", "security_group_id": "group"}),
    ]
    with pytest.raises(ConflictError) as caught:
        plan(snapshot([*everything(stored), *foreign]), [], topology.origin)
    remedy = "of the API; keep it, or remove that one first"
    assert str(caught.value).splitlines() == [
        f"address group offices: is in use by security group rule theirs {remedy}",
        f"machine vm0: is in use by port theirs {remedy}",
        f"security group less: is in use by port theirs {remedy}",
        f"security group web: is in use by port theirs {remedy}",
        f"qos policy vm0/web: is in use by port theirs {remedy}",
    ]
