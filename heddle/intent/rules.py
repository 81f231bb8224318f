"""What a rule of a topology file means: for which IP versions it stands, and
the name of each, by which drops, trace and show speak of it."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network

from heddle.intent.addresses import Prefix
from heddle.intent.protocols import EXTENSION_HEADERS, ICMP, ICMPV6, protocol_name
from heddle.intent.schema_policy import REMOTES, RuleSpec

IP_VERSIONS = (4, 6)
_ICMP_VERSIONS = {ICMP: (4,), ICMPV6: (6,)}
_EVERYTHING = {4: ip_network("0.0.0.0/0"), 6: ip_network("::/0")}

SetKey = tuple[str, str]
"""A set that a rule names: ``remote_group`` or ``address_group``, and its name."""


def versions(rule: RuleSpec) -> list[int]:
    """The IP versions that fit the rule; without any it can never match."""
    return [
        version
        for version in IP_VERSIONS
        if rule.ethertype in (None, f"ipv{version}")
        and version in protocol_versions(rule.protocol)
        and (rule.remote is None or rule.remote.version == version)
    ]


def protocol_versions(protocol: int | None) -> tuple[int, ...]:
    """The IP versions in which a packet can have the protocol."""
    if protocol in EXTENSION_HEADERS:
        return (4,)
    return _ICMP_VERSIONS.get(protocol or 0, IP_VERSIONS)


def remote_prefix(rule: RuleSpec) -> Prefix | None:
    """The prefix of the remote end; None when it is a set, or anything."""
    return None if rule.remote in _EVERYTHING.values() else rule.remote


def named_set(rule: RuleSpec) -> SetKey | None:
    """The group that is the rule's remote end."""
    for key in REMOTES[1:]:
        name = getattr(rule, key)
        if name is not None:
            return key, name
    return None


def port_range(rule: RuleSpec) -> tuple[int | None, int | None]:
    """The model's ``port_min`` and ``port_max``: of ICMP the type and the code."""
    if rule.ports is not None:
        return rule.ports
    return rule.icmp_type, rule.icmp_code


def rule_name(group: str, rule: RuleSpec, version: int) -> str:
    """``web to_vm tcp 80-443 from 0.0.0.0/0``: no two rules that differ in
    meaning have the same, and no two with the same meaning differ."""
    return " ".join([group, rule.direction, *_words(rule, version)])


def _words(rule: RuleSpec, version: int) -> Iterator[str]:
    set_key = named_set(rule)
    if set_key is not None and rule.protocol not in _ICMP_VERSIONS:
        yield f"ipv{version}"  # else the prefix or the protocol tells
    if rule.protocol is not None:
        yield protocol_name(rule.protocol)
    yield from _port_words(rule)
    yield "from" if rule.direction == "to_vm" else "to"
    if set_key is None:
        yield str(rule.remote or _EVERYTHING[version])
    else:
        yield f"{set_key[0].replace('remote_group', 'group').replace('_', ' ')} {set_key[1]}"


def _port_words(rule: RuleSpec) -> Iterator[str]:
    if rule.ports is not None:
        first, last = rule.ports
        yield str(first) if first == last else f"{first}-{last}"
    if rule.icmp_type is not None:
        yield f"type {rule.icmp_type}"
    if rule.icmp_code is not None:
        yield f"code {rule.icmp_code}"
