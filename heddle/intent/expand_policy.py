"""Expands address groups, security groups and what NICs say of bandwidth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from heddle.intent.allocate import assign_numbers
from heddle.intent.model import (
    NUMBER_MAX,
    AddressGroup,
    AddressGroupEntry,
    AddressPair,
    AnyResource,
    BandwidthLimit,
    Direction,
    Kind,
    PacketRateLimit,
    QosPolicy,
    SecurityGroup,
    SecurityGroupRule,
)
from heddle.intent.names import DEFAULT_GROUP, PROJECT, PROJECT_ORIGIN, nic_names, object_id
from heddle.intent.rates import default_burst, default_packet_burst
from heddle.intent.rules import port_range, remote_prefix, rule_name, versions
from heddle.intent.schema import NicSpec, TopologySpec
from heddle.intent.schema_policy import RateSpec, RuleSpec, SecurityGroupSpec
from heddle.intent.stored import Stored, stored_of

# Neutron's: everything out, and in from each other.
_DEFAULT_GROUP_SPEC = SecurityGroupSpec(
    rules=[
        RuleSpec(direction="from_vm"),
        RuleSpec(direction="to_vm", remote_group=DEFAULT_GROUP),
    ]
)


def expand_policies(spec: TopologySpec, stored: Stored, origin: str) -> list[AnyResource]:
    """Groups and their contents, sorted by kind, then name.

    With the project's own group when a NIC or a rule of the file names it: as
    it is in the store, or to be made.
    """
    own = _own_group(stored) if _needs_own_group(spec) else []
    make_own = _needs_own_group(spec) and not own
    numbers = _group_numbers(spec, stored, own=make_own)
    specs = dict(spec.security_groups)
    if make_own:
        specs[DEFAULT_GROUP] = _DEFAULT_GROUP_SPEC
    found: list[list[AnyResource]] = [
        [*_address_groups(spec, origin, numbers)],
        [*_entries(spec, origin)],
        [*_security_groups(specs, origin, numbers), *(one for one in own if _is_group(one))],
        [*_rules(specs, stored, origin), *(one for one in own if not _is_group(one))],
    ]
    return [one for kind in found for one in sorted(kind, key=lambda one: one.name)]


def security_group_id(name: str) -> str:
    return object_id(PROJECT, Kind.SECURITY_GROUP, name)


def _address_group_id(name: str) -> str:
    return object_id(PROJECT, Kind.ADDRESS_GROUP, name)


def _is_group(resource: AnyResource) -> bool:
    return isinstance(resource, SecurityGroup)


# ---- the project's own group ---------------------------------------------


def _needs_own_group(spec: TopologySpec) -> bool:
    nics = (nic for machine in spec.machines.values() for nic in machine.nics)
    rules = (rule for group in spec.security_groups.values() for rule in group.rules)
    return any(DEFAULT_GROUP in groups_of(nic) for nic in nics) or any(
        rule.remote_group == DEFAULT_GROUP for rule in rules
    )


def _own_group(stored: Stored) -> list[AnyResource]:
    """The group and its rules as the store has them, so that no plan changes them."""
    group_id = security_group_id(DEFAULT_GROUP)
    group = stored_of(stored, SecurityGroup).get(group_id)
    if group is None:
        return []
    rules = stored_of(stored, SecurityGroupRule).values()
    return [group, *(rule for rule in rules if rule.security_group_id == group_id)]


def _owner(group: str, origin: str) -> str:
    return PROJECT_ORIGIN if group == DEFAULT_GROUP else origin


# ---- groups --------------------------------------------------------------


def _group_numbers(spec: TopologySpec, stored: Stored, *, own: bool) -> dict[str, int]:
    """Address groups and security groups share one space: both are sets."""
    groups = [*spec.security_groups, DEFAULT_GROUP] if own else [*spec.security_groups]
    ids = [*map(_address_group_id, spec.address_groups), *map(security_group_id, groups)]
    held = {key: group.number for key, group in stored_of(stored, AddressGroup).items()}
    held |= {key: group.number for key, group in stored_of(stored, SecurityGroup).items()}
    return assign_numbers(ids, given={}, held=held, maximum=NUMBER_MAX)


def _address_groups(
    spec: TopologySpec, origin: str, numbers: Mapping[str, int]
) -> Iterator[AddressGroup]:
    for name in spec.address_groups:
        group_id = _address_group_id(name)
        yield AddressGroup(id=group_id, name=name, origin=origin, number=numbers[group_id])


def _entries(spec: TopologySpec, origin: str) -> Iterator[AddressGroupEntry]:
    for group, prefixes in spec.address_groups.items():
        group_id = _address_group_id(group)
        for prefix in prefixes:
            name = f"{group} {prefix}"
            yield AddressGroupEntry(
                id=object_id(PROJECT, Kind.ADDRESS_GROUP_ENTRY, name),
                name=name,
                origin=origin,
                address_group_id=group_id,
                cidr=str(prefix),
            )


def _security_groups(
    specs: Mapping[str, SecurityGroupSpec], origin: str, numbers: Mapping[str, int]
) -> Iterator[SecurityGroup]:
    for name, spec in specs.items():
        group_id = security_group_id(name)
        yield SecurityGroup(
            id=group_id,
            name=name,
            origin=_owner(name, origin),
            number=numbers[group_id],
            stateful=spec.stateful,
        )


def _rules(
    specs: Mapping[str, SecurityGroupSpec], stored: Stored, origin: str
) -> Iterator[SecurityGroupRule]:
    named = {
        rule_name(group, rule, version): (group, rule, version)
        for group, spec in specs.items()
        for rule in spec.rules
        for version in versions(rule)
    }
    ids = {name: object_id(PROJECT, Kind.SECURITY_GROUP_RULE, name) for name in named}
    held = {key: rule.number for key, rule in stored_of(stored, SecurityGroupRule).items()}
    numbers = assign_numbers(ids.values(), given={}, held=held, maximum=NUMBER_MAX)
    group_ids = {group: security_group_id(group) for group in specs}
    for name, (group, rule, version) in named.items():
        yield SecurityGroupRule(
            id=ids[name],
            name=name,
            origin=_owner(group, origin),
            number=numbers[ids[name]],
            security_group_id=group_ids[group],
            **_match(rule, version),
        )


def _match(rule: RuleSpec, version: int) -> dict[str, Any]:
    """What a packet must be, in fields of the model."""
    first, last = port_range(rule)
    prefix = remote_prefix(rule)
    return {
        "direction": Direction(rule.direction),
        "ip_version": version,
        "protocol": rule.protocol,
        "port_min": first,
        "port_max": last,
        "remote_cidr": prefix and str(prefix),
        "remote_group_id": rule.remote_group and security_group_id(rule.remote_group),
        "address_group_id": rule.address_group and _address_group_id(rule.address_group),
    }


# ---- NICs ----------------------------------------------------------------


def groups_of(nic: NicSpec) -> list[str]:
    """Names of the groups that judge a NIC's packets; none without port security."""
    return sorted(nic.security_groups) if nic.port_security else []


def address_pairs(nic: NicSpec) -> tuple[AddressPair, ...]:
    """In an order that does not depend on the file's."""
    pairs = [(str(pair.address), pair.mac or "") for pair in nic.allowed_address_pairs]
    return tuple(AddressPair(cidr=cidr, mac=mac or None) for cidr, mac in sorted(pairs))


def qos_policy_id(port_name: str, nic: NicSpec) -> str | None:
    """The policy of a port, if it needs one. It has the port's name."""
    if nic.dscp is None and not _says_something(nic.rate):
        return None
    return object_id(PROJECT, Kind.QOS_POLICY, port_name)


def expand_qos(spec: TopologySpec, origin: str) -> Iterator[QosPolicy]:
    """A policy for each NIC with rates or a DSCP of its own."""
    for machine_name, machine in spec.machines.items():
        names = nic_names(machine_name, (nic.network for nic in machine.nics))
        for name, nic in zip(names, machine.nics, strict=True):
            policy_id = qos_policy_id(name, nic)
            if policy_id is not None:
                yield _policy(policy_id, name, nic, origin)


def _policy(policy_id: str, name: str, nic: NicSpec, origin: str) -> QosPolicy:
    rate = nic.rate or RateSpec()
    # One burst for both directions, as the file gives one for both.
    packet_burst = rate.packet_burst or default_packet_burst(
        max(rate.packets_from_vm or 0, rate.packets_to_vm or 0)
    )
    return QosPolicy(
        id=policy_id,
        name=name,
        origin=origin,
        bandwidth_from_vm=_bandwidth(rate.from_vm, rate.burst),
        bandwidth_to_vm=_bandwidth(rate.to_vm, rate.burst),
        packet_rate_from_vm=_packet_rate(rate.packets_from_vm, packet_burst),
        packet_rate_to_vm=_packet_rate(rate.packets_to_vm, packet_burst),
        minimum_bandwidth=rate.minimum,
        dscp=nic.dscp,
    )


def _says_something(rate: RateSpec | None) -> bool:
    return rate is not None and rate != RateSpec()


def _bandwidth(rate: int | None, burst: int | None) -> BandwidthLimit | None:
    return BandwidthLimit(rate=rate, burst=burst or default_burst(rate)) if rate else None


def _packet_rate(rate: int | None, burst: int) -> PacketRateLimit | None:
    return PacketRateLimit(rate=rate, burst=burst) if rate else None
