"""`heddle leaks` with several hosts: traffic between them leaks nothing, and what is
planted on the underlay is found, with the host on which it is."""

from __future__ import annotations

import json
import sys

import pytest
from cluster import Cluster, Running
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw

TOPOLOGY = """
version: 1
underlay: {cidr: 198.18.0.0/24}
hosts: {h1: {}, h2: {}}
networks:
  web: {cidr: [10.1.0.0/24, "fd00:1::/64"]}
  db: {cidr: 10.2.0.0/24}
routers:
  main: {networks: [web, db]}
security_groups:
  open: [{direction: from_vm}, {direction: to_vm}]
machines:
  c1:
    kind: container
    host: h1
    nics: [{network: web, address: 10.1.0.11, security_groups: [open]}]
  c2:
    kind: container
    host: h2
    nics: [{network: db, address: 10.2.0.12, security_groups: [open]}]
"""
_SEND_FOR_EVER = """
import socket, sys, time
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind((sys.argv[1], 0))
while True:
    wire.send(bytes.fromhex(sys.argv[2]))
    time.sleep(0.05)
"""
Leaks = set[tuple[str, str, str]]  # host, name, place


@pytest.fixture(scope="module")
def lab(module_cluster: Cluster) -> Running:
    return module_cluster.up(TOPOLOGY)


def leaks(lab: Running, seconds: str = "2") -> Leaks:
    """On all hosts."""
    name = lab.folder.name
    done = lab.cluster.heddle("leaks", "--lab", name, "--seconds", seconds, "--json", check=False)
    assert done.stderr == ""
    report = json.loads(done.stdout)
    assert float(seconds) < 1 or report["frames"] > 0
    found = {(leak["host"], leak["name"], leak["where"]) for leak in report["leaks"]}
    assert done.returncode == bool(found)
    return found


def leaks_while_sending(lab: Running, host: str, frame: Packet) -> Leaks:
    sender = lab.on(host, sys.executable, "-c", _SEND_FOR_EVER, "eth0", bytes(frame).hex())
    with lab.background(sender):
        return leaks(lab)


def envelope(to: str, vni: int) -> Packet:
    inner = Ether(src="fa:16:3e:00:00:01", dst="fa:16:3e:00:00:02") / Raw(bytes(46))
    outer = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / IP(src="198.18.0.1", dst=to)
    return outer / UDP(sport=50000, dport=4789) / VXLAN(flags=8, vni=vni) / inner


def test_traffic_between_hosts_leaks_nothing(lab: Running) -> None:
    with lab.background(lab.inside("h1/c1", "ping", "-i", "0.05", "10.2.0.12")):
        assert leaks(lab) == set()
    name = lab.folder.name
    said = lab.cluster.heddle("leaks", "--lab", name, "--seconds", "0.2").stdout
    assert "nothing leaks" in said


def test_envelope_to_a_stranger_is_found(lab: Running) -> None:
    vni = next(n["vni"] for n in lab.show("network") if n["name"] == "web")
    assert leaks_while_sending(lab, "h1", envelope("198.18.0.99", vni)) == {
        ("h1", "wire-vtep", "eth0")
    }


def test_envelope_of_no_network_is_found(lab: Running) -> None:
    assert leaks_while_sending(lab, "h1", envelope("198.18.0.2", 12345)) == {
        ("h1", "wire-network", "eth0")
    }


def test_guest_frame_on_the_wire_is_found(lab: Running) -> None:
    mac = lab.exec("h1/c1", "cat", "/sys/class/net/eth0/address").stdout.strip()
    frame = Ether(src=mac, dst="ff:ff:ff:ff:ff:ff") / IP(src="10.1.0.11") / UDP()
    assert ("h1", "wire-frame", "eth0") in leaks_while_sending(lab, "h1", frame)


def test_state_of_the_tunnel_is_looked_at(lab: Running) -> None:
    lab.host("h2", "ip", "address", "add", "192.0.2.1/32", "dev", "heddle-vxlan")
    try:
        assert ("h2", "link-address", "heddle-vxlan") in leaks(lab, "0.2")
    finally:
        lab.host("h2", "ip", "address", "del", "192.0.2.1/32", "dev", "heddle-vxlan")


def test_lab_that_is_not_there(lab: Running) -> None:
    done = lab.cluster.heddle("leaks", "--lab", "nowhere", check=False)
    assert done.returncode == 2
    assert "nowhere" in done.stderr
