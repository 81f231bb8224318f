"""Security groups: what is allowed, of whom it is asked, and what needs no rule.

Most questions are asked about packets from web1 to db1, once of web1's rules
and once of db1's, while the other end allows everything.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from packet_rules import (
    FROM_VM,
    GRE,
    ICMP,
    ICMPV6,
    SCTP,
    TCP,
    TO_VM,
    UDP,
    Member,
    Rule,
    anything,
    write_group,
    write_set,
)
from packet_shapes import l4, to_router
from packet_talk import arrived, between, ping, pong, talk, tcp, udp
from packet_world import (
    ALL,
    DB,
    DB1,
    FAR1,
    GATE,
    LONE,
    MAIN_WEB,
    WEB,
    WEB1,
    WEB2,
    WEB3,
    Nic,
    mac_bytes,
)
from scapy.layers import inet
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import IP
from scapy.layers.inet6 import (
    ICMPv6MLReport2,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RS,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    IPv6ExtHdrHopByHop,
    RouterAlert,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw

from heddle.datapath.trace import trace
from tests.packets.conftest import TC_ACT_SHOT, Switchboard

VERSIONS = (4, 6)
BROADCAST = "ff:ff:ff:ff:ff:ff"
DIRECTIONS = (FROM_VM, TO_VM)
END = {FROM_VM: WEB1, TO_VM: DB1}  # whose rules are asked
PEER = {FROM_VM: DB1, TO_VM: WEB1}
REASON = {FROM_VM: "DROP_POLICY_FROM_VM", TO_VM: "DROP_POLICY_TO_VM"}
OWN = 7  # number of the group that a test writes
OPEN_RULE = 0xFFFFFFFF


def allow(board: Switchboard, nic: Nic, rules: Sequence[Rule], *flags: str) -> None:
    """These rules, and no others, are those of a port."""
    write_group(board.world, OWN, rules, *flags)
    board.world.write_port(nic, groups=[OWN])


def verdict(board: Switchboard, direction: str, version: int, payload: Packet, **ip: int) -> bool:
    """Is a packet from web1 to db1 allowed? If not, it is for the right reason."""
    sent = board.send_once("web1", between(WEB1, DB1, version, payload, **ip))
    if sent.to == "db1":
        return True
    assert sent.reason == REASON[direction]
    assert sent.trace.blamed_ifindex == board.devices[END[direction].name].ifindex
    assert board.drop_count(END[direction].name, sent.reason)["packets"] == 1
    return False


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
ICMP_NUMBER = {4: ICMP, 6: ICMPV6}
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


# ---- groups of a port ------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("which", [0, 7, 15])
def test_each_group_of_a_port_is_asked(
    board: Switchboard, which: int, direction: str, version: int
) -> None:
    """As many groups as a port may have, of which one allows it."""
    groups = range(30, 30 + board.world.value("GROUPS_MAX"))
    for group in groups:
        protocol = UDP if group == groups[which] else TCP
        write_group(board.world, group, [Rule(group, direction, version, protocol)])
    board.world.write_port(END[direction], groups=groups)
    told = board.trace("web1", between(WEB1, DB1, version, udp()))
    assert groups[which] in (told.from_rule, told.to_rule)
    others = [group for group in groups if group != groups[which]]
    board.world.write_port(END[direction], groups=others)
    assert not verdict(board, direction, version, udp())


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_port_without_groups_allows_nothing(
    board: Switchboard, direction: str, version: int
) -> None:
    board.world.write_port(END[direction], groups=[])
    assert not verdict(board, direction, version, udp())


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_group_that_has_no_rows_allows_nothing(board: Switchboard, direction: str) -> None:
    board.world.write_port(END[direction], groups=[77])
    assert not verdict(board, direction, 4, udp())


# ---- ports without port security -------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_both_ends_open(board: Switchboard, version: int) -> None:
    """Not even a SYN+ACK out of the blue is of interest."""
    for nic in (WEB1, DB1):
        board.world.open_port(nic)
    frame = between(WEB1, DB1, version, tcp("SA"))
    assert talk(board, frame, WEB1, DB1) == "OPEN"
    told = board.trace("web1", frame)
    assert (told.from_rule, told.to_rule) == (OPEN_RULE, OPEN_RULE)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_one_end_open_the_other_closed(board: Switchboard, direction: str, version: int) -> None:
    board.world.open_port(PEER[direction])
    board.world.write_port(END[direction], groups=[])
    assert not verdict(board, direction, version, udp())


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_filtered_end_knows_its_connection(
    board: Switchboard, direction: str, version: int
) -> None:
    board.world.open_port(PEER[direction])
    allow(board, END[direction], [Rule(9, direction, version)])
    early = between(DB1, WEB1, version, tcp("SA", 80, 40000))
    back = {FROM_VM: TO_VM, TO_VM: FROM_VM}[direction]
    assert talk(board, early, DB1, WEB1) == REASON[back]
    assert talk(board, between(WEB1, DB1, version, tcp("S")), WEB1, DB1) == "ALLOWED"
    assert talk(board, early, DB1, WEB1) == "REPLY"


@pytest.mark.parametrize("version", VERSIONS)
def test_open_port_may_have_any_source(board: Switchboard, version: int) -> None:
    board.world.open_port(WEB1)
    frame = between(WEB2, WEB3, version, udp())
    frame.src = "02:00:00:00:00:09"
    assert board.send_once("web1", frame).to == "web3"


# ---- stateless groups ------------------------------------------------------------------


def stateless(board: Switchboard, nic: Nic, *directions: str) -> None:
    rules = [rule for rule in anything(50) if rule.direction in directions]
    allow(board, nic, rules, "POLICY_STATELESS")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("end", ["web1", "db1"])
def test_replies_need_a_rule_at_a_stateless_end(board: Switchboard, end: str, version: int) -> None:
    """web1 asks, db1 answers; at one of them the connection does not count."""
    nic, first, second = {"web1": (WEB1, FROM_VM, TO_VM), "db1": (DB1, TO_VM, FROM_VM)}[end]
    question, answer = (
        between(WEB1, DB1, version, udp(5, 6)),
        between(DB1, WEB1, version, udp(6, 5)),
    )
    stateless(board, nic, first)
    assert talk(board, question, WEB1, DB1) == "ALLOWED"
    assert talk(board, answer, DB1, WEB1) == REASON[second]
    assert board.drop_count(end, REASON[second])["packets"] == 1
    stateless(board, nic, first, second)
    assert talk(board, answer, DB1, WEB1) == "REPLY"
    assert board.trace("db1", answer).decision("STAGE_FLOW") == "DECISION_FLOW_HIT"


@pytest.mark.parametrize("version", VERSIONS)
def test_without_state_at_both_ends_there_is_no_connection(
    board: Switchboard, version: int
) -> None:
    stateless(board, WEB1, FROM_VM, TO_VM)
    board.world.write_port(DB1, groups=[OWN])
    for payload in (tcp("SA"), tcp("R"), pong(version)):
        assert talk(board, between(WEB1, DB1, version, payload), WEB1, DB1) == "ALLOWED"
    assert {connection.tracked for connection in board.connections()} == {False}
    stateless(board, WEB1, FROM_VM)
    frame = between(DB1, WEB1, version, tcp("SA", 80, 40000))
    assert talk(board, frame, DB1, WEB1) == "DROP_POLICY_TO_VM"


@pytest.mark.parametrize("order", [(ALL, OWN), (OWN, ALL)])
def test_a_stateful_group_that_allows_it_too_is_worth_more(
    board: Switchboard, order: tuple[int, int]
) -> None:
    write_group(board.world, OWN, anything(50), "POLICY_STATELESS")
    write_group(board.world, 8, [Rule(9, FROM_VM)])
    groups = [{ALL: 8, OWN: OWN}[group] for group in order]
    board.world.write_port(WEB1, groups=groups)
    told = board.trace("web1", between(WEB1, DB1, 4, tcp("S")))
    assert told.from_rule == 9


# ---- what stays with heddle ------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_ping_to_the_gateway_needs_a_rule(board: Switchboard, version: int) -> None:
    frame = to_router(WEB1, MAIN_WEB, MAIN_WEB.address(version), "echo")
    board.world.write_port(WEB1, groups=[])
    assert board.send("web1", frame).reason == "DROP_POLICY_FROM_VM"
    allow(board, WEB1, [Rule(9, FROM_VM, version, ICMP_NUMBER[version])])
    sent = board.send("web1", frame)
    assert (sent.to, sent.reason) == ("web1", None)
    assert sent.trace.from_rule == 9


def oversized(version: int) -> Packet:
    ip = {"flags": "DF"} if version == 4 else {}
    return between(WEB1, DB1, version, inet.UDP(sport=1, dport=2) / Raw(bytes(1500)), **ip)


ERRORS: dict[str, Callable[[int], Packet]] = {
    "DROP_NO_ROUTE": lambda v: to_router(WEB1, MAIN_WEB, {4: "8.8.8.8", 6: "2001:db8::1"}[v]),
    "DROP_NO_NEIGHBOR": lambda v: to_router(
        WEB1, MAIN_WEB, {4: "192.168.0.99", 6: "fd00:db::99"}[v]
    ),
    "DROP_TTL_EXCEEDED": lambda v: to_router(WEB1, MAIN_WEB, DB1.address(v), ttl=1),
    "DROP_TOO_BIG": oversized,
    "DROP_ROUTER_SERVICE": lambda v: to_router(WEB1, MAIN_WEB, MAIN_WEB.address(v)),
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("reason", ERRORS)
def test_errors_are_for_those_who_may_send(board: Switchboard, reason: str, version: int) -> None:
    frame = ERRORS[reason](version)
    board.world.write_port(WEB1, groups=[])
    sent = board.send("web1", frame)
    assert (sent.reason, sent.verdict) == ("DROP_POLICY_FROM_VM", TC_ACT_SHOT)
    allow(board, WEB1, [Rule(9, FROM_VM, version)])
    sent = board.send("web1", frame)
    assert (sent.reason, sent.to) == (reason, "web1")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("reason", ["DROP_TTL_EXCEEDED", "DROP_TOO_BIG"])
def test_error_about_a_packet_to_a_member_of_a_group(
    board: Switchboard, reason: str, version: int
) -> None:
    """The network of the destination is known by then."""
    write_set(board.world, 5, [Member(DB1.address(version), DB.vni)])
    allow(board, WEB1, [Rule(9, FROM_VM, version, remote=5)])
    sent = board.send("web1", ERRORS[reason](version))
    assert (sent.reason, sent.to) == (reason, "web1")


def test_drops_of_which_nobody_is_told_come_first(board: Switchboard) -> None:
    board.world.write_port(WEB1, groups=[])
    frame = between(WEB1, WEB2, 4, udp())
    frame.dst = "fa:16:3e:00:00:99"
    assert board.send("web1", frame).reason == "DROP_UNKNOWN_MAC"


# ---- floods ----------------------------------------------------------------------------


def flooded(version: int) -> Packet:
    ip: Packet = IPv6(src=WEB1.ipv6, dst="ff02::123", hlim=1)
    if version == 4:
        ip = IP(src=WEB1.ipv4, dst="239.1.2.3", ttl=1)
    mac = {4: "01:00:5e:01:02:03", 6: "33:33:00:00:01:23"}[version]
    return Ether(src=WEB1.mac, dst=mac) / ip / l4("udp", version)


@pytest.mark.parametrize("version", VERSIONS)
def test_sender_of_a_flood_needs_a_rule(board: Switchboard, version: int) -> None:
    board.world.write_port(WEB1, groups=[])
    sent = board.send("web1", flooded(version))
    assert sent.reason == "DROP_POLICY_FROM_VM"
    assert board.devices["web2"].read_all() == []


@pytest.mark.parametrize("version", VERSIONS)
def test_each_receiver_of_a_flood_is_asked(board: Switchboard, version: int) -> None:
    """Who allows it gets a copy; who does not is counted and told of by name."""
    allow(board, WEB2, [Rule(9, TO_VM, version, UDP, ports=(53, 53))])
    write_group(board.world, 8, [Rule(9, TO_VM, version, UDP, ports=(54, 54))])
    board.world.write_port(WEB3, groups=[8])
    frame = flooded(version)
    assert board.trace("web1", frame).copies == 1
    board.run("web1", frame)
    assert board.devices["web2"].read() == bytes(frame)
    assert board.devices["web3"].read_all() == []
    assert board.drop_count("web3", "DROP_POLICY_TO_VM") == {
        "packets": 1,
        "bytes": len(bytes(frame)),
    }
    (event,) = board.dropped_events()
    assert event["ifindex"] == board.devices["web3"].ifindex
    assert event["from_ifindex"] == board.devices["web1"].ifindex
    assert board.drop_count("web1", "DROP_POLICY_TO_VM")["packets"] == 0
    assert board.counters(WEB2.slot)["to_vm_packets"] == 1
    assert board.counters(WEB3.slot)["to_vm_packets"] == 0


@pytest.mark.parametrize("version", VERSIONS)
def test_rules_about_members_hold_for_floods(board: Switchboard, version: int) -> None:
    write_set(board.world, 5, [Member(WEB1.address(version), WEB.vni)])
    write_set(board.world, 6, [Member(WEB1.address(version), DB.vni)])
    allow(board, WEB2, [Rule(9, TO_VM, version, remote=5)])
    write_group(board.world, 8, [Rule(9, TO_VM, version, remote=6)])
    board.world.write_port(WEB3, groups=[8])
    board.run("web1", flooded(version))
    assert board.devices["web2"].read() == bytes(flooded(version))
    assert board.drop_count("web3", "DROP_POLICY_TO_VM")["packets"] == 1


# ---- what needs no rule ----------------------------------------------------------------


def nd(message: Packet, source: str = WEB1.ipv6, target: str = "ff02::1") -> Packet:
    mac = WEB2.mac if target == WEB2.ipv6 else "33:33:00:00:00:01"
    return Ether(src=WEB1.mac, dst=mac) / IPv6(src=source, dst=target, hlim=255) / message


def dhcp4() -> Packet:
    boot = BOOTP(chaddr=mac_bytes(WEB1.mac), xid=1) / DHCP(
        options=[("message-type", "discover"), "end"]
    )
    ip = IP(src="0.0.0.0", dst="255.255.255.255")  # noqa: S104
    return Ether(src=WEB1.mac, dst=BROADCAST) / ip / inet.UDP(sport=68, dport=67) / boot


ANSWERED = {
    "arp": Ether(src=WEB1.mac, dst=BROADCAST) / ARP(hwsrc=WEB1.mac, psrc=WEB1.ipv4, pdst=WEB2.ipv4),
    "neighbor solicitation": nd(ICMPv6ND_NS(tgt=WEB2.ipv6) / ICMPv6NDOptSrcLLAddr(lladdr=WEB1.mac)),
    "router solicitation": nd(ICMPv6ND_RS(), WEB1.link_local, "ff02::2"),
    "dhcp": dhcp4(),
}


@pytest.fixture
def closed(board: Switchboard) -> Switchboard:
    """No port of the network web has a group."""
    for nic in (WEB1, WEB2, WEB3):
        board.world.write_port(nic, groups=[])
    return board


@pytest.mark.parametrize("name", ANSWERED)
def test_answers_of_the_network_need_no_rule(closed: Switchboard, name: str) -> None:
    sent = closed.send("web1", ANSWERED[name])
    assert (sent.to, sent.reason) == ("web1", None)


def test_neighbor_messages_between_vms_need_no_rule(closed: Switchboard) -> None:
    frame = nd(ICMPv6ND_NA(tgt=WEB1.ipv6), WEB1.ipv6, WEB2.ipv6)
    closed.send("web1", frame).arrives("web2", frame)
    arp = ARP(op=2, hwsrc=WEB1.mac, psrc=WEB1.ipv4, hwdst=WEB2.mac, pdst=WEB2.ipv4)
    frame = Ether(src=WEB1.mac, dst=WEB2.mac) / arp
    closed.send("web1", frame).arrives("web2", frame)


def test_multicast_reports_need_no_rule(closed: Switchboard) -> None:
    alert = IPv6ExtHdrHopByHop(options=[RouterAlert()])
    ip = IPv6(src=WEB1.link_local, dst="ff02::16", hlim=1)
    frame = Ether(src=WEB1.mac, dst="33:33:00:00:00:16") / ip / alert / ICMPv6MLReport2()
    assert closed.trace("web1", frame).copies == 2


def test_questions_to_another_dhcp_server_need_a_rule_there(closed: Switchboard) -> None:
    """The client may always ask; who listens says so."""
    closed.world.write_port(WEB1, groups=[], flags=0)
    assert closed.trace("web1", dhcp4()).copies == 0
    allow(closed, WEB2, [Rule(9, TO_VM, 4, UDP, ports=(67, 67))])
    assert closed.trace("web1", dhcp4()).copies == 1


def test_echo_between_vms_is_no_neighbor_message(closed: Switchboard) -> None:
    frame = between(WEB1, WEB2, 6, ping(6))
    assert closed.send("web1", frame).reason == "DROP_POLICY_FROM_VM"


# ---- ICMP that is neither echo nor error -----------------------------------------------


def test_timestamps_are_judged_one_by_one(board: Switchboard) -> None:
    """A question opens no way for its answer."""
    question = inet.ICMP(type="timestamp-request") / Raw(bytes(8))
    answer = inet.ICMP(type="timestamp-reply") / Raw(bytes(8))
    allow(board, WEB1, [Rule(9, FROM_VM)])
    board.send("web1", frame := between(WEB1, DB1, 4, question)).arrives(
        "db1", arrived(frame, WEB1, DB1)
    )
    assert board.flows() == []
    assert talk(board, between(DB1, WEB1, 4, answer), DB1, WEB1) == "DROP_POLICY_TO_VM"


def test_next_hop_does_not_count_as_the_remote(board: Switchboard) -> None:
    """A rule for gate does not open what lies behind it."""
    allow(board, WEB1, [Rule(9, FROM_VM, remote=GATE.ipv4)])
    frame = to_router(WEB1, MAIN_WEB, "10.9.1.1")
    assert board.send("web1", frame).reason == "DROP_POLICY_FROM_VM"
    allow(board, WEB1, [Rule(9, FROM_VM, remote="10.9.0.0/16")])
    assert board.send("web1", frame).to == "gate"


@pytest.mark.parametrize("version", VERSIONS)
def test_member_two_routers_away(board: Switchboard, version: int) -> None:
    write_set(board.world, 5, [Member(FAR1.address(version), FAR1.network.vni)])
    allow(board, WEB1, [Rule(9, FROM_VM, version, remote=5)])
    assert board.send("web1", to_router(WEB1, MAIN_WEB, FAR1.address(version))).to == "far1"
