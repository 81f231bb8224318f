"""Other hosts of the small world, and the wire between them and this one.

The other hosts are the file of a TAP, the underlay: a test writes envelopes there as
any of them, and reads what this host sends to them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from packet_diff import assert_same_frame
from packet_lab import OWN_MAC, PEER_MAC, Device, Lab
from packet_world import DB, FAR, WEB, WEB1, Network, Nic, World, mac_bytes, mapped
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet

from heddle.datapath.codec import Row

if TYPE_CHECKING:
    from tests.packets.conftest import Switchboard

UDP_PORT = 4789
KERNEL_PORTS = range(32768, 61000)  # net.ipv4.ip_local_port_range; this device names none
DIRECT_PORTS = range(49152, 65536)
HERE = 1  # number of this host
VTEP4, VTEP6 = "10.99.0.1", "fd99::1"
TABLES = ("this_host", "vteps", "tunnel_senders", "tunnel_networks", "flood_hosts")
# The header's bits D and A count how often an envelope was sent on.
FORWARDED_ONCE, FORWARDED_TWICE = 0x08, 0x40
OPEN = 0x8000  # beside the number: the sender has no port security


@dataclass(frozen=True)
class Host:
    """Another host; ``relay`` is the one through which it is reached."""

    number: int
    vtep: str
    relay: Host | None = None
    flags: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """Address of ours that it sees."""
        return VTEP6 if ":" in self.vtep else VTEP4

    @property
    def mac(self) -> str:
        """In the underlay; a multicast group has its own (RFC 1112 6.4, RFC 2464 7)."""
        address = ipaddress.ip_address(self.vtep)
        if not address.is_multicast:
            return PEER_MAC
        if address.version == 6:
            return "33:33:" + address.packed[-4:].hex(":")
        return "01:00:5e:" + (int(address) & 0x7FFFFF).to_bytes(3, "big").hex(":")

    @property
    def name(self) -> str:
        return f"host {self.number}"


NEAR = Host(2, "10.99.0.2")
SIX = Host(3, "fd99::3")
BEHIND = Host(4, "10.99.0.4", relay=NEAR)
FOREIGN = Host(5, "10.99.0.5", flags=("VTEP_FOREIGN",))
UNKNOWN = Host(0, "10.99.0.66")
HOSTS = (NEAR, SIX, BEHIND, FOREIGN)
STRANGE_VTEPS = ("10.99.0.66", "fd99::66")  # of no host

# Ports at other hosts; they have no counter slots here.
WEB8 = Nic("web8", WEB, "fa:16:3e:17:00:08", "172.17.17.8", "fd00:17::8", 0)
WEB6 = Nic("web6", WEB, "fa:16:3e:17:00:06", "172.17.17.6", "fd00:17::6", 0)
WEB4 = Nic("web4", WEB, "fa:16:3e:17:00:14", "172.17.17.14", "fd00:17::14", 0)
DB8 = Nic("db8", DB, "fa:16:3e:db:00:08", "192.168.0.8", "fd00:db::8", 0)
DB6 = Nic("db6", DB, "fa:16:3e:db:00:06", "192.168.0.6", "fd00:db::6", 0)
LOST = Nic("lost", WEB, "fa:16:3e:17:00:0f", "172.17.17.15", "fd00:17::15", 0)
REMOTE = {WEB8: NEAR, WEB6: SIX, WEB4: BEHIND, DB8: NEAR, DB6: SIX, LOST: UNKNOWN}
FLOODED = (NEAR, SIX)  # hosts that have ports of web


@dataclass
class Tunnel:
    """The wire to the other hosts."""

    board: Switchboard
    wire: Device
    vxlan: Device

    def write(self, host: Host | str, vni: int, inner: Packet | bytes, **header: int) -> None:
        """Some host sends an envelope."""
        self.wire.write(bytes(self.envelope(host, vni, inner, **header)))

    def envelope(
        self, host: Host | str, vni: int, inner: Packet | bytes, *, number: int = 0, bits: int = 0
    ) -> Packet:
        """From another host to this one. ``number``: of the host that it is for, or OPEN,
        ``bits``: how often it was sent on (FORWARDED_ONCE, FORWARDED_TWICE)."""
        vtep = host if isinstance(host, str) else host.vtep
        kind, ours = (IPv6, VTEP6) if ":" in vtep else (IP, VTEP4)
        outer = Ether(src=PEER_MAC, dst=OWN_MAC) / kind(src=vtep, dst=ours)
        return outer / UDP(sport=50000, dport=UDP_PORT) / vxlan(vni, number, bits) / bytes(inner)

    def from_vm(self, frame: Packet, device: str = "web1") -> None:
        """A VM of this host sends it."""
        self.board.devices[device].write(bytes(frame))

    def dropped(self, reason: str) -> int:
        """Packets from other hosts that were dropped for a reason."""
        return self.board.drop_count_of(self.vxlan, reason)["packets"]

    def read(self) -> bytes:
        """The next frame to another host."""
        while (raw := self.wire.read()) is not None:
            if _is_to_host(raw):
                return raw
        raise AssertionError("nothing came")

    def read_all(self) -> list[bytes]:
        """What waits to be read by now."""
        return [raw for raw in self.wire.read_all() if _is_to_host(raw)]

    def carries(
        self,
        host: Host,
        vni: int,
        inner: Packet | bytes,
        *,
        tos: int = 0,
        number: int = 0,
        bits: int = 0,
        dont_fragment: bool = False,
        directly: bool = False,
    ) -> Packet:
        """The next frame on the wire is this one in an envelope to a host, to the
        byte, all checksums included; only the kernel's choices are taken as they are
        (IPv4 identification, source port). ``directly``: without the host's stack.
        Returns it."""
        raw = self.read()
        actual = Ether(raw)
        ports = UDP(sport=actual[UDP].sport, dport=UDP_PORT)
        if directly:
            ports.chksum = 0
        header = vxlan(vni, number, bits)
        expected = self._outer(host, actual, tos, dont_fragment) / ports / header / bytes(inner)
        assert_same_frame(raw, expected)
        assert actual[UDP].sport in (DIRECT_PORTS if directly else KERNEL_PORTS)
        return actual

    def _outer(self, host: Host, actual: Packet, tos: int, dont_fragment: bool) -> Packet:
        ethernet = Ether(src=OWN_MAC, dst=host.mac)
        if ":" in host.vtep:
            return ethernet / IPv6(src=VTEP6, dst=host.vtep, tc=tos, hlim=64)
        flags = "DF" if dont_fragment else 0
        identification = actual[IP].id
        return ethernet / IP(
            src=VTEP4, dst=host.vtep, tos=tos, ttl=64, id=identification, flags=flags
        )


def _is_to_host(frame: bytes) -> bool:
    """Or to a group of hosts. The host's own kernel may join groups at any time
    (IGMP, MLD)."""
    return UDP in Ether(frame) and Ether(frame)[UDP].dport == UDP_PORT


def vxlan(vni: int, number: int, bits: int) -> Packet:
    """The header; with a group policy only where there is one."""
    if not number and not bits:
        return VXLAN(flags=0x08, vni=vni)
    return VXLAN(flags=0x88, gpflags=bits, gpid=number, vni=vni)


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


# ---- rows ------------------------------------------------------------------------


def write_hosts(world: World, underlay: Underlay) -> None:
    """The rows of other hosts and their ports."""
    world.put("this_host", 0, {"number": HERE, "tunnel_ifindex": underlay.vxlan.ifindex})
    for host in HOSTS:
        world.put("tunnel_senders", {"address": mapped(host.vtep)}, host.number)
        put_vtep(world, host)
    put_network(world, WEB, FLOODED, first_port=world.ifindexes[WEB1.name])
    put_network(world, DB, (NEAR,), first_port=world.ifindexes["db1"])
    put_network(world, FAR, (), first_port=world.ifindexes["far1"])
    for nic, host in REMOTE.items():
        put_remote(world, nic, host.number)


def put_vtep(world: World, host: Host, **changes: Row) -> None:
    at = host.relay or host
    row = {
        "address": mapped(at.vtep),
        "source": mapped(at.source),
        "ip_version": ipaddress.ip_address(at.vtep).version,
        "relayed_to": host.number if host.relay else 0,
        "flags": world.datapath.abi.bits("vtep_flag", host.flags),
        **changes,
    }
    world.put("vteps", host.number, row)


def put_network(
    world: World, network: Network, hosts: Sequence[Host], first_port: int, *flags: str
) -> None:
    numbers = [host.number for host in hosts] + [0]
    for host, following in pairwise(numbers):
        world.put("flood_hosts", {"network": network.vni, "host": host}, following)
    row = {
        "first_port": first_port,
        "first_host": numbers[0],
        "mtu": network.mtu,
        "flags": world.datapath.abi.bits("tunnel_network_flag", flags),
    }
    world.put("tunnel_networks", network.vni, row)


def put_remote(world: World, nic: Nic, host: int, **changes: int) -> None:
    """Rows of a port at another host, in place of those that it has."""
    kind, mac = world.value("ENDPOINT_REMOTE"), mac_bytes(nic.mac)
    key = {"network": nic.network.vni, "mac": mac}
    world.put("macs", key, {"kind": kind, "target": host, **changes})
    for address in (nic.ipv4, nic.ipv6):
        world.put_address(nic.network, address, kind, host, nic.mac)
