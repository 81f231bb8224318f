"""A guest of a guest on another host: behind a machine that bridges it and has no port
security. Its host tells the others, which learn it and ask for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cluster import Running, cluster, eventually
from envelopes import captured
from scapy.layers.inet import ICMP
from scapy.layers.l2 import ARP

VNI = 100
GUEST_MAC, GUEST4, GUEST6 = "02:00:00:00:00:77", "172.17.17.77", "fd00:17::77"
TOPOLOGY = f"""
version: 1
hosts: {{h1: {{}}, h2: {{}}, h3: {{}}}}
networks:
  web: {{vni: {VNI}, cidr: [172.17.17.0/24, "fd00:17::/64"]}}
  db: {{cidr: [192.168.0.0/24, "fd00:db::/64"]}}
routers:
  main: {{networks: [web, db]}}
security_groups: {{open: [{{direction: from_vm}}, {{direction: to_vm}}]}}
machines:
  bridge: {{kind: container, host: h1, nics: [
    {{network: web, address: 172.17.17.10, port_security: false}}]}}
  near: {{kind: container, host: h1, nics: [
    {{network: web, address: [172.17.17.11, "fd00:17::11"], security_groups: [open]}}]}}
  far: {{kind: container, host: h2, nics: [
    {{network: web, address: [172.17.17.12, "fd00:17::12"], security_groups: [open]}}]}}
  routed: {{kind: container, host: h2, nics: [
    {{network: db, address: [192.168.0.12, "fd00:db::12"], security_groups: [open]}}]}}
"""
BRIDGE = (
    "ip link add br0 type bridge",
    "ip link set eth0 master br0",
    "ip link set br0 up",
    "ip link add inner type veth peer name outer",
    "ip link set inner master br0 up",
)
GUEST = (
    f"ip link set outer name eth0 address {GUEST_MAC}",
    f"ip address add {GUEST4}/24 dev eth0",
    f"ip -6 address add {GUEST6}/64 dev eth0 nodad",
    "ip link set eth0 mtu 1450 up",
    "ip route add default via 172.17.17.1",
    "ip -6 route add default via fd00:17::1",
)


@pytest.fixture(scope="module")
def lab() -> Iterator[Running]:
    """The guest has a namespace of its own on h1, of which heddle knows nothing."""
    with cluster() as made:
        running = made.up(TOPOLOGY)
        running.host("h1", "ip", "netns", "add", "guest")
        for command in BRIDGE:
            running.exec("h1/bridge", *command.split())
        _move_into_guest(running)
        for command in GUEST:
            running.host("h1", "ip", "netns", "exec", "guest", *command.split())
        yield running


def _move_into_guest(lab: Running) -> None:
    """The machine sees no namespaces of its host's: from outside."""
    (name,) = (n for n in lab.host("h1", "ip", "netns", "list").stdout.split() if "bridge" in n)
    lab.host("h1", "ip", "-n", name, "link", "set", "outer", "netns", "guest")


def pings_from_guest(lab: Running, address: str) -> bool:
    argv = ["ip", "netns", "exec", "guest", "ping", "-c", "1", "-W", "2", address]
    return lab.host("h1", *argv, check=False).returncode == 0


@pytest.mark.parametrize("address", [GUEST4, GUEST6])
def test_it_is_asked_for(lab: Running, address: str) -> None:
    """Though it never spoke: the open port alone, on the other host, may have it."""
    eventually(lambda: lab.pings("h2/far", address), "far to reach the guest")


def test_it_is_learned(lab: Running) -> None:
    """Its host marks what it sends; what is for it then goes to that host alone."""
    eventually(lambda: lab.pings("h2/far", GUEST4), "far to reach the guest")
    lab.exec("h2/far", "ip", "neigh", "flush", "all")
    with captured(lab, "h2") as capture:
        assert lab.pings("h2/far", GUEST4)
    assert [e.inner[ARP].pdst for e in capture.inner(ARP) if e.inner[ARP].op == 1] == []
    requests = [e for e in capture.inner(ICMP) if e.inner[ICMP].type == 8]
    assert [(e.vni, e.inner.dst) for e in requests] == [(VNI, GUEST_MAC)]


def test_it_is_learned_through_a_relay(lab: Running) -> None:
    """Which tells who the sender was: what is for it goes back the same way, and not to
    all hosts."""
    lab.cluster.heddle("lab", "cut", "--name", lab.folder.name, "h1", "h2")
    try:
        (relay,) = [host.vtep for host in lab.plan.own_hosts() if host.name == "h3"]
        eventually(lambda: goes_through(lab, relay), "the guest to be reached through h3")
    finally:
        lab.cluster.heddle("lab", "heal", "--name", lab.folder.name)


def goes_through(lab: Running, relay: str) -> bool:
    """A ping of the guest, learned before, goes there and nowhere else."""
    if not lab.pings("h2/far", GUEST4):
        return False
    lab.exec("h2/far", "ip", "neigh", "flush", "all")
    with captured(lab, "h2") as capture:
        lab.pings("h2/far", GUEST4)
    assert [e for e in capture.inner(ARP) if e.inner[ARP].pdst == GUEST4] == []
    requests = [e for e in capture.inner(ICMP) if e.inner[ICMP].type == 8]
    return [(e.outer.dst, e.vni, e.inner.dst) for e in requests] == [(relay, VNI, GUEST_MAC)]


@pytest.mark.parametrize("address", ["172.17.17.11", "172.17.17.12", "fd00:17::11", "fd00:17::12"])
def test_it_speaks_in_its_network(lab: Running, address: str) -> None:
    eventually(lambda: pings_from_guest(lab, address), f"the guest to reach {address}")


@pytest.mark.parametrize("address", ["192.168.0.12", "fd00:db::12"])
def test_it_speaks_through_the_router(lab: Running, address: str) -> None:
    eventually(lambda: pings_from_guest(lab, address), f"the guest to reach {address}")
