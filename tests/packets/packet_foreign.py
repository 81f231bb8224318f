"""Machines behind a foreign VTEP, in two networks of the small world."""

from __future__ import annotations

from packet_talk import GATEWAYS, between
from packet_tunnel import FOREIGN, NEAR, Tunnel, put_network, put_remote
from packet_world import DB, WEB, Nic
from scapy.packet import Packet
from test_answer_nd import solicitation
from test_pairs import arp

# One that is learned in each network, and one that a file names.
PRINTER = Nic("printer", WEB, "02:00:00:00:17:50", "172.17.17.50", "fd00:17::50", 0)
SCANNER = Nic("scanner", DB, "02:00:00:00:db:50", "192.168.0.50", "fd00:db::50", 0)
NAMED = Nic("named", DB, "02:00:00:00:db:51", "192.168.0.51", "fd00:db::51", 0)


def add_members(tunnel: Tunnel) -> None:
    """FOREIGN is a member of web and db, NEAR has ports in both."""
    for network, device in ((WEB, "web1"), (DB, "db1")):
        first = tunnel.board.devices[device].ifindex
        put_network(tunnel.board.world, network, (NEAR, FOREIGN), first, "TUNNEL_LEARN")
    put_remote(tunnel.board.world, NAMED, FOREIGN.number)


def question(nic: Nic, target: str) -> Packet:
    """The machine asks for an address by ARP or ND."""
    return solicitation(nic, target) if ":" in target else arp(nic.mac, nic.address(4), target)


def introduce(tunnel: Tunnel, nic: Nic, version: int) -> None:
    """The machine asks for its gateway, by which its address becomes known here."""
    gateway = GATEWAYS[nic.network].address(version)
    tunnel.write(FOREIGN, nic.network.vni, question(nic, gateway))
    assert tunnel.read()


def to_other_network(
    tunnel: Tunnel, source: Nic, destination: Nic, version: int, payload: Packet
) -> Packet:
    """A foreign machine sends by way of its gateway; returns the frame."""
    frame = between(source, destination, version, payload)
    tunnel.write(FOREIGN, source.network.vni, frame)
    return frame
