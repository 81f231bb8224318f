"""A security group and its rules, as the data plane looks them up: by remote end,
then by protocol and port prefix (bpf/shared/abi.h, policy)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from heddle.compiler.addresses import NO_ADDRESS, mapped_prefix
from heddle.compiler.dependencies import View
from heddle.compiler.fragment import Fragment
from heddle.compiler.port_prefixes import ANY_PORT, PORT_BITS, PortPrefix, port_prefixes
from heddle.compiler.shared import Share
from heddle.compiler.state import PolicyGroupKey, PolicyRuleKey, RowKey
from heddle.compiler.symbols import DIRECTIONS, PROTOCOL_ANY
from heddle.compiler.tallies import STATELESS_PART, rule_part
from heddle.compiler.usage import set_of, side_of
from heddle.errors import CompileError
from heddle.intent.model import SecurityGroup, SecurityGroupRule
from heddle.intent.protocols import WITH_PORTS

_ANYBODY = {4: "0.0.0.0/0", 6: "::/0"}
_ICMP_CODE_BITS = 8


class _Remote(NamedTuple):
    """The other end that a rule asks for: a set, or a prefix (then ``set`` is 0)."""

    set: int
    prefix_bits: int
    address: bytes


def compile_security_group(view: View, group: SecurityGroup) -> Fragment:
    """What is said of the group as a whole. A group without rules and flags has no
    rows: then nothing is allowed."""
    fragment = Fragment()
    number = view.group_number(group.id)
    if number is not None and not group.stateful:
        for direction in DIRECTIONS.values():
            for version in _ANYBODY:
                row = RowKey("policy_groups", PolicyGroupKey(number, direction, version))
                fragment.shares[Share(row, STATELESS_PART)] = None
    return fragment


def compile_rule(view: View, rule: SecurityGroupRule) -> Fragment:
    """A rule whose group or remote end is absent allows nothing. CompileError for
    more sets than a group may name."""
    fragment = Fragment()
    group = view.group_number(rule.security_group_id)
    remote = _remote(view, rule) if group is not None else None
    if group is not None and remote is not None:
        fragment.shares.update(dict.fromkeys(_shares(rule, group, remote)))
    return fragment


def _remote(view: View, rule: SecurityGroupRule) -> _Remote | None:
    key = set_of(rule)
    if key is None:
        return _Remote(0, *mapped_prefix(rule.remote_cidr or _ANYBODY[rule.ip_version]))
    number = view.set_number(key)
    if number is None:
        return None
    if not view.fits(side_of(rule), key):
        raise _too_many_sets(view, rule)
    return _Remote(number, 0, NO_ADDRESS)


def _too_many_sets(view: View, rule: SecurityGroupRule) -> CompileError:
    group = view.security_group(rule.security_group_id)
    return CompileError(
        f"security group rule {rule.name}: the IPv{rule.ip_version} {rule.direction} rules of "
        f"security group {group.name if group else rule.security_group_id} name more than "
        f"{view.limits.sets} security groups and address groups; join some of them"
    )


def _shares(rule: SecurityGroupRule, group: int, remote: _Remote) -> Iterator[Share]:
    set_number, prefix_bits, address = remote
    direction, version = DIRECTIONS[rule.direction], rule.ip_version
    protocol = PROTOCOL_ANY if rule.protocol is None else rule.protocol
    part = rule_part(rule.id, rule.number)
    for port_bits, port in _ports(rule):
        key = PolicyRuleKey(
            group, set_number, direction, version, prefix_bits, port_bits, address, protocol, port
        )
        yield Share(RowKey("policy_rules", key), part)


def _ports(rule: SecurityGroupRule) -> list[PortPrefix]:
    first, last = rule.port_min, rule.port_max
    if first is None:
        return [ANY_PORT]
    if rule.protocol in WITH_PORTS:
        return port_prefixes(first, first if last is None else last)
    kind = first << _ICMP_CODE_BITS
    return [
        PortPrefix(_ICMP_CODE_BITS, kind) if last is None else PortPrefix(PORT_BITS, kind | last)
    ]
