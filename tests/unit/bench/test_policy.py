"""The registry of policy figures, and the rules that they load."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network

import pytest

from bench.figures import SUITES
from bench.policy_peers import UDP_PORTS
from bench.policy_rules import RuleBook
from heddle.compiler.host import Compiler
from heddle.intent.model import AnyResource, Kind, SecurityGroup, SecurityGroupRule
from heddle.intent.names import PROJECT, object_id
from heddle.paths import host_name

PEER = "10.83.1.4"
GROUP = SecurityGroup(id=object_id(PROJECT, Kind.SECURITY_GROUP, "many"), name="many", number=1)

Maker = Callable[[int], Iterator[SecurityGroupRule]]


def _scattered(count: int) -> Iterator[SecurityGroupRule]:
    return RuleBook("many").scattered(count)


def _nested(count: int) -> Iterator[SecurityGroupRule]:
    return RuleBook("many", book=1).nested(PEER, count)


def test_policy_has_every_figure_of_the_tables() -> None:
    values = [name for figure in SUITES["policy"] for name in figure.goals]

    assert values == [
        "policy-frames-of-nftables",
        "policy-frames-of-open-vswitch",
        "policy-frames-with-10000-rules",
        "policy-first-packet",
        "policy-connects-of-nftables",
        "policy-connects-beyond-veths",
        "policy-handshakes-of-nftables",
        "policy-tcp-of-open-ports",
        "guarantee-in-frame-flood",
        "guarantee-in-syn-flood",
        "guarantee-in-flow-flood",
        "guarantee-in-broadcast-storm",
        "limit-tcp",
        "limit-ping",
        "limit-udp",
        "guarantee-among-greedy",
        "policy-frames-among-many",
    ]


@pytest.mark.parametrize("rules", [_scattered, _nested])
def test_rules_are_the_same_each_time_and_numbers_are_unique(rules: Maker) -> None:
    first, again = list(rules(500)), list(rules(500))

    assert first == again
    assert len({rule.number for rule in first}) == len({rule.id for rule in first}) == 500


def test_two_books_share_no_number() -> None:
    numbers = [rule.number for rule in (*_scattered(500), *_nested(500))]

    assert len(set(numbers)) == 1000


def test_frames_of_the_meters_have_a_rule_of_their_own() -> None:
    rule = RuleBook("many").allowing(PEER)

    assert rule.remote_cidr == f"{PEER}/32"
    assert (rule.port_min, rule.port_max) == (UDP_PORTS[0], 39_999)
    assert rule.number not in {each.number for each in _scattered(500)}


@pytest.mark.parametrize("rules", [_scattered, _nested])
def test_no_rule_is_for_the_frames_of_the_meters(rules: Maker) -> None:
    for rule in rules(500):
        assert rule.port_min is not None
        assert rule.port_max is not None
        assert 39_999 < rule.port_min <= rule.port_max


def test_nested_rules_are_all_about_the_peer() -> None:
    prefixes = [ip_network(str(rule.remote_cidr)) for rule in _nested(200)]

    assert all(ip_address(PEER) in prefix for prefix in prefixes)
    assert {prefix.prefixlen for prefix in prefixes} == set(range(8, 33))


def test_each_prefix_length_meets_each_direction_and_protocol() -> None:
    kinds = {
        (ip_network(str(rule.remote_cidr)).prefixlen, rule.direction, rule.protocol)
        for rule in _scattered(100)
    }

    assert len(kinds) == 25 * 2 * 2


@pytest.mark.parametrize("rules", [_scattered, _nested])
def test_rules_compile_without_an_error(rules: Maker) -> None:
    compiler = Compiler(host_name())

    resources: list[AnyResource] = [GROUP, *rules(300)]
    compiler.update((r.kind, r.id, r) for r in resources)

    assert compiler.errors == {}
