"""Networks that flood to a multicast group of the underlay, in place of host by host."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from packet_lab import PEER_MAC, run
from packet_shapes import switched
from packet_tunnel import NEAR, UDP_PORT, WEB8, Host, Tunnel, put_network, put_vtep, vxlan
from packet_world import WEB, WEB1
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from test_pairs import BROADCAST, arp
from test_tunnel_send import flood

GROUPS = {4: "239.1.1.1", 6: "ff18::1:1"}


@pytest.fixture(params=GROUPS, ids=["IPv4 underlay", "IPv6 underlay"])
def group(tunnel: Tunnel, request: pytest.FixtureRequest) -> Host:
    """The only one that web floods to."""
    number = tunnel.board.world.value("GROUP_HOSTS")
    group = Host(number, GROUPS[request.param])
    put_vtep(tunnel.board.world, group)
    put_network(tunnel.board.world, WEB, (group,), tunnel.board.devices["web1"].ifindex)
    return group


@pytest.fixture
def route(tunnel: Tunnel) -> Iterator[None]:
    """IPv6 has one to all groups by itself."""
    run("ip", "route", "add", "239.0.0.0/8", "dev", tunnel.wire.name)
    yield
    run("ip", "route", "del", "239.0.0.0/8", "dev", tunnel.wire.name)


@pytest.mark.usefixtures("route")
def test_one_envelope_for_all(tunnel: Tunnel, group: Host) -> None:
    tunnel.board.devices["web1"].write(bytes(flood()))
    tunnel.carries(group, WEB.vni, flood())
    assert tunnel.read_all() == []
    assert tunnel.board.devices["web2"].read() == bytes(flood())


@pytest.mark.usefixtures("route")
def test_questions_for_foreign_members(tunnel: Tunnel, group: Host) -> None:
    """They are in the group, which is all that is known of where they are."""
    first = tunnel.board.devices["web1"].ifindex
    put_network(tunnel.board.world, WEB, (group,), first, "TUNNEL_LEARN")
    tunnel.from_vm(arp(WEB1.mac, WEB1.ipv4, "172.17.17.50"))
    tunnel.carries(group, WEB.vni, arp(WEB1.mac, WEB1.ipv4, "172.17.17.50"))
    assert tunnel.board.devices["web2"].read_all() == []


def test_what_comes_for_the_group(tunnel: Tunnel) -> None:
    """The agent joins it; the VXLAN device does not."""
    frame = switched(WEB8, WEB1, 4)
    frame.dst = BROADCAST
    outer = IP(src=NEAR.vtep, dst=GROUPS[4]) / UDP(sport=50000, dport=UDP_PORT)
    envelope = Ether(src=PEER_MAC, dst=Host(0, GROUPS[4]).mac) / outer / vxlan(WEB.vni, 0, 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as member:
        request = socket.inet_aton(GROUPS[4]) + bytes(4) + tunnel.wire.ifindex.to_bytes(4, "little")
        member.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
        tunnel.wire.write(bytes(envelope / bytes(frame)))
        assert tunnel.board.devices["web1"].read() == bytes(frame)
