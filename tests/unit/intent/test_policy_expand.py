"""Which objects groups, rules and rates stand for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from heddle.intent.expand import expand
from heddle.intent.model import (
    AddressGroup,
    AddressGroupEntry,
    AddressPair,
    AnyResource,
    BandwidthLimit,
    Kind,
    PacketRateLimit,
    Port,
    QosPolicy,
    SecurityGroup,
    SecurityGroupRule,
)
from heddle.intent.names import PROJECT_ORIGIN, object_id
from heddle.intent.rates import GSO_BYTES
from heddle.intent.topology import Topology
from heddle.store.interface import Snapshot

ResourceT = TypeVar("ResourceT", bound=AnyResource)
LoadText = Callable[..., Topology]

GROUPS = """\
version: 1
address_groups:
  offices: [192.0.2.0/24, "2001:db8::/48", 192.0.2.7]
  none: []
security_groups:
  web:
    - {direction: from_vm}
    - {direction: to_vm, protocol: tcp, ports: 80-443, remote: 0.0.0.0/0}
    - {direction: to_vm, protocol: udp, ports: 53, remote: "2001:db8::/32"}
    - {direction: to_vm, protocol: icmp, icmp_type: 8, icmp_code: 0}
    - {direction: to_vm, protocol: icmpv6, icmp_type: 128}
    - {direction: to_vm, protocol: icmp, remote_group: plain}
    - {direction: to_vm, remote_group: web}
    - {direction: to_vm, protocol: 132, ports: 5, address_group: offices, ethertype: ipv4}
    - {direction: to_vm, protocol: ah, remote_group: web}
  plain: {stateful: false, rules: [{direction: from_vm, protocol: 99, ethertype: ipv6}]}
  empty:
"""

NETWORK = "networks: {web: {cidr: 10.0.0.0/24}}\nmachines:\n"


def snapshot(resources: Iterable[AnyResource] = ()) -> Snapshot:
    objects: dict[Kind, dict[str, AnyResource]] = {kind: {} for kind in Kind}
    for resource in resources:
        objects[resource.kind][resource.id] = resource
    return Snapshot(1, objects)


def resources_of(topology: Topology, stored: Iterable[AnyResource] = ()) -> list[AnyResource]:
    return expand(topology, snapshot(stored), "box", topology.origin)


def every(resources: Iterable[AnyResource], model: type[ResourceT]) -> dict[str, ResourceT]:
    return {one.name: one for one in resources if isinstance(one, model)}


def nics(*keys: str) -> str:
    """The machines c0, c1, ... with a NIC with these keys each."""
    rows = (f"  c{at}: {{nics: [{{network: web{key}}}]}}\n" for at, key in enumerate(keys))
    return NETWORK + "".join(rows)


def meaning(rule: SecurityGroupRule) -> tuple[object, ...]:
    ports = rule.port_min, rule.port_max
    return rule.direction.value, rule.ip_version, rule.protocol, ports, rule.remote_cidr


def test_rules_stand_for_one_object_per_ip_version(load: LoadText) -> None:
    rules = every(resources_of(load(GROUPS)), SecurityGroupRule)
    both = (None, None)
    assert {name: meaning(rule) for name, rule in rules.items()} == {
        "plain from_vm protocol 99 to ::/0": ("from_vm", 6, 99, both, None),
        "web from_vm to 0.0.0.0/0": ("from_vm", 4, None, both, None),
        "web from_vm to ::/0": ("from_vm", 6, None, both, None),
        "web to_vm icmp from group plain": ("to_vm", 4, 1, both, None),
        "web to_vm icmp type 8 code 0 from 0.0.0.0/0": ("to_vm", 4, 1, (8, 0), None),
        "web to_vm icmpv6 type 128 from ::/0": ("to_vm", 6, 58, (128, None), None),
        "web to_vm ipv4 ah from group web": ("to_vm", 4, 51, both, None),
        "web to_vm ipv4 from group web": ("to_vm", 4, None, both, None),
        "web to_vm ipv4 sctp 5 from address group offices": ("to_vm", 4, 132, (5, 5), None),
        "web to_vm ipv6 from group web": ("to_vm", 6, None, both, None),
        "web to_vm tcp 80-443 from 0.0.0.0/0": ("to_vm", 4, 6, (80, 443), None),
        "web to_vm udp 53 from 2001:db8::/32": ("to_vm", 6, 17, (53, 53), "2001:db8::/32"),
    }


def test_rules_know_their_group_and_its_remote_end(load: LoadText) -> None:
    resources = resources_of(load(GROUPS))
    rules = every(resources, SecurityGroupRule)
    groups, sets = every(resources, SecurityGroup), every(resources, AddressGroup)
    web = rules["web to_vm icmp from group plain"]
    assert web.security_group_id == groups["web"].id
    assert (web.remote_group_id, web.address_group_id) == (groups["plain"].id, None)
    offices = rules["web to_vm ipv4 sctp 5 from address group offices"]
    assert (offices.remote_group_id, offices.address_group_id) == (None, sets["offices"].id)
    assert {name: group.stateful for name, group in groups.items()} == {
        "empty": True,
        "plain": False,
        "web": True,
    }


def test_address_groups_and_their_entries(load: LoadText) -> None:
    resources = resources_of(load(GROUPS))
    groups = every(resources, AddressGroup)
    assert list(groups) == ["none", "offices"]
    entries = every(resources, AddressGroupEntry)
    assert {name: entry.cidr for name, entry in entries.items()} == {
        "offices 192.0.2.0/24": "192.0.2.0/24",
        "offices 192.0.2.7/32": "192.0.2.7/32",
        "offices 2001:db8::/48": "2001:db8::/48",
    }
    assert {entry.address_group_id for entry in entries.values()} == {groups["offices"].id}


def test_numbers_are_unique_and_kept(load: LoadText) -> None:
    resources = resources_of(load(GROUPS + nics("")))
    sets = [one.number for one in resources if isinstance(one, AddressGroup | SecurityGroup)]
    assert len(set(sets)) == len(sets) == 6
    rules = [one.number for one in resources if isinstance(one, SecurityGroupRule)]
    assert len(set(rules)) == len(rules) == 16
    # Another has what this file's objects would get: they take the next.
    taken = every(resources, SecurityGroup)["web"]
    foreign = AddressGroup(id="foreign", name="x", origin="api", number=taken.number)
    rule = every(resources, SecurityGroupRule)["web from_vm to ::/0"]
    other = rule.model_copy(update={"id": "other", "name": "x", "origin": "api"})
    moved = resources_of(load(GROUPS), [foreign, other])
    assert every(moved, SecurityGroup)["web"].number == taken.number + 1
    assert every(moved, SecurityGroupRule)["web from_vm to ::/0"].number == rule.number + 1
    # What is in the store stays as it is.
    assert every(resources_of(load(GROUPS), moved), SecurityGroup)["web"].number != taken.number


def test_ids_follow_from_what_a_rule_allows(load: LoadText) -> None:
    rules = every(resources_of(load(GROUPS)), SecurityGroupRule)
    for name, rule in rules.items():
        assert rule.id == object_id("default", Kind.SECURITY_GROUP_RULE, name)
    turned = GROUPS.replace("{direction: from_vm}\n", "{remote: 0.0.0.0/0, direction: from_vm}\n")
    again = every(resources_of(load(turned)), SecurityGroupRule)
    assert again["web from_vm to 0.0.0.0/0"] == rules["web from_vm to 0.0.0.0/0"]


def test_ports_know_their_groups(load: LoadText) -> None:
    keys = ("", ", security_groups: [web, empty]", ", security_groups: []")
    keys += (", security_groups: web", ", port_security: false")
    resources = resources_of(load(GROUPS + nics(*keys)))
    names = {group.id: name for name, group in every(resources, SecurityGroup).items()}
    ports = every(resources, Port)
    found = {
        name: (port.port_security, [names[one] for one in port.security_group_ids])
        for name, port in ports.items()
    }
    assert found == {
        "c0/web": (True, ["default"]),
        "c1/web": (True, ["empty", "web"]),
        "c2/web": (True, []),
        "c3/web": (True, ["web"]),
        "c4/web": (False, []),
    }


def test_address_pairs_are_prefixes(load: LoadText) -> None:
    pairs = "[{address: 10.0.0.16/28, mac: 00-00-5E-00-01-01}, 10.0.0.100]"
    resources = resources_of(load("version: 1\n" + nics(f", allowed_address_pairs: {pairs}")))
    assert every(resources, Port)["c0/web"].address_pairs == (
        AddressPair(cidr="10.0.0.100/32"),
        AddressPair(cidr="10.0.0.16/28", mac="00:00:5e:00:01:01"),
    )


def test_rates_become_a_policy_of_the_port(load: LoadText) -> None:
    rate = (
        ", connections: 9, dscp: 46, rate: {from_vm: 500mbit, to_vm: 1gbit, burst: 1mb, minimum: "
        "100mbit, packets_from_vm: 10000, packets_to_vm: 20000, packet_burst: 1000}"
    )
    text = "version: 1\n" + nics(rate, ", dscp: 0", "", ", rate: {}", ", rate: ")
    resources = resources_of(load(text))
    policies, ports = every(resources, QosPolicy), every(resources, Port)
    assert list(policies) == ["c0/web", "c1/web"]
    full = policies["c0/web"]
    assert ports["c0/web"].qos_policy_id == full.id
    assert ports["c0/web"].connections_max == 9
    assert ports["c2/web"].qos_policy_id is None
    assert ports["c3/web"].qos_policy_id is None
    assert full.bandwidth_from_vm == BandwidthLimit(rate=500_000_000, burst=1 << 20)
    assert full.bandwidth_to_vm == BandwidthLimit(rate=1_000_000_000, burst=1 << 20)
    assert full.packet_rate_from_vm == PacketRateLimit(rate=10000, burst=1000)
    assert full.packet_rate_to_vm == PacketRateLimit(rate=20000, burst=1000)
    assert (full.minimum_bandwidth, full.dscp) == (100_000_000, 46)
    marked = policies["c1/web"].model_dump(exclude={"id", "name", "origin", "project_id"})
    assert marked.pop("dscp") == 0
    assert not any(marked.values())


def test_bursts_left_open_follow_from_the_rate(load: LoadText) -> None:
    rate = "{from_vm: 1mbit, to_vm: 1gbit, packets_from_vm: 10, packets_to_vm: 100000}"
    policy = every(resources_of(load("version: 1\n" + nics(f", rate: {rate}"))), QosPolicy)
    limits = policy["c0/web"]
    assert limits.bandwidth_from_vm == BandwidthLimit(rate=1_000_000, burst=GSO_BYTES)
    assert limits.bandwidth_to_vm == BandwidthLimit(rate=1_000_000_000, burst=1_250_000)
    assert limits.packet_rate_from_vm == PacketRateLimit(rate=10, burst=1000)
    assert limits.packet_rate_to_vm == PacketRateLimit(rate=100_000, burst=1000)


# ---- the project's own group -----------------------------------------------


def own(resources: Iterable[AnyResource]) -> list[AnyResource]:
    return [one for one in resources if one.origin == PROJECT_ORIGIN]


def test_the_own_group_lets_everything_out_and_its_members_in(load: LoadText) -> None:
    group, *rules = own(resources_of(load("version: 1\n" + nics(""))))
    assert (group.kind, group.name) == ("security_group", "default")
    found = {
        rule.name: (*meaning(rule)[:3], rule.remote_group_id)
        for rule in rules
        if isinstance(rule, SecurityGroupRule)
    }
    assert found == {
        "default from_vm to 0.0.0.0/0": ("from_vm", 4, None, None),
        "default from_vm to ::/0": ("from_vm", 6, None, None),
        "default to_vm ipv4 from group default": ("to_vm", 4, None, group.id),
        "default to_vm ipv6 from group default": ("to_vm", 6, None, group.id),
    }


def test_the_own_group_is_made_when_a_nic_or_a_rule_names_it(load: LoadText) -> None:
    def names_it(text: str) -> bool:
        return bool(own(resources_of(load("version: 1\n" + text))))

    group = "security_groups: {web: [{direction: to_vm%s}]}\n"
    assert names_it(nics(", security_groups: default"))
    assert names_it(group % ", remote_group: default")
    assert not names_it(group % ", remote_group: web")
    assert not names_it(group % "" + nics(", security_groups: web", ", security_groups: []"))
    assert not names_it(nics(", port_security: false"))


def test_the_own_group_of_the_store_is_taken_as_it_is(load: LoadText) -> None:
    topology = load("version: 1\n" + nics(""))
    group, first, *rest = own(resources_of(topology))
    changed = [group.model_copy(update={"revision_number": 7}), *rest]
    assert own(resources_of(topology, changed)) == changed
    assert first not in resources_of(topology, changed)
