"""Rules for security groups of any size, none of which the meters' frames match.

A real book of rules knows prefixes of many lengths and ranges of ports of all
kinds, and a lookup might have to go through all of these. The same seed gives
the same rules.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network

from bench.policy_peers import UDP_PORTS
from heddle.intent.model import Direction, Kind, SecurityGroupRule
from heddle.intent.names import PROJECT, object_id

_SEED = 3
_PROTOCOLS = (6, 17)  # TCP and UDP
_METER_PORTS = (min(UDP_PORTS), 39_999)  # to which meters send, at the most
_OTHER_PORTS = (_METER_PORTS[1] + 1, 65535)
_PREFIX_BITS = range(8, 33)
_NUMBERS = 1 << 20  # beyond those that a topology file gives


class RuleBook:
    """Rules for one group; the numbers of a second book must not be the same."""

    def __init__(self, group: str, book: int = 0) -> None:
        self._group_id = object_id(PROJECT, Kind.SECURITY_GROUP, group)
        self._first_number = _NUMBERS * (1 + book)
        self._chance = random.Random(_SEED)  # noqa: S311 - nobody must not guess it

    def scattered(self, count: int) -> Iterator[SecurityGroupRule]:
        """Rules for prefixes anywhere, of every length; one in four for a range
        of ports, the others for one port."""
        for number in range(count):
            address = IPv4Address(self._chance.getrandbits(32))
            yield self._rule(number, address, 1 if number % 4 else 2)

    def nested(self, peer: str, count: int) -> Iterator[SecurityGroupRule]:
        """The worst that rules can be for packets from and to ``peer``: every
        prefix that it lies in has rules, for ranges of other ports than theirs."""
        for number in range(count):
            yield self._rule(number, IPv4Address(peer), 2)

    def allowing(self, peer: str) -> SecurityGroupRule:
        """The rule that lets frames of the meters from ``peer`` in: found last, as
        its prefix is the longest."""
        low, high = _METER_PORTS
        rule = self._rule(_NUMBERS - 1, IPv4Address(peer), 1)
        changes = {"port_min": low, "port_max": high, "remote_cidr": f"{peer}/32"}
        whose = {"direction": Direction.TO_VM, "protocol": _PROTOCOLS[1], "name": "of the meters"}
        return rule.model_copy(update=changes | whose)

    def _rule(self, number: int, address: IPv4Address, ends: int) -> SecurityGroupRule:
        """Prefix lengths, directions and protocols take turns. ``ends`` of the
        range of ports: 1 or 2."""
        turn, bits = divmod(number, len(_PREFIX_BITS))
        prefix = IPv4Network((address, _PREFIX_BITS[bits]), strict=False)
        ports = sorted(self._chance.randint(*_OTHER_PORTS) for _ in range(ends))
        name = f"{prefix} {ports[0]}-{ports[-1]}"
        return SecurityGroupRule(
            id=object_id("bench", Kind.SECURITY_GROUP_RULE, f"{self._first_number + number}"),
            name=name,
            number=self._first_number + number,
            security_group_id=self._group_id,
            direction=(Direction.FROM_VM, Direction.TO_VM)[turn % 2],
            ip_version=4,
            protocol=_PROTOCOLS[turn // 2 % 2],
            port_min=ports[0],
            port_max=ports[-1],
            remote_cidr=str(prefix),
        )
