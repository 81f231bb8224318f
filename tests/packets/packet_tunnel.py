"""Other hosts of the small world, and the wire between them and this one.

The other hosts are a packet socket at the far end of the underlay: a test writes
envelopes there as any of them, and reads what this host sends to them.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packet_lab import OWN_MAC, PEER_MAC, Device, Lab
from packet_world import DB, WEB, Network, World, mapped
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet

if TYPE_CHECKING:
    from tests.packets.conftest import Switchboard

UDP_PORT = 4789
HERE = 1  # number of this host
VTEP4, VTEP6 = "10.99.0.1", "fd99::1"
TABLES = ("this_host", "vteps", "tunnel_senders", "tunnel_networks", "flood_hosts")


@dataclass(frozen=True)
class Host:
    """Another host."""

    number: int
    vtep: str

    @property
    def source(self) -> str:
        """Address of ours that it sees."""
        return VTEP6 if ":" in self.vtep else VTEP4


NEAR = Host(2, "10.99.0.2")
SIX = Host(3, "fd99::3")
HOSTS = (NEAR, SIX)
STRANGE_VTEPS = ("10.99.0.66", "fd99::66")  # of no host


@dataclass
class Tunnel:
    """The wire to the other hosts."""

    board: Switchboard
    wire: Device
    vxlan: Device

    def write(self, vtep: str, vni: int, inner: Packet | bytes, **header: int) -> None:
        """Some host sends an envelope."""
        self.wire.write(bytes(self.envelope(vtep, vni, inner, **header)))

    def envelope(self, vtep: str, vni: int, inner: Packet | bytes, **header: int) -> Packet:
        """From another host to this one. ``header``: fields of the VXLAN header."""
        kind, ours = (IPv6, VTEP6) if ":" in vtep else (IP, VTEP4)
        outer = Ether(src=PEER_MAC, dst=OWN_MAC) / kind(src=vtep, dst=ours)
        flags = 0x88 if header else 0x08
        vxlan = VXLAN(flags=flags, vni=vni, **header)
        return outer / UDP(sport=50000, dport=UDP_PORT) / vxlan / bytes(inner)

    def dropped(self, reason: str) -> int:
        """Packets from other hosts that were dropped for a reason."""
        return self.board.drop_count_of(self.vxlan, reason)["packets"]


@dataclass(frozen=True)
class Underlay:
    """Devices that live as long as the board."""

    wire: Device
    vxlan: Device


def make_underlay(lab: Lab, from_tunnel_pin: str) -> Underlay:
    neighbors = [*(host.vtep for host in HOSTS), *STRANGE_VTEPS]
    wire = lab.underlay([f"{VTEP4}/24", f"{VTEP6}/64"], neighbors)
    vxlan = lab.vxlan(UDP_PORT)
    lab.attach(vxlan.name, from_tunnel_pin)
    return Underlay(wire, vxlan)


def write_hosts(world: World, underlay: Underlay) -> None:
    """The rows of other hosts, into empty tables."""
    world.put("this_host", 0, {"number": HERE, "tunnel_ifindex": underlay.vxlan.ifindex})
    for host in HOSTS:
        world.put("tunnel_senders", {"address": mapped(host.vtep)}, host.number)
        put_vtep(world, host)
    for network in (WEB, DB):
        put_network(world, network)


def put_vtep(world: World, host: Host, **changes: int) -> None:
    row = {
        "address": mapped(host.vtep),
        "source": mapped(host.source),
        "ip_version": ipaddress.ip_address(host.vtep).version,
        **changes,
    }
    world.put("vteps", host.number, row)


def put_network(world: World, network: Network, **changes: int) -> None:
    first = next((i for name, i in world.ifindexes.items() if name.startswith("web")), 0)
    row = {"first_port": first, "first_host": 0, "mtu": network.mtu, **changes}
    world.put("tunnel_networks", network.vni, row)
