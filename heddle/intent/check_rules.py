"""Checks address groups, security groups and their rules."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from heddle.intent.addresses import Prefix, is_never_a_source
from heddle.intent.check_context import Context
from heddle.intent.names import DEFAULT_GROUP
from heddle.intent.problems import KeyPath
from heddle.intent.protocols import ICMP, ICMPV6, WITH_PORTS, protocol_name
from heddle.intent.rules import SetKey, named_set, protocol_versions, rule_name, versions
from heddle.intent.schema_policy import REMOTES, SETS_MAX, RuleSpec, SecurityGroupSpec

_Problem = tuple[str, str]
"""The key of the rule, and what is wrong with it."""


def check_groups(context: Context) -> None:
    for name, entries in context.spec.address_groups.items():
        _check_entries(context, entries, ("address_groups", name))
    for name in context.names["security_groups"]:
        if name == DEFAULT_GROUP:
            what = f'"{name}" is the project\'s own group, made when a port needs it'
            context.problems.add(("security_groups", name), f"{what}; choose another name")
    for name, group in context.spec.security_groups.items():
        _check_group(context, name, group)


def _check_entries(context: Context, entries: list[Prefix], path: KeyPath) -> None:
    seen: set[Prefix] = set()
    for index, entry in enumerate(entries):
        if entry in seen:
            context.problems.add((*path, index), f"{entry} is given twice; keep one")
        seen.add(entry)


def _check_group(context: Context, name: str, group: SecurityGroupSpec) -> None:
    path = ("security_groups", name)
    good: list[tuple[KeyPath, RuleSpec]] = []
    for index, rule in enumerate(group.rules):
        rule_path = (*path, "rules", index)
        problems = list(_rule_problems(context, rule))
        for key, what in problems:
            context.problems.add((*rule_path, key), what)
        if not problems:
            good.append((rule_path, rule))
    _check_repeated(context, good)
    _check_sets(context, group.rules, path)


def _check_repeated(context: Context, rules: list[tuple[KeyPath, RuleSpec]]) -> None:
    seen: set[str] = set()
    for path, rule in rules:
        names = {rule_name("", rule, version).strip() for version in versions(rule)}
        for repeated in sorted(names & seen):
            context.problems.add(path, f'"{repeated}" is given twice; keep one')
        seen |= names


def _check_sets(context: Context, rules: list[RuleSpec], path: KeyPath) -> None:
    sets: dict[tuple[str, int], set[SetKey]] = defaultdict(set)
    for rule in rules:
        if set_key := named_set(rule):
            for version in versions(rule):
                sets[rule.direction, version].add(set_key)
    for (direction, version), named in sets.items():
        if len(named) > SETS_MAX:
            what = f"names {len(named)} groups as remote ends of {direction} (IPv{version})"
            remedy = f"give at most {SETS_MAX}, or make a second security group of the rest"
            context.problems.add(path, f"{what}; {remedy}")


def _rule_problems(context: Context, rule: RuleSpec) -> Iterator[_Problem]:
    yield from _port_problems(rule)
    yield from _icmp_problems(rule)
    yield from _remote_problems(context, rule)
    if not versions(rule):
        yield _version_problem(rule)


def _port_problems(rule: RuleSpec) -> Iterator[_Problem]:
    if rule.ports is None or rule.protocol in WITH_PORTS:
        return
    if rule.protocol is None:
        yield "ports", "only some protocols have ports; add protocol: tcp, or udp"
    elif rule.protocol in (ICMP, ICMPV6):
        yield "ports", f"{protocol_name(rule.protocol)} has no ports; use icmp_type and icmp_code"
    else:
        yield "ports", f"{protocol_name(rule.protocol)} has no ports; remove the key"


def _icmp_problems(rule: RuleSpec) -> Iterator[_Problem]:
    for key in ("icmp_type", "icmp_code"):
        if getattr(rule, key) is not None and rule.protocol not in (ICMP, ICMPV6):
            yield key, "is for protocol: icmp or icmpv6 alone; set it, or remove the key"
    if rule.icmp_code is not None and rule.icmp_type is None:
        yield "icmp_code", "a code means something with its type alone; add icmp_type"


def _remote_problems(context: Context, rule: RuleSpec) -> Iterator[_Problem]:
    given = [key for key in REMOTES if getattr(rule, key) is not None]
    if len(given) > 1:
        yield given[1], f"has both {given[0]} and {given[1]}; keep one, or write two rules"
        return
    if rule.remote is not None and rule.direction == "to_vm" and is_never_a_source(rule.remote):
        remedy = "remove it" if rule.remote.is_loopback else "use direction: from_vm"
        yield "remote", f"{rule.remote} is never the source of a packet; {remedy}"
    set_key = named_set(rule)
    if set_key is not None:
        key, name = set_key
        section = "security_groups" if key == "remote_group" else "address_groups"
        missing = context.missing(section, name)
        if missing is not None:
            yield key, missing
        elif key == "address_group":
            yield from _family_problems(rule, name, context.spec.address_groups.get(name, []))


def _family_problems(rule: RuleSpec, name: str, entries: list[Prefix]) -> Iterator[_Problem]:
    """An address group of the other IP version; an empty one may still be filled."""
    possible, there = versions(rule), {entry.version for entry in entries}
    if possible and there and there.isdisjoint(possible):
        what = f'"{name}" has IPv{there.pop()} prefixes alone, the rule is for IPv{possible[0]}'
        yield "address_group", f"{what}; add one that fits, or use one family"


def _version_problem(rule: RuleSpec) -> _Problem:
    """Which two of protocol, remote and ethertype exclude each other."""
    wanted = rule.ethertype and int(rule.ethertype[-1])
    protocol = "" if rule.protocol is None else protocol_name(rule.protocol)
    possible = protocol_versions(rule.protocol)
    if rule.remote is not None and wanted not in (None, rule.remote.version):
        what = f"{rule.remote} is an IPv{rule.remote.version} prefix"
        return "remote", f"{what}, the rule is for {rule.ethertype}; use one family"
    if rule.remote is not None and rule.remote.version not in possible:
        what = f"{rule.remote} is an IPv{rule.remote.version} prefix, {protocol}"
        return "remote", f"{what} is IPv{possible[0]} alone; use {_other_protocol(rule)}"
    what = f"{protocol} is IPv{possible[0]} alone, the rule is for {rule.ethertype}"
    return "protocol", f"{what}; use {_other_protocol(rule)}"


def _other_protocol(rule: RuleSpec) -> str:
    others = {ICMP: "protocol: icmpv6", ICMPV6: "protocol: icmp"}
    return others.get(rule.protocol or 0, "the protocol behind this extension header")
