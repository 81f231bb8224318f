"""A plain Linux VXLAN device and bridge as a member of networks: as one whose
machines are named, and as one whose machines are learned. Routers are their gateways."""

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
  lan:
    vni: {LEARNED}
    cidr: [172.17.18.0/24, "fd00:18::/64"]
    foreign: {{{SWITCH}: {{learn: true}}}}
  far: {{vni: 102, cidr: [172.17.19.0/24, "fd00:19::/64"]}}
  apart: {{vni: 103, cidr: 172.17.20.0/24}}
routers: {{main: {{networks: [web, lan, far]}}}}
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
  f2: {{kind: container, host: h2, nics: [
    {{network: far, address: [172.17.19.12, "fd00:19::12"], security_groups: [open]}}]}}
  a1: {{kind: container, host: h1, nics: [
    {{network: apart, address: 172.17.20.11, security_groups: [open]}}]}}
"""
# Behind the switch: namespace, network, MAC, address.
BEHIND = {
    "named": (STATIC, NAMED_MAC, "172.17.17.9"),
    "unnamed": (LEARNED, "02:00:00:00:00:08", "172.17.18.8"),
}
UNNAMED6, GATEWAY6, FAR6 = "fd00:18::8", "fd00:18::1", "fd00:19::12"


@pytest.fixture(scope="module")
def lab() -> Iterator[Running]:
    with cluster() as made:
        running = made.up(TOPOLOGY)
        for name, (vni, mac, address) in BEHIND.items():
            for command in _bridge(running, name, vni, mac, address):
                running.host(SWITCH, *command.split())
        for command in (
            f"address add {UNNAMED6}/64 dev eth0 nodad",
            f"route add default via {GATEWAY6}",
        ):
            running.host(SWITCH, *f"ip -n unnamed -6 {command}".split())
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


def test_a_network_without_a_router_is_not_reached(lab: Running) -> None:
    """What is behind the switch has no way into another network but a router's."""
    assert not pings_from(lab, "unnamed", "172.17.20.11")


# ---- across routers -----------------------------------------------------------------------

GATEWAYS = [
    ("named", "172.17.17.1"),
    ("named", "172.17.19.1"),
    ("unnamed", "172.17.18.1"),
    ("unnamed", GATEWAY6),
]
ROUTED = [
    ("named", "172.17.18.11"),
    ("named", "172.17.18.12"),
    ("named", "172.17.19.12"),
    ("named", "172.17.18.8"),  # the other machine behind the same switch
    ("unnamed", "172.17.17.11"),
    ("unnamed", "172.17.17.12"),
    ("unnamed", "172.17.17.9"),
    ("unnamed", FAR6),
]


def forget_neighbors(lab: Running) -> None:
    """The machines behind the switch, and the switch itself."""
    for name in BEHIND:
        lab.host(SWITCH, "ip", "-n", name, "neigh", "flush", "all")


@pytest.mark.parametrize(("machine", "gateway"), GATEWAYS)
def test_the_gateway_answers(lab: Running, machine: str, gateway: str) -> None:
    forget_neighbors(lab)
    eventually(lambda: pings_from(lab, machine, gateway), f"{gateway} to answer")


@pytest.mark.parametrize(("machine", "address"), ROUTED)
def test_a_machine_reaches_other_networks(lab: Running, machine: str, address: str) -> None:
    forget_neighbors(lab)
    eventually(lambda: pings_from(lab, machine, address), f"{machine} to reach {address}")


@pytest.mark.parametrize("guest", ["h1/l1", "h2/l2", "h2/f2"])
def test_guests_reach_a_named_machine(lab: Running, guest: str) -> None:
    """Nobody has to ask for it."""
    with captured(lab, guest.partition("/")[0]) as capture:
        eventually(lambda: lab.pings(guest, "172.17.17.9"), f"{guest} to reach it")
    requests = [e for e in capture.inner(ICMP) if e.inner[ICMP].type == 8]
    assert {(e.outer.dst, e.vni, e.inner.dst, e.inner.ttl) for e in requests} == {
        (VTEP, STATIC, NAMED_MAC, 63)
    }


@pytest.mark.parametrize(("guest", "address"), [("h1/w1", "172.17.18.8"), ("h2/f2", UNNAMED6)])
def test_guests_reach_an_unnamed_machine_that_was_never_heard(
    lab: Running, guest: str, address: str
) -> None:
    """The router asks for it, and says that nobody is there when nobody answers."""
    nobody = address.replace("8.8", "8.99").replace("::8", "::99")
    answer = lab.exec(guest, "ping", "-c", "6", "-W", "1", nobody, check=False).stdout
    assert "nreachable" in answer, answer
    eventually(lambda: lab.pings(guest, address), f"{guest} to reach it")
    host = guest.partition("/")[0]
    drops = lab.host(host, "heddle", "drops", "--json").stdout
    assert "NEIGHBOR_ASKED" in drops


@pytest.mark.parametrize(
    ("machine", "server", "address"),
    [("named", "h1/l1", "172.17.18.11"), ("unnamed", "h2/f2", FAR6)],
)
def test_tcp_from_a_machine(lab: Running, machine: str, server: str, address: str) -> None:
    lab.exec(server, "iperf3", "--server", "--daemon", "--one-off")
    client = ["ip", "netns", "exec", machine, "iperf3", "--client", address, "--time", "1"]
    assert "receiver" in lab.host(SWITCH, *client).stdout


@pytest.mark.parametrize(
    ("guest", "machine", "address"),
    [
        ("h1/l1", "named", "172.17.17.9"),
        ("h2/f2", "unnamed", "172.17.18.7"),
        ("h2/f2", "unnamed", "fd00:18::7"),
    ],
)
def test_tcp_from_a_guest(lab: Running, guest: str, machine: str, address: str) -> None:
    """Of unnamed ones to an address that was never heard of before: with a packet whose
    checksum is left to the device the router asks for it."""
    if machine == "unnamed":
        add = f"ip -n unnamed address add {address}/{64 if ':' in address else 24} dev eth0"
        lab.host(SWITCH, *add.split(), *(["nodad"] if ":" in address else []))
    serve = ["iperf3", "--server", "--daemon", "--one-off"]
    lab.host(SWITCH, "ip", "netns", "exec", machine, *serve)
    client = ["iperf3", "--client", address, "--time", "1"]
    assert "receiver" in lab.exec(guest, *client).stdout


def test_a_trace_says_that_it_goes_to_the_switch(lab: Running) -> None:
    eventually(lambda: lab.pings("h1/w1", "172.17.18.8"), "the machine to be known")
    told = lab.host("h1", "heddle", "trace", "w1", "172.17.18.8").stdout
    assert VTEP in told, told


def test_hosts_say_who_makes_their_envelopes(lab: Running) -> None:
    told = {host["name"]: host["envelopes_now"] for host in lab.show("hosts")}
    assert told == {"h1": "direct", "h2": "direct", SWITCH: ""}
