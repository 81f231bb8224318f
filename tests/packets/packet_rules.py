"""Security groups of the small world, written as the rows of policy tables."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from heddle.compiler.port_prefixes import ANY_PORT, PortPrefix, port_prefixes
from heddle.datapath.codec import Row

if TYPE_CHECKING:
    from packet_world import World

FROM_VM, TO_VM = "FROM_VM", "TO_VM"
TCP, UDP, ICMP, ICMPV6, SCTP, GRE = 6, 17, 1, 58, 132, 47
TableRow = tuple[str, Row, Row]  # table, key, value
# Security groups that allow one direction (conftest.strict).
SENDS, RECEIVES = 2, 3
_ANYBODY = {4: "0.0.0.0/0", 6: "::/0"}


@dataclass(frozen=True)
class Rule:
    """What a rule allows. Without ``protocol`` any; ``ports`` is the first and the
    last one; ``icmp`` the type, or type and code; ``remote`` a prefix or the number
    of a set, without it anybody."""

    number: int
    direction: str
    version: int = 4
    protocol: int | None = None
    ports: tuple[int, int] | None = None
    icmp: tuple[int, ...] | None = None
    remote: str | int | None = None

    @property
    def prefixes(self) -> list[PortPrefix]:
        if self.ports:
            return port_prefixes(*self.ports)
        if not self.icmp:
            return [ANY_PORT]
        bits = 8 * len(self.icmp)
        return [PortPrefix(bits, int.from_bytes(bytes(self.icmp).ljust(2, b"\0"), "big"))]

    @property
    def field(self) -> str:
        """Of struct policy_remote, for the rule's protocol."""
        if self.protocol is None:
            return "any_protocol"
        by_number = {TCP: "tcp", UDP: "udp", {4: ICMP, 6: ICMPV6}[self.version]: "icmp"}
        return by_number.get(self.protocol, "other")


class Remote(NamedTuple):
    """The other end, as the keys say it: a set, or a prefix of so many bits."""

    set: int
    prefix_bits: int
    address: bytes

    @classmethod
    def of(cls, rule: Rule) -> Remote:
        if isinstance(rule.remote, int):
            return cls(rule.remote, 0, bytes(16))
        return cls(0, *mapped_prefix(rule.remote or _ANYBODY[rule.version]))


def mapped_prefix(cidr: str) -> tuple[int, bytes]:
    """Length and address, of IPv4 as IPv4-mapped."""
    network = ipaddress.ip_network(cidr)
    if network.version == 6:
        return network.prefixlen, network.network_address.packed
    return 96 + network.prefixlen, bytes(10) + b"\xff\xff" + network.network_address.packed


def anything(first_number: int = 1) -> list[Rule]:
    """All traffic, either way."""
    sides = [(direction, version) for direction in (FROM_VM, TO_VM) for version in (4, 6)]
    return [Rule(first_number + i, *side) for i, side in enumerate(sides)]


def write_group(world: World, group: int, rules: Sequence[Rule], *flags: str) -> None:
    """Rows of a group, in place of those that it had. A group of no rules that has
    flags has rows nevertheless."""
    rows: list[TableRow] = []
    for direction in (FROM_VM, TO_VM):
        for version in (4, 6):
            side = [r for r in rules if (r.direction, r.version) == (direction, version)]
            key = {"group": group, "direction": world.value(direction), "ip_version": version}
            if side or flags:
                rows += _side_rows(world, key, side, flags)
    world.replace(f"group {group}", rows)


def _side_rows(
    world: World, side: Mapping[str, Row], rules: Sequence[Rule], flags: Sequence[str]
) -> Iterator[TableRow]:
    """The rules of one direction and IP version."""
    remotes: dict[Remote, list[Rule]] = {}
    for rule in rules:
        remotes.setdefault(Remote.of(rule), []).append(rule)
    bits = sorted({remote.prefix_bits for remote in remotes if not remote.set})
    sets = sorted({remote.set for remote in remotes if remote.set})
    for remote, same in remotes.items():
        yield "policy_remotes", {**side, **remote._asdict()}, _lengths(same)
        for key, number in _rule_rows(world, same):
            yield "policy_rules", {**side, **remote._asdict(), **key}, number
    row = {
        "flags": world.datapath.abi.bits("policy_group_flag", flags),
        "prefix_count": len(bits),
        "set_count": len(sets),
        "prefix_bits": bytes(bits),
        "sets": tuple(sets),
    }
    yield "policy_groups", side, row


def _lengths(rules: Sequence[Rule]) -> dict[str, int]:
    """struct policy_remote: which lengths of port prefixes there are."""
    fields: dict[str, int] = {}
    for rule in rules:
        for prefix in rule.prefixes:
            fields[rule.field] = fields.get(rule.field, 0) | 1 << prefix.bits
    return fields


def _rule_rows(world: World, rules: Sequence[Rule]) -> Iterator[tuple[Row, int]]:
    for rule in rules:
        protocol = world.value("PROTOCOL_ANY") if rule.protocol is None else rule.protocol
        for bits, port in rule.prefixes:
            yield {"port_bits": bits, "port": port, "protocol": protocol}, rule.number


class Member(NamedTuple):
    """A prefix that is in a set; ``network``: the VNI in which it counts, 0 in an
    address group."""

    cidr: str
    network: int = 0


def write_set(world: World, number: int, members: Sequence[Member]) -> None:
    """Rows of a security group's members, or of an address group, in place of those
    that it had."""
    rows: list[TableRow] = []
    lengths: dict[int, set[int]] = {4: set(), 6: set()}
    for member in members:
        version = ipaddress.ip_network(member.cidr).version
        bits, address = mapped_prefix(member.cidr)
        lengths[version].add(bits)
        key = {
            "set": number,
            "network": member.network,
            "ip_version": version,
            "prefix_bits": bits,
            "address": address,
        }
        rows.append(("set_members", key, 1))
    row = {
        "in_network": int(any(member.network for member in members)),
        "prefix_count4": len(lengths[4]),
        "prefix_count6": len(lengths[6]),
        "prefix_bits4": bytes(sorted(lengths[4])),
        "prefix_bits6": bytes(sorted(lengths[6])),
    }
    world.replace(f"set {number}", [*rows, ("sets", number, row)])
