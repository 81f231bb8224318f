"""Security groups: what is allowed, of whom it is asked, and what needs no rule.

Most questions are asked about packets from web1 to db1, once of web1's rules
and once of db1's, while the other end allows everything.
"""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from packet_policy import DIRECTIONS, END, ICMP_NUMBER, PEER, REASON, allow, verdict
from packet_rules import (
    FROM_VM,
    GRE,
    SCTP,
    TCP,
    TO_VM,
    UDP,
    Member,
    Rule,
    anything,
    write_set,
)
from packet_talk import between, ping, tcp, udp
from packet_world import (
    DB,
    DB1,
    LONE,
    WEB,
    WEB1,
)
from scapy.packet import Packet, Raw

from heddle.datapath.trace import trace
from tests.packets.conftest import Switchboard

VERSIONS = (4, 6)


# ---- protocols and ports ---------------------------------------------------------------

WITH_PORT_80 = Raw(b"\x9c\x40\x00\x50" + bytes(28))
CASES: dict[str, tuple[dict[str, Any], Packet, dict[str, int], bool]] = {
    "tcp": ({"protocol": TCP}, tcp("S"), {}, True),
    "udp by a rule for tcp": ({"protocol": TCP}, udp(), {}, False),
    "tcp by a rule for udp": ({"protocol": UDP}, tcp("S"), {}, False),
    "anything: tcp": ({}, tcp("S"), {}, True),
    "anything: gre": ({}, Raw(bytes(20)), {"protocol": GRE}, True),
    "gre": ({"protocol": GRE}, Raw(bytes(20)), {"protocol": GRE}, True),
    "unknown protocol by a rule for gre": (
        {"protocol": GRE},
        Raw(bytes(20)),
        {"protocol": 48},
        False,
    ),
    "sctp to its port": (
        {"protocol": SCTP, "ports": (80, 80)},
        WITH_PORT_80,
        {"protocol": SCTP},
        True,
    ),
    "sctp to another port": (
        {"protocol": SCTP, "ports": (81, 81)},
        WITH_PORT_80,
        {"protocol": SCTP},
        False,
    ),
    "dccp by a rule for sctp": (
        {"protocol": SCTP, "ports": (80, 80)},
        WITH_PORT_80,
        {"protocol": 33},
        False,
    ),
    "source ports are not asked for": (
        {"protocol": TCP, "ports": (80, 80)},
        tcp("S", 80, 81),
        {},
        False,
    ),
} | {
    f"tcp to {port} by {ports[0]}-{ports[1]}": (
        {"protocol": TCP, "ports": ports},
        tcp("S", 5, port),
        {},
        ports[0] <= port <= ports[1],
    )
    for ports, tried in {
        (22, 22): (21, 22, 23),
        (80, 443): (0, 79, 80, 81, 127, 128, 255, 256, 383, 384, 442, 443, 444, 592),
        (1, 65534): (0, 1, 2, 32767, 32768, 65533, 65534, 65535),
        (0, 65535): (0, 65535),
    }.items()
    for port in tried
}


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", CASES)
def test_protocol_and_ports(board: Switchboard, name: str, version: int, direction: str) -> None:
    fields, payload, header, expected = CASES[name]
    allow(board, END[direction], [Rule(9, direction, version, **fields)])
    ip = {{4: "proto", 6: "nh"}[version]: number for number in header.values()}
    assert verdict(board, direction, version, payload, **ip) == expected


ECHO = {4: 8, 6: 128}
# What a rule asks for (type, type and code), what is sent, and whether that is allowed.
ICMP_CASES = {
    "any type": ({}, (0, 0), True),
    "type": ({"icmp": (0,)}, (0, 0), True),
    "type with another code": ({"icmp": (0,)}, (0, 1), True),
    "type and code": ({"icmp": (0, 0)}, (0, 0), True),
    "another code": ({"icmp": (0, 0)}, (0, 1), False),
    "code of its own": ({"icmp": (0, 5)}, (0, 5), True),
    "another type": ({"icmp": (0,)}, (10, 0), False),
    "another type, same code": ({"icmp": (0, 0)}, (10, 0), False),
}


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ICMP_CASES)
def test_icmp_type_and_code(board: Switchboard, name: str, version: int, direction: str) -> None:
    """Types are counted from echo request on."""
    wanted, sent, expected = ICMP_CASES[name]
    base, number = ECHO[version], ICMP_NUMBER[version]
    icmp = (base + wanted["icmp"][0], *wanted["icmp"][1:]) if wanted else None
    allow(board, END[direction], [Rule(9, direction, version, number, icmp=icmp)])
    payload = Raw(bytes([base + sent[0], sent[1]]) + bytes(30))
    ip = {{4: "proto", 6: "nh"}[version]: number}
    assert verdict(board, direction, version, payload, **ip) == expected


@pytest.mark.parametrize("version", VERSIONS)
def test_icmp_of_the_other_family_is_another_protocol(board: Switchboard, version: int) -> None:
    allow(board, WEB1, [Rule(9, FROM_VM, version, ICMP_NUMBER[10 - version])])
    assert not verdict(board, FROM_VM, version, ping(version))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_rules_are_of_one_direction_and_family(
    board: Switchboard, direction: str, version: int
) -> None:
    matching = (direction, version)
    rules = [rule for rule in anything() if (rule.direction, rule.version) != matching]
    allow(board, END[direction], rules)
    assert not verdict(board, direction, version, udp())


def test_the_rule_that_matched_is_named(board: Switchboard) -> None:
    allow(board, WEB1, [Rule(21, FROM_VM, 4, TCP, ports=(1, 79)), Rule(22, FROM_VM, 4, UDP)])
    told = board.trace("web1", between(WEB1, DB1, 4, udp()))
    assert (told.from_rule, told.to_rule) == (22, 3)
    assert told.decision("STAGE_POLICY") == "DECISION_POLICY_ALLOWED"


# ---- remote prefixes -------------------------------------------------------------------


def around(address: str, bits: int) -> str:
    return str(ipaddress.ip_network(f"{address}/{bits}", strict=False))


def beside(address: str, bits: int) -> str:
    """The prefix whose last bit is the other one."""
    parsed = ipaddress.ip_address(address)
    flipped = int(parsed) ^ 1 << (parsed.max_prefixlen - bits)
    return around(str(type(parsed)(flipped)), bits)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_each_prefix_length(board: Switchboard, direction: str, version: int) -> None:
    frame = bytes(between(WEB1, DB1, version, udp()))
    peer, ifindex = PEER[direction].address(version), board.devices["web1"].ifindex

    def reason_with(remote: str) -> str | None:
        allow(board, END[direction], [Rule(9, direction, version, remote=remote)])
        told = trace(board.datapath, frame, ifindex)
        return told.drop_reason.name if told.drop_reason else None

    for bits in range({4: 32, 6: 128}[version] + 1):
        assert reason_with(around(peer, bits)) is None, bits
        assert not bits or reason_with(beside(peer, bits)) == REASON[direction], bits


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_all_prefix_lengths_in_one_group(board: Switchboard, direction: str, version: int) -> None:
    peer, longest = PEER[direction].address(version), {4: 32, 6: 128}[version]
    missing = [
        Rule(bits, direction, version, remote=beside(peer, bits)) for bits in range(1, longest)
    ]
    allow(board, END[direction], missing)
    assert not verdict(board, direction, version, udp())
    allow(board, END[direction], [*missing, Rule(999, direction, version, remote=peer)])
    assert verdict(board, direction, version, udp())


def test_ipv4_and_ipv6_prefixes_do_not_mix(board: Switchboard) -> None:
    """::/0 holds IPv4-mapped addresses, and yet says nothing of IPv4."""
    allow(board, WEB1, [Rule(9, FROM_VM, 6, remote="::/0")])
    assert not verdict(board, FROM_VM, 4, udp())


# ---- remote groups and address groups --------------------------------------------------

MEMBERS: dict[str, tuple[list[tuple[str, int]], bool]] = {
    "a member": ([("peer", DB.vni)], True),
    "in another network": ([("peer", LONE.vni)], False),
    "in both": ([("peer", LONE.vni), ("peer", DB.vni)], True),
    "in an address group": ([("peer", 0)], True),
    "in a prefix": ([("around", DB.vni)], True),
    "in a prefix of an address group": ([("around", 0)], True),
    "beside": ([("beside", DB.vni)], False),
    "beside in an address group": ([("beside", 0)], False),
    "nobody": ([], False),
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", MEMBERS)
def test_remote_set_of_whom_is_sent_to(board: Switchboard, name: str, version: int) -> None:
    """Members count in the network in which the receiver is."""
    peer, bits = DB1.address(version), {4: 29, 6: 121}[version]
    cidrs = {"peer": peer, "around": around(peer, bits), "beside": beside(peer, bits)}
    members, expected = MEMBERS[name]
    write_set(board.world, 5, [Member(cidrs[which], vni) for which, vni in members])
    allow(board, WEB1, [Rule(9, FROM_VM, version, UDP, ports=(53, 53), remote=5)])
    assert verdict(board, FROM_VM, version, udp()) == expected


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("vni", "expected"), [(WEB.vni, True), (DB.vni, False), (0, True)])
def test_remote_set_of_who_sends(
    board: Switchboard, vni: int, expected: bool, version: int
) -> None:
    """Members count in the network from which the sender came."""
    write_set(board.world, 5, [Member(WEB1.address(version), vni)])
    allow(board, DB1, [Rule(9, TO_VM, version, remote=5)])
    assert verdict(board, TO_VM, version, tcp("S")) == expected


def test_set_without_a_row_has_no_members(board: Switchboard) -> None:
    allow(board, WEB1, [Rule(9, FROM_VM, 4, remote=5)])
    assert not verdict(board, FROM_VM, 4, udp())


def test_rule_of_a_set_asks_for_ports_as_well(board: Switchboard) -> None:
    write_set(board.world, 5, [Member(DB1.ipv4, DB.vni)])
    allow(board, WEB1, [Rule(9, FROM_VM, 4, UDP, ports=(54, 60), remote=5)])
    assert not verdict(board, FROM_VM, 4, udp())


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_as_many_sets_as_a_group_may_name(board: Switchboard, direction: str, version: int) -> None:
    numbers = range(101, 101 + board.world.value("POLICY_SETS_MAX"))
    peer = PEER[direction]
    allow(board, END[direction], [Rule(n, direction, version, remote=n) for n in numbers])
    for number in numbers[:-1]:
        write_set(board.world, number, [Member(beside(peer.address(version), 20))])
    assert not verdict(board, direction, version, udp())
    write_set(board.world, numbers[-1], [Member(peer.address(version), peer.network.vni)])
    told = board.trace("web1", between(WEB1, DB1, version, udp()))
    assert numbers[-1] in (told.from_rule, told.to_rule)


@pytest.mark.parametrize("version", VERSIONS)
def test_set_with_members_of_all_lengths(board: Switchboard, version: int) -> None:
    peer, longest = DB1.address(version), {4: 32, 6: 128}[version]
    allow(board, WEB1, [Rule(9, FROM_VM, version, remote=5)])
    members = [Member(beside(peer, bits)) for bits in range(1, longest)]
    write_set(board.world, 5, members)
    assert not verdict(board, FROM_VM, version, udp())
    write_set(board.world, 5, [*members, Member(peer)])
    assert verdict(board, FROM_VM, version, udp())
