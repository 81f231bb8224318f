"""Rows that follow from the keys of others: which lengths of prefixes are in use,
so that the data plane need not try them all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from heddle.compiler.state import (
    PolicyGroupKey,
    PolicyRemoteKey,
    PolicyRuleKey,
    RowKey,
    SetMemberKey,
    Symbol,
)
from heddle.compiler.tallies import Part, member_length, port_length, prefix_in_use, set_in_use
from heddle.intent.protocols import ICMP, ICMPV6, PROTOCOLS

# Fields of PolicyRemoteRow by IP version and protocol; all others are "other".
_FIELDS = {(version, PROTOCOLS[name]): name for version in (4, 6) for name in ("tcp", "udp")} | {
    (4, ICMP): "icmp",
    (6, ICMPV6): "icmp",
}


def summary_of(row: RowKey) -> tuple[RowKey, Part] | None:
    """The row to which this one, if it exists, gives a part."""
    summarize = _SUMMARIES.get(row.table)
    return summarize(row.key) if summarize else None


def _of_rule(key: PolicyRuleKey) -> tuple[RowKey, Part]:
    group, set_number, direction, version, prefix_bits, port_bits, address, protocol, _ = key
    remote = PolicyRemoteKey(group, set_number, direction, version, prefix_bits, address)
    return RowKey("policy_remotes", remote), port_length(_field(version, protocol), port_bits)


def _field(ip_version: int, protocol: int | Symbol) -> str:
    if isinstance(protocol, Symbol):  # PROTOCOL_ANY
        return "any_protocol"
    return _FIELDS.get((ip_version, protocol), "other")


def _of_remote(key: PolicyRemoteKey) -> tuple[RowKey, Part]:
    side = PolicyGroupKey(key.group, key.direction, key.ip_version)
    part = set_in_use(key.set) if key.set else prefix_in_use(key.prefix_bits)
    return RowKey("policy_groups", side), part


def _of_member(key: SetMemberKey) -> tuple[RowKey, Part]:
    in_network = key.network != 0
    return RowKey("sets", key.set), member_length(in_network, key.ip_version, key.prefix_bits)


_SUMMARIES: dict[str, Callable[[Any], tuple[RowKey, Part]]] = {
    "policy_rules": _of_rule,
    "policy_remotes": _of_remote,
    "set_members": _of_member,
}
