"""What the rows of policy mean, looked up as bpf/shared/abi.h says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import NamedTuple

import pytest
from compiler_intents import (
    HOST,
    address_group,
    address_pair,
    entry,
    group,
    machine,
    network,
    port,
    rule,
    subnet4,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from heddle.compiler.addresses import mapped
from heddle.compiler.fragment import UNLIMITED
from heddle.compiler.host import Compiler, compile_host
from heddle.compiler.state import (
    HostState,
    PolicyGroupKey,
    PolicyGroupRow,
    PolicyRemoteKey,
    PolicyRemoteRow,
    PolicyRuleKey,
    RowKey,
    SetMemberKey,
    SetRow,
    Symbol,
)
from heddle.intent.model import AnyResource, Kind, Port, SecurityGroupRule

TO_VM = Symbol("direction", ("TO_VM",))
FROM_VM = Symbol("direction", ("FROM_VM",))
ANY_PROTOCOL = Symbol("limits", ("PROTOCOL_ANY",))
ANYBODY4 = (96, mapped("0.0.0.0"))  # noqa: S104

USER = port(1, 2, security_group_ids=("web",))
WORLD: list[AnyResource] = [network(1), subnet4(1), machine(), USER, group("web", 7)]


def rows_of(*objects: AnyResource) -> dict[object, object]:
    rows = compile_host([*WORLD, *objects], HOST).rows
    tables = ("policy_groups", "policy_remotes", "policy_rules", "sets", "set_members")
    return {key.key: value for key, value in rows.items() if key.table in tables}


# ---- single rules ------------------------------------------------------------


def rule_key(bits: int, port: int, protocol: int | Symbol) -> PolicyRuleKey:
    prefix_bits, address = ANYBODY4
    return PolicyRuleKey(7, 0, TO_VM, 4, prefix_bits, bits, address, protocol, port)


SERVICES: dict[str, tuple[dict[str, int], PolicyRemoteRow, list[PolicyRuleKey]]] = {
    "any protocol": (
        {},
        PolicyRemoteRow(1, 0, 0, 0, 0),
        [rule_key(0, 0, ANY_PROTOCOL)],
    ),
    "any TCP": ({"protocol": 6}, PolicyRemoteRow(0, 1, 0, 0, 0), [rule_key(0, 0, 6)]),
    "a UDP port": (
        {"protocol": 17, "port_min": 53, "port_max": 53},
        PolicyRemoteRow(0, 0, 1 << 16, 0, 0),
        [rule_key(16, 53, 17)],
    ),
    "TCP ports": (
        {"protocol": 6, "port_min": 7, "port_max": 24},
        PolicyRemoteRow(0, 1 << 16 | 1 << 13, 0, 0, 0),
        [rule_key(16, 7, 6), rule_key(13, 8, 6), rule_key(13, 16, 6), rule_key(16, 24, 6)],
    ),
    "SCTP ports": (
        {"protocol": 132, "port_min": 0, "port_max": 1},
        PolicyRemoteRow(0, 0, 0, 0, 1 << 15),
        [rule_key(15, 0, 132)],
    ),
    "ICMP": ({"protocol": 1}, PolicyRemoteRow(0, 0, 0, 1, 0), [rule_key(0, 0, 1)]),
    "ICMP type": (
        {"protocol": 1, "port_min": 8},
        PolicyRemoteRow(0, 0, 0, 1 << 8, 0),
        [rule_key(8, 0x800, 1)],
    ),
    "ICMP type and code": (
        {"protocol": 1, "port_min": 3, "port_max": 4},
        PolicyRemoteRow(0, 0, 0, 1 << 16, 0),
        [rule_key(16, 0x304, 1)],
    ),
    "ICMPv6 in IPv4": ({"protocol": 58}, PolicyRemoteRow(0, 0, 0, 0, 1), [rule_key(0, 0, 58)]),
}


@pytest.mark.parametrize(("fields", "remote", "keys"), SERVICES.values(), ids=SERVICES)
def test_services(
    fields: dict[str, int], remote: PolicyRemoteRow, keys: list[PolicyRuleKey]
) -> None:
    prefix_bits, address = ANYBODY4
    assert rows_of(rule(5, **fields)) == {
        PolicyGroupKey(7, TO_VM, 4): PolicyGroupRow(
            flags=Symbol("policy_group_flag", ()),
            prefix_count=1,
            set_count=0,
            prefix_bits=bytes([prefix_bits]),
            sets=(),
        ),
        PolicyRemoteKey(7, 0, TO_VM, 4, prefix_bits, address): remote,
        **dict.fromkeys(keys, 5),
    }


REMOTES: dict[str, tuple[dict[str, object], int, bytes]] = {
    "anybody, IPv4": ({}, *ANYBODY4),
    "anybody, IPv6": ({"ip_version": 6}, 0, bytes(16)),
    "IPv4": ({"remote_cidr": "10.0.0.0/8"}, 104, mapped("10.0.0.0")),
    "IPv6": ({"remote_cidr": "fd00::/16", "ip_version": 6}, 16, mapped("fd00::")),
    "all of IPv6": ({"remote_cidr": "::/0", "ip_version": 6}, 0, bytes(16)),
}


@pytest.mark.parametrize(("fields", "bits", "address"), REMOTES.values(), ids=REMOTES)
def test_prefixes(fields: dict[str, object], bits: int, address: bytes) -> None:
    version = 6 if "ip_version" in fields else 4
    rows = rows_of(rule(5, direction="from_vm", **fields))
    assert PolicyRemoteKey(7, 0, FROM_VM, version, bits, address) in rows
    key = PolicyRuleKey(7, 0, FROM_VM, version, bits, 0, address, ANY_PROTOCOL, 0)
    assert rows[key] == 5
    summary = rows[PolicyGroupKey(7, FROM_VM, version)]
    assert isinstance(summary, PolicyGroupRow)
    assert summary.prefix_bits == bytes([bits])


def test_summary_of_a_side_is_ascending_and_without_repeats() -> None:
    rows = rows_of(
        *(rule(n, remote_cidr=f"10.{n}.0.0/{bits}") for n, bits in ((1, 24), (2, 16), (3, 24))),
        group("db", 3),
        rule(4, remote_group_id="web"),
        rule(5, remote_group_id="db", protocol=6),
        rule(6, remote_group_id="web", protocol=17),
        rule(8, ip_version=6),
    )
    summary = PolicyGroupRow(Symbol("policy_group_flag", ()), 2, 2, bytes([112, 120]), (3, 7))
    assert rows[PolicyGroupKey(7, TO_VM, 4)] == summary
    sets_of_ipv6 = rows[PolicyGroupKey(7, TO_VM, 6)]
    assert isinstance(sets_of_ipv6, PolicyGroupRow)
    assert sets_of_ipv6.sets == ()


def test_stateless_is_said_on_all_sides() -> None:
    rows = rows_of(group("web", 7, stateful=False), rule(1))
    summaries = {
        key: row.flags.names for key, row in rows.items() if isinstance(row, PolicyGroupRow)
    }
    assert summaries == {
        PolicyGroupKey(7, direction, version): ("POLICY_STATELESS",)
        for direction in (TO_VM, FROM_VM)
        for version in (4, 6)
    }


def test_of_rules_that_meet_the_first_by_id_gives_the_row() -> None:
    late, early = rule(5, id="b"), rule(9, id="a")
    key = rule_key(0, 0, ANY_PROTOCOL)
    assert rows_of(late, early)[key] == rows_of(early, late)[key] == 9
    assert rows_of(late)[key] == 5


# ---- members -----------------------------------------------------------------


def test_members_are_addresses_of_ports_of_any_host_within_reach() -> None:
    elsewhere = port(
        2,
        9,
        "m9",
        host="h2",
        security_group_ids=("web",),
        address_pairs=(address_pair("10.9.0.0/16"),),
    )
    out_of_reach = port(3, 9, "m9", host="h2", security_group_ids=("web",))
    rows = rows_of(
        network(2, vni=22),
        network(3),
        port(2, 8, nic=1),
        elsewhere,
        out_of_reach,
        rule(1, remote_group_id="web"),
    )
    assert {key for key in rows if isinstance(key, SetMemberKey)} == {
        SetMemberKey(7, 1, 4, 128, mapped("10.1.0.2")),
        SetMemberKey(7, 1, 6, 128, mapped("fd00:1::2")),
        SetMemberKey(7, 22, 4, 128, mapped("10.2.0.9")),
        SetMemberKey(7, 22, 6, 128, mapped("fd00:2::9")),
        SetMemberKey(7, 22, 4, 112, mapped("10.9.0.0")),
    }
    assert rows[7] == SetRow(1, 2, 1, bytes([112, 128]), bytes([128]))


def test_members_of_an_address_group_know_no_network() -> None:
    rows = rows_of(
        address_group("offices", 50),
        entry("192.0.2.0/24"),
        entry("192.0.2.0/24", id="the same"),
        entry("2001:db8::/48"),
        rule(1, address_group_id="offices"),
    )
    assert {key for key in rows if isinstance(key, SetMemberKey)} == {
        SetMemberKey(50, 0, 4, 120, mapped("192.0.2.0")),
        SetMemberKey(50, 0, 6, 48, mapped("2001:db8::")),
    }
    assert rows[50] == SetRow(0, 1, 1, bytes([120]), bytes([48]))
    assert rows[PolicyRemoteKey(7, 50, TO_VM, 4, 0, bytes(16))] == PolicyRemoteRow(1, 0, 0, 0, 0)


UNUSED: dict[str, list[AnyResource]] = {
    "another group": [group("db", 3), rule(1, "db")],
    "a group of another host": [
        group("db", 3),
        rule(1, "db", remote_group_id="db"),
        port(1, 9, "m9", host="h2", security_group_ids=("db",)),
    ],
    "a group of a port without port security": [
        group("db", 3),
        rule(1, "db", remote_group_id="db"),
        port(1, 9, nic=1, security_group_ids=("db",), port_security=False),
    ],
    "a set that nobody names": [address_group(), entry("192.0.2.0/24")],
    "a set that is absent": [rule(1, remote_group_id="db"), rule(2, address_group_id="offices")],
    "a group that is absent": [rule(1, "db")],
}


@pytest.mark.parametrize("objects", UNUSED.values(), ids=UNUSED)
def test_a_host_holds_only_what_its_ports_need(objects: list[AnyResource]) -> None:
    assert rows_of(*objects) == {}


def test_the_same_pair_of_several_ports_is_a_member_until_the_last_goes() -> None:
    pair = address_pair("10.1.0.100/32")
    key = RowKey("set_members", SetMemberKey(7, 1, 4, 128, mapped("10.1.0.100")))
    compiler = Compiler(HOST)
    ports = [
        port(1, n, "far", host="h2", security_group_ids=("web",), address_pairs=(pair,))
        for n in (3, 4, 5)
    ]
    objects = [*WORLD, rule(1, remote_group_id="web"), *ports]
    compiler.update((r.kind, r.id, r) for r in objects)
    for gone in ports:
        assert key in compiler.state.rows
        compiler.update([(gone.kind, gone.id, None)])
    assert key not in compiler.state.rows


# ---- limits --------------------------------------------------------------------


def sets_named(compiler: Compiler) -> tuple[int, ...]:
    row = compiler.state.rows[RowKey("policy_groups", PolicyGroupKey(7, TO_VM, 4))]
    assert isinstance(row, PolicyGroupRow)
    return row.sets


def test_more_sets_than_there_is_room_for() -> None:
    compiler = Compiler(HOST, replace(UNLIMITED, sets=2))
    groups = [group(label, number) for number, label in enumerate("abc", 20)]
    rules = [rule(n, remote_group_id=label) for n, label in enumerate("abca", 1)]
    compiler.update((r.kind, r.id, r) for r in (*WORLD, *groups, *rules))
    assert sets_named(compiler) == (20, 21)
    assert compiler.errors == {
        (Kind.SECURITY_GROUP_RULE, "rule3"): (
            "security group rule rule3: the IPv4 to_vm rules of security group web name more "
            "than 2 security groups and address groups; join some of them"
        )
    }
    # The other side has room of its own.
    other = rule(9, remote_group_id="c", direction="from_vm")
    compiler.update([(other.kind, other.id, other)])
    assert len(compiler.errors) == 1
    # a is still named by rule4 when rule1 goes; c comes in when b goes.
    compiler.update([(Kind.SECURITY_GROUP_RULE, "rule1", None)])
    assert sets_named(compiler) == (20, 21)
    compiler.update([(Kind.SECURITY_GROUP_RULE, "rule2", None)])
    assert (sets_named(compiler), compiler.errors) == ((20, 22), {})
    assert compiler.recompiled == 2
    # It goes when b comes back.
    compiler.update([(rules[1].kind, rules[1].id, rules[1])])
    assert sets_named(compiler) == (20, 21)
    assert list(compiler.errors) == [(Kind.SECURITY_GROUP_RULE, "rule3")]


# ---- all together ------------------------------------------------------------


class Packet(NamedTuple):
    peer: str
    protocol: int
    port: int
    direction: Symbol


def looked_up(state: HostState, number: int, packet: Packet) -> int:
    """The rule of the group that allows the packet, 0: none."""
    version = 6 if ":" in packet.peer else 4
    summary = state.rows.get(
        RowKey("policy_groups", PolicyGroupKey(number, packet.direction, version))
    )
    if not isinstance(summary, PolicyGroupRow):
        return 0
    remotes = [(0, bits, masked(packet.peer, bits)) for bits in summary.prefix_bits]
    remotes += [
        (found, 0, bytes(16)) for found in summary.sets if is_member(state, found, packet.peer)
    ]
    hits = (rule_for(state, number, packet, version, remote) for remote in remotes)
    return next((hit for hit in hits if hit), 0)


def masked(address: str, bits: int) -> bytes:
    mask = (1 << 128) - (1 << 128 - bits)
    return (int.from_bytes(mapped(address), "big") & mask).to_bytes(16, "big")


def is_member(state: HostState, number: int, peer: str) -> bool:
    row = state.rows.get(RowKey("sets", number))
    if not isinstance(row, SetRow):
        return False
    version, lengths = (6, row.prefix_bits6) if ":" in peer else (4, row.prefix_bits4)
    where = 1 if row.in_network else 0
    return any(
        RowKey("set_members", SetMemberKey(number, where, version, bits, masked(peer, bits)))
        in state.rows
        for bits in lengths
    )


def rule_for(
    state: HostState, number: int, packet: Packet, version: int, remote: tuple[int, int, bytes]
) -> int:
    set_number, prefix_bits, address = remote
    side = (number, set_number, packet.direction, version, prefix_bits)
    row = state.rows.get(RowKey("policy_remotes", PolicyRemoteKey(*side, address)))
    if not isinstance(row, PolicyRemoteRow):
        return 0
    icmp = 58 if version == 6 else 1
    field = {6: "tcp", 17: "udp", icmp: "icmp"}.get(packet.protocol, "other")
    keys = [PolicyRuleKey(*side, 0, address, ANY_PROTOCOL, 0)] if row.any_protocol else []
    keys += [
        PolicyRuleKey(*side, bits, address, packet.protocol, packet.port >> 16 - bits << 16 - bits)
        for bits in range(17)
        if getattr(row, field) >> bits & 1
    ]
    found = (state.rows.get(RowKey("policy_rules", key)) for key in keys)
    return next((hit for hit in found if isinstance(hit, int)), 0)


def allowing(objects: Iterable[AnyResource], packet: Packet) -> set[int]:
    """Numbers of the rules that allow the packet, by definition."""
    there = list(objects)
    return {r.number for r in there if isinstance(r, SecurityGroupRule) and fits(r, packet, there)}


def fits(wanted: SecurityGroupRule, packet: Packet, objects: list[AnyResource]) -> bool:
    peer = ip_address(packet.peer)
    if (wanted.direction == "to_vm") != (packet.direction == TO_VM):
        return False
    if wanted.ip_version != peer.version or wanted.protocol not in (None, packet.protocol):
        return False
    if wanted.port_min is not None and not in_range(wanted, packet):
        return False
    prefixes: list[str] = [wanted.remote_cidr or ("0.0.0.0/0" if peer.version == 4 else "::/0")]
    if wanted.remote_group_id:
        members = [o for o in objects if isinstance(o, Port) and o.security_group_ids]
        prefixes = [f"{fixed.ip}" for member in members for fixed in member.fixed_ips]
        prefixes += [pair.cidr for member in members for pair in member.address_pairs]
    elif wanted.address_group_id:
        prefixes = [o.cidr for o in objects if o.kind == "address_group_entry"]
    return any(peer in ip_network(prefix) for prefix in prefixes)


def in_range(wanted: SecurityGroupRule, packet: Packet) -> bool:
    first, last = wanted.port_min, wanted.port_max
    assert first is not None
    if packet.protocol != (58 if wanted.ip_version == 6 else 1):
        return last is not None and first <= packet.port <= last
    return packet.port >> 8 == first and last in (None, packet.port & 0xFF)


def _random_rule(
    number: int, version: int, direction: str, remote: str | None, service: dict[str, int]
) -> AnyResource:
    remotes: dict[str | None, dict[str, object]] = {
        None: {},
        "group": {"remote_group_id": "web"},
        "addresses": {"address_group_id": "offices"},
        "near": {"remote_cidr": "10.1.0.0/24" if version == 4 else "fd00:1::/64"},
        "one": {"remote_cidr": "10.1.0.3/32" if version == 4 else "fd00:1::3/128"},
    }
    chosen = remotes[remote]
    if service.get("protocol") == 1 and version == 6:
        service = service | {"protocol": 58}
    return rule(number, direction=direction, ip_version=version, **chosen, **service)


services = st.one_of(
    st.just({}),
    st.builds(lambda p: {"protocol": p}, st.sampled_from([6, 17, 1, 47])),
    st.builds(
        lambda p, first, more: {"protocol": p, "port_min": first, "port_max": first + more},
        st.sampled_from([6, 17, 132]),
        st.integers(0, 30),
        st.integers(0, 30),
    ),
    st.sampled_from(
        [{"protocol": 1, "port_min": 8}, {"protocol": 1, "port_min": 0, "port_max": 9}]
    ),
)
rule_sets = st.lists(
    st.builds(
        _random_rule,
        st.integers(1, 20),
        st.sampled_from([4, 6]),
        st.sampled_from(["to_vm", "from_vm"]),
        st.sampled_from([None, "group", "addresses", "near", "one"]),
        services,
    ),
    max_size=8,
    unique_by=lambda r: r.id,
)
packets = st.builds(
    Packet,
    st.sampled_from(["10.1.0.3", "10.1.0.9", "10.7.0.1", "192.0.2.1", "fd00:1::3", "2001:db8::1"]),
    st.sampled_from([6, 17, 132, 47]),
    st.integers(0, 40),
    st.sampled_from([TO_VM, FROM_VM]),
)
pings = st.builds(
    lambda peer, kind, code, direction: Packet(
        peer, 58 if ":" in peer else 1, kind << 8 | code, direction
    ),
    st.sampled_from(["10.1.0.3", "fd00:1::3"]),
    st.sampled_from([0, 8]),
    st.sampled_from([0, 9]),
    st.sampled_from([TO_VM, FROM_VM]),
)


@given(rule_sets, st.lists(st.one_of(packets, packets, pings), min_size=1, max_size=20))
@settings(max_examples=200, deadline=None)
def test_rows_allow_what_the_rules_allow(rules: list[AnyResource], asked: list[Packet]) -> None:
    objects: list[AnyResource] = [
        *WORLD,
        machine("m2"),
        port(1, 3, "m2", security_group_ids=("web",), address_pairs=(address_pair("10.7.0.0/16"),)),
        address_group(),
        entry("192.0.2.0/24"),
        entry("2001:db8::/32"),
        *rules,
    ]
    state = compile_host(objects, HOST)
    for packet in asked:
        allowed = allowing(objects, packet)
        found = looked_up(state, 7, packet)
        assert (found in allowed) if allowed else found == 0
