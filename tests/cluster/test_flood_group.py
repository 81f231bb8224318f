"""A network that floods by a multicast group of the underlay."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from cluster import Running, cluster, eventually
from envelopes import captured
from scapy.layers.inet import UDP

TOPOLOGY = """
version: 1
hosts: {h1: {}, h2: {}, h3: {}}
underlay: %(underlay)s
networks:
  web: {vni: 100, cidr: 172.17.17.0/24, flood: "%(group)s"}
  lone: {vni: 300, cidr: 10.9.0.0/24}
security_groups: {open: [{direction: from_vm}, {direction: to_vm}]}
machines:
  w1: {kind: container, host: h1, nics: [
    {network: web, address: 172.17.17.11, security_groups: [open]}]}
  w2: {kind: container, host: h2, nics: [
    {network: web, address: 172.17.17.12, security_groups: [open]}]}
  l3: {kind: container, host: h3, nics: [{network: lone}]}
"""
UNDERLAYS = {
    "IPv4": {"underlay": "{}", "group": "239.0.0.7"},
    "IPv6": {"underlay": '{cidr: "fd00:18::/64"}', "group": "ff05::7"},
}
SEND = (
    "import socket; s = socket.socket(2, 2); s.setsockopt(1, 6, 1); "
    "s.sendto(b'all', ('172.17.17.255', 9000))"
)


@pytest.fixture(params=UNDERLAYS)
def lab(request: pytest.FixtureRequest) -> Iterator[Running]:
    with cluster() as made:
        yield made.up(TOPOLOGY % UNDERLAYS[request.param])


def test_one_copy_goes_to_the_group(lab: Running, request: pytest.FixtureRequest) -> None:
    """Also with the agents dead: membership is the kernel's."""
    group = UNDERLAYS[request.node.callspec.params["lab"]]["group"]
    eventually(lambda: lab.pings("h1/w1", "172.17.17.12"), "the guests to talk")
    for host in ("h1", "h2"):
        os.kill(lab.agent_pid(host), signal.SIGKILL)
    words = ["tcpdump", "-lnvi", "eth0", "-Q", "in", "-c", "1", "udp port 9000"]
    with captured(lab, "h1") as capture, lab.background(lab.inside("h2/w2", *words)) as process:
        assert process.stderr is not None
        assert "listening on" in process.stderr.readline()
        lab.exec("h1/w1", "python3", "-c", SEND)
        assert process.stdout is not None
        assert process.stdout.readline()
    (copy,) = [each for each in capture.inner(UDP) if each.inner[UDP].dport == 9000]
    assert (copy.outer.src, copy.outer.dst) == (lab.plan.host("h1").vtep, group)
    assert copy.vni == 100
    joined = lab.host("h3", "ip", "maddress", "show", "dev", "eth0").stdout
    assert group not in joined.split()
