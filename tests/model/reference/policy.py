"""policy: the rules of security groups (OpenStack Networking's semantics).

Rules only ever allow. A packet needs a rule of some group of the sender
(direction from_vm) and one of the receiver (to_vm); a port without port security
needs none. The remote end of a rule is the destination for from_vm and the
source for to_vm; its ports are those of the destination.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

from heddle.intent.model import Direction, Network, Port, SecurityGroupRule
from reference import wire
from reference.topology import Topology


@dataclass(frozen=True)
class Question:
    """May a packet like this pass here? ``peer`` is the other end, in ``network``
    (None: nobody knows where). ``ports``: destination port, or ICMP type and code;
    None: unknown, so that only rules about all ports can allow it."""

    direction: Direction
    version: int
    protocol: int
    ports: int | tuple[int, int] | None
    peer: wire.IpAddress
    network: Network | None


class Answer(Enum):
    NO = auto()
    STATEFUL = auto()
    STATELESS = auto()  # what allows it is stateless groups alone, or nothing is needed


def ask(topology: Topology, port: Port, question: Question) -> Answer:
    if not port.port_security:
        return Answer.STATELESS
    allowing = list(matching_rules(topology, port, question))
    if not allowing:
        return Answer.NO
    groups = (topology.groups[rule.security_group_id] for rule in allowing)
    return Answer.STATEFUL if any(group.stateful for group in groups) else Answer.STATELESS


def matching_rules(
    topology: Topology, port: Port, question: Question
) -> Iterator[SecurityGroupRule]:
    for rule in topology.rules:
        if rule.security_group_id in port.security_group_ids and _matches(topology, rule, question):
            yield rule


def _matches(topology: Topology, rule: SecurityGroupRule, question: Question) -> bool:
    if (rule.direction, rule.ip_version) != (question.direction, question.version):
        return False
    if rule.protocol is not None and rule.protocol != question.protocol:
        return False
    return _ports_match(rule, question) and _remote_matches(topology, rule, question)


def _ports_match(rule: SecurityGroupRule, question: Question) -> bool:
    if rule.port_min is None:
        return True
    if question.ports is None:
        return False
    if isinstance(question.ports, tuple):
        kind, code = question.ports
        return kind == rule.port_min and rule.port_max in (None, code)
    most = rule.port_min if rule.port_max is None else rule.port_max
    return rule.port_min <= question.ports <= most


def _remote_matches(topology: Topology, rule: SecurityGroupRule, question: Question) -> bool:
    if rule.remote_cidr is not None:
        return _in(question.peer, [rule.remote_cidr])
    if rule.address_group_id is not None:
        group = rule.address_group_id
        return _in(question.peer, [e.cidr for e in topology.entries if e.address_group_id == group])
    if rule.remote_group_id is not None:
        return _in(question.peer, _members(topology, rule.remote_group_id, question.network))
    return True


def _members(topology: Topology, group: str, network: Network | None) -> list[str]:
    """Fixed addresses and address pairs of the ports that name the group, in the
    network of the peer alone: equal addresses elsewhere are somebody else's."""
    prefixes = []
    for port in topology.ports.values():
        if network and port.network_id == network.id and group in port.security_group_ids:
            prefixes += [fixed.ip for fixed in port.fixed_ips]
            prefixes += [pair.cidr for pair in port.address_pairs]
    return prefixes


def _in(address: wire.IpAddress, prefixes: list[str]) -> bool:
    networks = (wire.prefix(prefix) for prefix in prefixes)
    return any(n.version == address.version and address in n for n in networks)
