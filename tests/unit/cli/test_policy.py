"""Groups, rules and limits in words."""

from __future__ import annotations

from typing import Any

import pytest

from heddle.cli.policy import (
    address_group_details,
    allowed_by,
    announced,
    behind,
    brief,
    connections_of,
    crowds,
    group_details,
    port_details,
    qos_words,
    troubles,
)
from heddle.cli.view import View
from heddle.datapath.flows import Usage
from heddle.datapath.learned import Announced, Behind, Learned
from heddle.events.counters import DropCount
from heddle.events.naming import PortName


def rule(number: int, name: str, **fields: Any) -> dict[str, Any]:  # noqa: ANN401
    usual = {
        "kind": "security_group_rule",
        "id": f"r{number}",
        "name": name,
        "number": number,
        "security_group_id": "web",
        "direction": "to_vm",
        "ip_version": 4,
        "protocol": None,
        "port_min": None,
        "port_max": None,
        "remote_cidr": None,
        "remote_group_id": None,
        "address_group_id": None,
    }
    return {**usual, **fields}


def port(machine: str, **fields: Any) -> dict[str, Any]:  # noqa: ANN401
    own = {"kind": "port", "id": f"{machine}-port", "name": f"{machine}/n", "machine_id": machine}
    usual = {"network_id": "n", "nic": 0, "fixed_ips": [{"subnet_id": "s", "ip": "10.0.0.2"}]}
    return {**own, **usual, "security_group_ids": ["web"], **fields}


WEB = {"kind": "security_group", "id": "web", "name": "web", "stateful": True}
OFFICES = {"kind": "address_group", "id": "offices", "name": "offices"}
ENTRY = {
    "kind": "address_group_entry", "id": "e", "name": "offices 192.0.2.0/24",
    "address_group_id": "offices", "cidr": "192.0.2.0/24",
}  # fmt: skip
RULES = [
    rule(1, "ports", protocol=6, port_min=80, port_max=443, remote_cidr="10.0.0.0/8"),
    rule(2, "port", protocol=17, port_min=53, port_max=53, remote_group_id="web"),
    rule(3, "type", protocol=1, port_min=8, address_group_id="offices"),
    rule(4, "code", protocol=58, port_min=1, port_max=4, ip_version=6),
    rule(5, "any"),
]
MACHINES = [
    {"kind": "machine", "id": name, "name": name, "machine_kind": "container"}
    for name in ("m0", "m1")
]
PORTS = [
    port("m0", address_pairs=[{"cidr": "10.0.0.96/28", "mac": None}], connections_max=5),
    port("m1", security_group_ids=[], port_security=False),
]


@pytest.fixture
def view() -> View:
    found = View.__new__(View)  # what it reads from the store is given here
    found.objects = [WEB, OFFICES, ENTRY, *RULES, *MACHINES, *PORTS]
    found.statuses = {("port", "m0-port"): {"ifindex": 5}, ("port", "m1-port"): {"ifindex": 6}}
    return found


def test_rules_of_a_group(view: View) -> None:
    rules = group_details(view, WEB)["rules"]
    assert [(r["protocol"], r["ports"], r["remote"]) for r in rules] == [
        ("tcp", "80-443", "10.0.0.0/8"),
        ("udp", "53", "group web"),
        ("icmp", "type 8", "address group offices"),
        ("icmpv6", "type 1 code 4", "any"),
        ("any", "any", "any"),
    ]


def test_members_bring_their_address_pairs(view: View) -> None:
    assert group_details(view, WEB)["members"] == [
        {"port": "m0:0", "addresses": ["10.0.0.2", "10.0.0.96/28"]}
    ]


def test_for_people_a_name_says_it_all(view: View) -> None:
    short = brief({**group_details(view, WEB), "status": {}})
    assert short["rules"] == ["ports", "port", "type", "code", "any"]
    assert short["members"] == ["m0:0 10.0.0.2 10.0.0.96/28"]
    assert "status" not in short


def test_an_address_group(view: View) -> None:
    details = address_group_details(view, OFFICES)
    assert (details["prefixes"], details["used_by"]) == (["192.0.2.0/24"], ["type"])


def test_limits_as_the_file_writes_them() -> None:
    none = dict.fromkeys(("bandwidth_to_vm", "packet_rate_to_vm", "minimum_bandwidth"), None)
    limited = {
        "bandwidth_from_vm": {"rate": 500_000_000, "burst": 1 << 20},
        "packet_rate_from_vm": {"rate": 1000, "burst": 64},
        "dscp": 0,
    }
    assert qos_words({**none, **limited}) == {
        "from_vm": "500mbit, burst 1mb",
        "packets_from_vm": "1000/s, burst 64",
        "dscp": 0,
    }


@pytest.mark.parametrize(
    ("number", "guarded", "words"),
    [
        (5, True, "any"),
        (99, True, "rule 99, removed since"),
        (0, True, None),
        (0, False, "port security off"),
        (0xFFFFFFFF, False, "port security off"),
    ],
)
def test_what_allowed_it(view: View, number: int, guarded: bool, words: str | None) -> None:
    name = PortName("p", "m0:0", "m0", 0, "n", "hdl", guarded=guarded)
    assert allowed_by(view, number, name) == words


def test_connections_and_what_is_wrong_with_them(view: View) -> None:
    view.usage = Usage(10, 100, {5: 5, 6: 5})
    assert connections_of(view, PORTS[0]) == {"used": 5, "limit": 5}
    assert connections_of(view, PORTS[1]) == {"used": 5, "limit": 90}
    assert troubles(view) == ["m0:0 has all the 5 connections it may have"]
    view.usage = Usage(100, 100, {})
    assert troubles(view) == ["the flow table is full: no new connection is let in"]


def test_ports_with_more_guests_than_can_be_known(view: View) -> None:
    guests = {5: Behind(512, 3, 512), 6: Behind(7, 512, 512)}
    view.learned = Learned(guests, {6: Announced(1024, 1024)}, ())
    told = "m1:0 has 512 addresses behind it, as many as can be known: the oldest make room"
    assert crowds(view) == [told]  # m0 has port security: its are of a time without
    assert behind(view, PORTS[0]) is None
    assert behind(view, PORTS[1]) == {"macs": 7, "addresses": 512, "limit": 512}
    view.learned = Learned({6: Behind(511, 511, 512)}, {}, ())
    assert crowds(view) == []


def test_ports_with_more_addresses_than_can_be_known(view: View) -> None:
    view.learned = Learned(
        {}, {5: Announced(1024, 1024), 6: Announced(9, 1024)}, ("MACs of pairs",)
    )
    assert crowds(view) == [
        "there is no room for more MACs of pairs: the oldest go",
        "m0:0 has announced 1024 addresses of its address pairs, as many as can be known: "
        "the oldest make room",
    ]
    assert announced(view, PORTS[0]) == {"addresses": 1024, "limit": 1024}
    assert announced(view, PORTS[1]) is None  # has no port security: pairs are of a time with it
    view.learned = Learned({}, {5: Announced(1023, 1024)}, ())
    assert crowds(view) == []


def test_drops_of_a_port_say_what_they_mean_there(view: View) -> None:
    view.drops = [DropCount(6, "NO_ROUTE", 9, 900), DropCount(5, "POLICY_TO_VM", 2, 200)]
    details = port_details(view, PORTS[0])
    meaning = "no rule of its security groups (web) allows it"
    assert details["drops"] == [
        {"reason": "POLICY_TO_VM", "packets": 2, "bytes": 200, "meaning": meaning}
    ]
    assert brief(details)["drops"] == [f"2 POLICY_TO_VM: {meaning}"]


def test_without_a_data_plane_nothing_is_known(view: View) -> None:
    view.usage = view.drops = view.learned = None
    assert connections_of(view, PORTS[0]) is None
    assert port_details(view, PORTS[0])["drops"] == []
    assert troubles(view) == crowds(view) == []
