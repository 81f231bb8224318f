"""What two objects can't both have, one of them gets: always the same one."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import pytest
from compiler_intents import (
    HOST,
    address_group,
    address_pair,
    detour,
    dual_stack,
    entry,
    foreign,
    group,
    host,
    interface,
    machine,
    network,
    port,
    router,
    rule,
    subnet4,
)

from heddle.compiler.claims import service_mac
from heddle.compiler.fragment import UNLIMITED
from heddle.compiler.host import Compiler
from heddle.compiler.questions import ObjectKey
from heddle.intent.model import PROBE_VNI, AnyResource, FixedIp


class Rivals(NamedTuple):
    winner: AnyResource
    loser: AnyResource
    fault: str  # of the loser


def port_with_address(number: int, address: str, **fields: object) -> AnyResource:
    fixed_ips = (FixedIp(subnet_id="sub4-1", ip=address),)
    return port(1, number, f"m{number}", fixed_ips=fixed_ips, **fields)


RIVALS = {
    "VNI": Rivals(network(1), network(2, vni=1), "network net2: VNI 1 belongs to network net1"),
    "subnet number": Rivals(
        subnet4(1), subnet4(2, number=1), "subnet net2/4: subnet number 1 belongs to subnet net1/4"
    ),
    "gateway": Rivals(
        subnet4(1),
        subnet4(1, id="sub4-x", number=9, cidr="10.1.0.0/16", name="x"),
        "subnet x: gateway 10.1.0.1 belongs to subnet net1/4",
    ),
    "router number": Rivals(
        router(), router(number=1, id="router2", name="r2"), "router r2: router number 1"
    ),
    "machine name": Rivals(
        machine("m1"),
        machine("m2", name="m1"),
        "machine m1: machine name m1 belongs to machine m1",
    ),
    "MAC of two ports": Rivals(
        port(1, 2, "m2", mac="fa:16:3e:00:00:09"),
        port(1, 3, "m3", mac="fa:16:3e:00:00:09"),
        "port p1-3: MAC fa:16:3e:00:00:09 belongs to port p1-2",
    ),
    "MAC of a router": Rivals(
        router(interface(1)),
        port(1, 2, mac=interface(1).mac),
        "port p1-2: MAC fa:16:3e:00:01:01 belongs to router r1",
    ),
    "MAC of the service": Rivals(
        subnet4(1),
        port(1, 2, mac=service_mac(subnet4(1))),
        f"port p1-2: MAC {service_mac(subnet4(1))} belongs to subnet net1/4",
    ),
    "address of two ports": Rivals(
        port_with_address(2, "10.1.0.2"),
        port_with_address(3, "10.1.0.2"),
        "port p1-3: address 10.1.0.2 belongs to port p1-2; change one of them",
    ),
    "address of a router": Rivals(
        router(interface(1)),
        port_with_address(2, "10.1.0.1"),
        "port p1-2: address 10.1.0.1 belongs to router r1",
    ),
    "device": Rivals(
        port(1, 2, id="12345678-9ab-1"),
        port(1, 3, id="12345678-9ab-2", nic=1),
        "port p1-3: device tap12345678-9a belongs to port p1-2",
    ),
    "group number": Rivals(
        group("db", 3), group("web", 3), "security_group web: group number 3 belongs to"
    ),
    "number of groups of both kinds": Rivals(
        address_group("offices", 3),
        group("db", 3),
        "security_group db: group number 3 belongs to address_group offices; change one of them",
    ),
    "rule number": Rivals(
        rule(1), rule(1, id="rule2"), "security_group_rule rule1: rule number 1 belongs to"
    ),
    "host name": Rivals(
        host(1), host(2, name="h1"), "host h1: host name h1 belongs to host h1; change one of them"
    ),
    "host number": Rivals(host(1), host(2, number=1), "host h2: host number 1 belongs to host h1"),
    "VTEP": Rivals(
        host(1),
        host(2, vtep="192.0.2.1"),
        "host h2: VTEP 192.0.2.1 belongs to host h1; change one of them",
    ),
    "detour": Rivals(
        detour("h3", "h1"),
        detour("h3", "h2").model_copy(update={"id": "detour-x"}),
        "detour h3: detour of host h3 belongs to detour h3",
    ),
    "MAC behind a foreign VTEP": Rivals(
        network(1, foreign_members=(foreign("sw1", ("02:00:00:00:00:01", None)),)),
        port(1, 2, mac="02:00:00:00:00:01"),
        "port p1-2: MAC 02:00:00:00:00:01 belongs to network net1",
    ),
    "address behind a foreign VTEP": Rivals(
        network(1, foreign_members=(foreign("sw1", ("02:00:00:00:00:01", "10.1.0.2")),)),
        port_with_address(2, "10.1.0.2"),
        "port p1-2: address 10.1.0.2 belongs to network net1",
    ),
    "NIC": Rivals(
        port(1, 2, "m1"), port(2, 2, "m1"), "port p2-2: NIC 0 belongs to port p1-2; change one"
    ),
}


def key_of(resource: AnyResource) -> ObjectKey:
    return resource.kind, resource.id


@pytest.mark.parametrize("rivals", RIVALS.values(), ids=RIVALS)
@pytest.mark.parametrize("winner_first", [True, False])
def test_one_gets_it(rivals: Rivals, winner_first: bool) -> None:
    compiler = Compiler(HOST)
    pair = (rivals.winner, rivals.loser) if winner_first else (rivals.loser, rivals.winner)
    for resource in pair:
        compiler.update([(*key_of(resource), resource)])
    assert list(compiler.errors) == [key_of(rivals.loser)]
    assert compiler.errors[key_of(rivals.loser)].startswith(rivals.fault)


@pytest.mark.parametrize("rivals", RIVALS.values(), ids=RIVALS)
def test_loser_comes_in_when_the_winner_goes(rivals: Rivals) -> None:
    compiler = Compiler(HOST)
    compiler.update((*key_of(resource), resource) for resource in rivals[:2])
    compiler.update([(*key_of(rivals.winner), None)])
    assert compiler.errors == {}


def test_a_port_may_not_have_more_groups_than_there_is_room_for() -> None:
    compiler = Compiler(HOST, replace(UNLIMITED, groups=2))
    three = port(security_group_ids=("a", "b", "c"))
    compiler.update([(*key_of(three), three)])
    assert compiler.errors == {
        key_of(three): "port p1-2: 3 security groups, but a port may have 2; correct it"
    }
    two = port(security_group_ids=("a", "b", "a"))
    compiler.update([(*key_of(two), two)])
    assert compiler.errors == {}


def test_same_values_elsewhere_are_no_conflict() -> None:
    """MACs and addresses belong to a network; NICs to a machine."""
    compiler = Compiler(HOST)
    same = {"mac": "fa:16:3e:00:00:09"}
    objects = [
        *dual_stack(1, 2),
        machine("m1"),
        machine("m2"),
        port(1, 2, "m1", **same),
        port(2, 2, "m2", **same, fixed_ips=(FixedIp(subnet_id="sub4-2", ip="10.1.0.2"),)),
    ]
    compiler.update((*key_of(resource), resource) for resource in objects)
    assert compiler.errors == {}


def test_what_is_elsewhere_claims_no_device() -> None:
    compiler = Compiler(HOST)
    objects = [machine("m1"), machine("m2", name="m1", host="h2")]
    objects += [port(1, 2, "m1"), port(2, 2, "m1", host="h2")]
    compiler.update((*key_of(resource), resource) for resource in objects)
    assert compiler.errors == {}


MALFORMED = {
    "VTEP": (
        host(vtep="FD00::1"),
        "host h1: 'FD00::1' is no VTEP: a plain unicast address; correct it",
    ),
    "VTEP in another form": (host(vtep="::ffff:192.0.2.1"), "host h1: '::ffff:192.0.2.1' is no"),
    "VTEP that is a group": (host(vtep="239.1.1.1"), "host h1: '239.1.1.1' is no VTEP"),
    "VTEP that is no address": (host(vtep="x"), "host h1: 'x' does not appear to be an IPv4 or"),
    "relay": (detour("h3", "h3"), "detour h3: h3 can't be its own relay; correct it"),
    "VNI of probes": (network(PROBE_VNI), "network net16777215: VNI 16777215 is kept for probes"),
    "flood group": (network(flood_group="10.0.0.1"), "network net1: 10.0.0.1 is no multicast gr"),
    "MAC behind a foreign VTEP": (
        network(foreign_members=(foreign("sw1", ("02:AA:00:00:00:01", None)),)),
        "network net1: '02:AA:00:00:00:01' is not written as MAC addresses are here",
    ),
    "address behind two": (
        network(
            foreign_members=(
                foreign("sw1", ("02:00:00:00:00:01", "10.1.0.9")),
                foreign("sw2", ("02:00:00:00:00:02", "10.1.0.9")),
            )
        ),
        "network net1: 10.1.0.9 is there twice behind foreign VTEPs",
    ),
    "MAC": (port(mac="fa:16:3e:01"), "port p1-2: 'fa:16:3e:01' is not a MAC address"),
    "address": (port_with_address(2, "10.1.0"), "port p1-2: '10.1.0' is not an IP address"),
    "gateway": (
        subnet4(1, gateway_ip="10.2.0.1"),
        "subnet net1/4: gateway 10.2.0.1 is not in 10.1.0.0/24",
    ),
    "host bits": (subnet4(1, cidr="10.1.0.1/24"), "subnet net1/4: 10.1.0.1/24 has host bits set"),
    "next hop": (
        router(routes=({"destination": "10.9.0.0/16", "nexthop": "fd00::1"},)),
        "router r1: next hop fd00::1 is of another family than 10.9.0.0/16",
    ),
    "address pair": (
        port(address_pairs=(address_pair("10.1.0.1/24"),)),
        "port p1-2: 10.1.0.1/24 has host bits set",
    ),
    "MAC of an address pair": (
        port(address_pairs=(address_pair("10.1.0.1/32", "fa"),)),
        "port p1-2: 'fa' is not a MAC address",
    ),
    "entry": (entry("x"), "address_group_entry offices/x: 'x' is not an IP address"),
    "two remote ends": (
        rule(remote_cidr="10.0.0.0/8", remote_group_id="web"),
        "security_group_rule rule1: more than one remote end",
    ),
    "remote end of the other family": (
        rule(remote_cidr="fd00::/8"),
        "security_group_rule rule1: remote end fd00::/8 is not of IPv4",
    ),
    "ports without a protocol": (
        rule(port_min=1, port_max=2),
        "security_group_rule rule1: ports, but no protocol that has them",
    ),
    "ports of ICMP in the other family": (
        rule(protocol=58, port_min=1, port_max=2),
        "security_group_rule rule1: ports, but no protocol that has them",
    ),
    "half a range": (
        rule(protocol=6, port_min=1),
        "security_group_rule rule1: half a range of ports",
    ),
    "reversed range": (
        rule(protocol=17, port_min=2, port_max=1),
        "security_group_rule rule1: ports 2-1 are reversed",
    ),
    "ICMP code alone": (
        rule(protocol=1, port_max=1),
        "security_group_rule rule1: ICMP code 1 without a type",
    ),
    "ICMP type": (
        rule(protocol=1, port_min=256),
        "security_group_rule rule1: ICMP has no type or code 256",
    ),
    "interface": (router(interface(1, "10.1")), "router r1: '10.1' is not an IP address"),
}


@pytest.mark.parametrize(("resource", "fault"), MALFORMED.values(), ids=MALFORMED)
def test_malformed_objects_stay_out(resource: AnyResource, fault: str) -> None:
    compiler = Compiler(HOST)
    delta = compiler.update([(*key_of(resource), resource)])
    assert not delta
    assert compiler.errors[key_of(resource)].startswith(fault)
    assert compiler.errors[key_of(resource)].endswith("; correct it")
    compiler.update([(*key_of(resource), None)])
    assert compiler.errors == {}
