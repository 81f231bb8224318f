"""A plain Linux VXLAN device and bridge as a member of networks: as one whose
machines are named, and as one whose machines are learned."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cluster import Running, cluster, eventually
from envelopes import captured
from scapy.layers.inet import ICMP
from scapy.layers.l2 import ARP

SWITCH = "sw1"
VTEP = "198.18.0.99"
STATIC, LEARNED = 100, 101
NAMED_MAC = "02:00:00:00:00:09"
TOPOLOGY = f"""
version: 1
hosts: {{h1: {{}}, h2: {{}}, {SWITCH}: {{foreign: true, vtep: {VTEP}}}}}
networks:
  web:
    vni: {STATIC}
    cidr: 172.17.17.0/24
    foreign: {{{SWITCH}: {{macs: {{"{NAMED_MAC}": 172.17.17.9}}}}}}
  lan: {{vni: {LEARNED}, cidr: 172.17.18.0/24, foreign: {{{SWITCH}: {{learn: true}}}}}}
security_groups: {{open: [{{direction: from_vm}}, {{direction: to_vm}}]}}
machines:
  w1: {{kind: container, host: h1, nics: [
    {{network: web, address: 172.17.17.11, security_groups: [open]}}]}}
  w2: {{kind: container, host: h2, nics: [
    {{network: web, address: 172.17.17.12, security_groups: [open]}}]}}
  l1: {{kind: container, host: h1, nics: [
    {{network: lan, address: 172.17.18.11, security_groups: [open]}}]}}
  l2: {{kind: container, host: h2, nics: [
    {{network: lan, address: 172.17.18.12, security_groups: [open]}}]}}
"""
# Behind the switch: namespace, network, MAC, address.
BEHIND = {
    "named": (STATIC, NAMED_MAC, "172.17.17.9"),
    "unnamed": (LEARNED, "02:00:00:00:00:08", "172.17.18.8"),
}


@pytest.fixture(scope="module")
def lab() -> Iterator[Running]:
    with cluster() as made:
        running = made.up(TOPOLOGY)
        for name, (vni, mac, address) in BEHIND.items():
            for command in _bridge(running, name, vni, mac, address):
                running.host(SWITCH, *command.split())
        yield running


def _bridge(lab: Running, name: str, vni: int, mac: str, address: str) -> Iterator[str]:
    """A kernel VTEP with one machine behind it, as an administrator would make it."""
    bridge, vxlan, link = f"br{vni}", f"vx{vni}", f"m{vni}"
    yield f"ip link add {bridge} up type bridge"
    yield f"ip link add {vxlan} type vxlan id {vni} local {VTEP} dstport 4789"
    for host in lab.plan.own_hosts():
        yield f"bridge fdb append 00:00:00:00:00:00 dev {vxlan} dst {host.vtep}"
    yield f"ip link set {vxlan} master {bridge} up"
    yield f"ip netns add {name}"
    yield f"ip link add {link} type veth peer name eth0 address {mac} netns {name}"
    yield f"ip link set {link} master {bridge} up"
    yield f"ip -n {name} address add {address}/24 dev eth0"
    yield f"ip -n {name} link set eth0 mtu 1450 up"
    yield f"ip -n {name} route add default via {address.rsplit('.', 1)[0]}.1"


def pings_from(lab: Running, name: str, address: str) -> bool:
    """From a machine behind the switch."""
    argv = ["ip", "netns", "exec", name, "ping", "-c", "1", "-W", "1", address]
    return lab.host(SWITCH, *argv, check=False).returncode == 0


@pytest.mark.parametrize("guest", ["h1/w1", "h2/w2"])
def test_a_named_machine_is_reached_and_not_asked_for(lab: Running, guest: str) -> None:
    lab.exec(guest, "ip", "neigh", "flush", "all")
    host = guest.partition("/")[0]
    with captured(lab, host) as capture:
        eventually(lambda: lab.pings(guest, "172.17.17.9"), f"{guest} to reach it")
    requests = [e for e in capture.inner(ICMP) if e.inner[ICMP].type == 8]
    assert {(e.outer.dst, e.vni, e.inner.dst) for e in requests} == {(VTEP, STATIC, NAMED_MAC)}
    questions = [e for e in capture.inner(ARP) if e.inner[ARP].op == 1]
    assert not [e for e in questions if e.inner[ARP].pdst == "172.17.17.9"]


@pytest.mark.parametrize("address", ["172.17.17.11", "172.17.17.12"])
def test_a_named_machine_reaches_guests_on_every_host(lab: Running, address: str) -> None:
    lab.host(SWITCH, "ip", "-n", "named", "neigh", "flush", "all")
    eventually(lambda: pings_from(lab, "named", address), f"it to reach {address}")


@pytest.mark.parametrize("guest", ["h1/l1", "h2/l2"])
def test_an_unnamed_machine_is_found_by_asking(lab: Running, guest: str) -> None:
    lab.exec(guest, "ip", "neigh", "flush", "all")
    eventually(lambda: lab.pings(guest, "172.17.18.8"), f"{guest} to reach it")
    with captured(lab, guest.partition("/")[0]) as capture:
        assert lab.pings(guest, "172.17.18.8")
    requests = [e for e in capture.inner(ICMP) if e.inner[ICMP].type == 8]
    assert [(e.outer.dst, e.vni) for e in requests] == [(VTEP, LEARNED)]  # and no copy elsewhere


@pytest.mark.parametrize("address", ["172.17.18.11", "172.17.18.12"])
def test_an_unnamed_machine_reaches_guests_on_every_host(lab: Running, address: str) -> None:
    lab.host(SWITCH, "ip", "-n", "unnamed", "neigh", "flush", "all")
    eventually(lambda: pings_from(lab, "unnamed", address), f"it to reach {address}")


def test_a_strangers_network_is_not_reached(lab: Running) -> None:
    """What is behind the switch in one network has no way into another."""
    assert not pings_from(lab, "unnamed", "172.17.17.11")
