"""Guests of guests: a machine without port security bridges others into its network."""

from __future__ import annotations

import pytest
from lab import Lab

TOPOLOGY = """
version: 1
networks:
  web: {cidr: [10.1.0.0/24, "fd00:1::/64"]}
  db: {cidr: [10.2.0.0/24, "fd00:2::/64"]}
routers:
  main: {networks: [web, db]}
security_groups:
  open:
    - {direction: to_vm}
    - {direction: from_vm}
machines:
  bridge:
    kind: container
    nics: [{network: web, address: [10.1.0.10, "fd00:1::10"], port_security: false}]
  c1:
    kind: container
    nics: [{network: web, address: [10.1.0.11, "fd00:1::11"], security_groups: [open]}]
  c2:
    kind: container
    nics: [{network: db, address: [10.2.0.11, "fd00:2::11"], security_groups: [open]}]
"""
GUEST4, GUEST6 = "10.1.0.77", "fd00:1::77"
# A Linux bridge on eth0, with a namespace behind it.
BRIDGE = """
set -e
ip link add br0 type bridge
ip link set eth0 master br0
ip link set br0 up
ip link add inner type veth peer name eth0 netns $1
ip link set inner master br0 up
"""
GUEST = f"""
set -e
ip address add {GUEST4}/24 dev eth0
ip -6 address add {GUEST6}/64 dev eth0 nodad
ip link set eth0 mtu 1450 up
ip route add default via 10.1.0.1
ip -6 route add default via fd00:1::1
"""


@pytest.fixture(scope="module")
def bridged(module_lab: Lab) -> Lab:
    """The guest is in a namespace of its own, of which heddle knows nothing."""
    module_lab.heddle("up", module_lab.write(TOPOLOGY))
    module_lab.run("ip", "netns", "add", "guest")
    module_lab.exec("bridge", "sh", "-c", BRIDGE, "sh", "guest")
    module_lab.run("ip", "netns", "exec", "guest", "sh", "-c", GUEST)
    return module_lab


def ping_from_guest(lab: Lab, address: str) -> None:
    lab.run("ip", "netns", "exec", "guest", "ping", "-c", "3", "-i", "0.2", "-W", "20", address)


@pytest.mark.parametrize("address", [GUEST4, GUEST6])
def test_a_guest_that_never_spoke_is_found(bridged: Lab, address: str) -> None:
    """c1 asks for it, and is answered by the guest itself."""
    bridged.exec("c1", "ping", "-c", "3", "-i", "0.2", "-W", "20", address)


@pytest.mark.parametrize("address", ["10.1.0.11", "fd00:1::11", "10.1.0.1", "fd00:1::1"])
def test_a_guest_speaks_in_its_network(bridged: Lab, address: str) -> None:
    ping_from_guest(bridged, address)


@pytest.mark.parametrize("address", ["10.2.0.11", "fd00:2::11"])
def test_a_guest_speaks_through_the_router(bridged: Lab, address: str) -> None:
    ping_from_guest(bridged, address)
