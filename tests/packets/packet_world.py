"""A small world: four networks, two routers, nine vNICs, written row by row.

web  172.17.17.0/24 fd00:17::/64   web1 web2 (TAP) web3 (container)   mtu 1450
db   192.168.0.0/24 fd00:db::/64   db1 gate (TAP)                     mtu 1450
far  10.44.0.0/24   fd00:44::/64   far1 (TAP)                         mtu 1280
lone 10.5.0.0/24    fd00:5::/64    lone1 (TAP), no router             mtu 1450
stranger: a TAP without a port

router main joins web and db; 10.9.0.0/16 leads via gate, a VM, with a
blackhole and a longer prefix inside; 10.44.0.0/24 leads via router edge,
which joins db and far; 10.66.0.0/24 goes round in circles between the two;
10.67.0.0/24 leads via an address that nobody has. The same in IPv6.

All ports have one security group, which allows everything.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from packet_rules import TableRow, anything, mapped_prefix, write_group
from scapy.layers.inet6 import (
    ICMPv6ND_RA,
    ICMPv6NDOptMTU,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptSrcLLAddr,
)

from heddle.datapath.codec import Row
from heddle.datapath.loader import Datapath

SERVICE_MAC = "fa:16:3e:05:ff:fe"


def eui64(mac: str) -> str:
    """The link-local address of a MAC (RFC 4291, appendix A)."""
    part = bytes.fromhex(mac.replace(":", ""))
    interface = bytes([part[0] ^ 2]) + part[1:3] + b"\xff\xfe" + part[3:]
    return str(ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + interface))


def mac_bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def mapped(address: str) -> bytes:
    """16 bytes; IPv4 as IPv4-mapped."""
    parsed = ipaddress.ip_address(address)
    return parsed.packed if parsed.version == 6 else bytes(10) + b"\xff\xff" + parsed.packed


def prefix(cidr: str) -> tuple[int, bytes]:
    """Bits as ``routes`` counts them (32 for the router before), and address."""
    bits, address = mapped_prefix(cidr)
    return 32 + bits, address


def family(cidr: str) -> dict[str, int]:
    """What tells a route of one IP version from one of the other."""
    network = ipaddress.ip_network(cidr)
    return {"ip_version": network.version, "bits": network.prefixlen}


@dataclass(frozen=True)
class Network:
    vni: int
    mtu: int
    cidr4: str
    cidr6: str


WEB = Network(1001, 1450, "172.17.17.0/24", "fd00:17::/64")
DB = Network(1002, 1450, "192.168.0.0/24", "fd00:db::/64")
FAR = Network(1004, 1280, "10.44.0.0/24", "fd00:44::/64")
LONE = Network(1005, 1450, "10.5.0.0/24", "fd00:5::/64")


@dataclass(frozen=True)
class Nic:
    """A port: its network, MAC, addresses; ``slot`` is its counter slot."""

    name: str
    network: Network
    mac: str
    ipv4: str
    ipv6: str
    slot: int
    flags: tuple[str, ...] = ("PORT_DHCP4", "PORT_DHCP6", "PORT_RA")

    @property
    def link_local(self) -> str:
        return eui64(self.mac)

    def address(self, version: int) -> str:
        return self.ipv4 if version == 4 else self.ipv6


WEB1 = Nic("web1", WEB, "fa:16:3e:17:00:02", "172.17.17.2", "fd00:17::2", 1)
WEB2 = Nic("web2", WEB, "fa:16:3e:17:00:03", "172.17.17.3", "fd00:17::3", 2)
WEB3 = Nic("web3", WEB, "fa:16:3e:17:00:04", "172.17.17.4", "fd00:17::4", 3, ("PORT_PEER",))
DB1 = Nic("db1", DB, "fa:16:3e:db:00:02", "192.168.0.2", "fd00:db::2", 4)
GATE = Nic("gate", DB, "fa:16:3e:db:00:09", "192.168.0.9", "fd00:db::9", 5)
FAR1 = Nic("far1", FAR, "fa:16:3e:44:00:02", "10.44.0.2", "fd00:44::2", 6)
LONE1 = Nic("lone1", LONE, "fa:16:3e:05:00:02", "10.5.0.2", "fd00:5::2", 7)
NICS = (WEB1, WEB2, WEB3, DB1, GATE, FAR1, LONE1)
CONTAINERS = (WEB3,)
STRANGER = "stranger"


@dataclass(frozen=True)
class RouterInterface:
    router: int
    network: Network
    mac: str
    ipv4: str
    ipv6: str

    @property
    def link_local(self) -> str:
        return eui64(self.mac)

    def address(self, version: int) -> str:
        return self.ipv4 if version == 4 else self.ipv6


MAIN, EDGE = 1, 2
MAIN_WEB = RouterInterface(MAIN, WEB, "fa:16:3e:17:ff:01", "172.17.17.1", "fd00:17::1")
MAIN_DB = RouterInterface(MAIN, DB, "fa:16:3e:db:ff:01", "192.168.0.1", "fd00:db::1")
EDGE_DB = RouterInterface(EDGE, DB, "fa:16:3e:db:ff:02", "192.168.0.254", "fd00:db::fe")
EDGE_FAR = RouterInterface(EDGE, FAR, "fa:16:3e:44:ff:02", "10.44.0.1", "fd00:44::1")
INTERFACES = (MAIN_WEB, MAIN_DB, EDGE_DB, EDGE_FAR)


@dataclass(frozen=True)
class Via:
    router: int
    cidr: str
    network: Network | None = None  # None: blackhole
    via: str = ""


ROUTES = (
    Via(MAIN, "10.9.0.0/16", DB, GATE.ipv4),
    Via(MAIN, "10.9.66.0/24"),
    Via(MAIN, "10.9.66.8/32", DB, DB1.ipv4),
    Via(MAIN, "10.44.0.0/24", DB, EDGE_DB.ipv4),
    Via(MAIN, "10.66.0.0/24", DB, EDGE_DB.ipv4),
    Via(MAIN, "10.67.0.0/24", DB, "192.168.0.77"),
    Via(EDGE, "10.66.0.0/24", DB, MAIN_DB.ipv4),
    Via(EDGE, "172.17.17.0/24", DB, MAIN_DB.ipv4),
    Via(MAIN, "fd00:9::/48", DB, GATE.ipv6),
    Via(MAIN, "fd00:9:0:66::/64"),
    Via(MAIN, "fd00:9:0:66::8/128", DB, DB1.ipv6),
    Via(MAIN, "fd00:44::/64", DB, EDGE_DB.ipv6),
    Via(MAIN, "fd00:66::/64", DB, EDGE_DB.ipv6),
    Via(MAIN, "fd00:67::/64", DB, "fd00:db::77"),
    Via(EDGE, "fd00:66::/64", DB, MAIN_DB.ipv6),
    Via(EDGE, "fd00:17::/64", DB, MAIN_DB.ipv6),
)
# What gate may send from, since main routes it there.
SOURCE_PREFIXES = ((GATE, "10.9.0.0/16"), (GATE, "fd00:9::/48"))

ALL = 1  # the security group that allows everything
WEB_SUBNET4, WEB_SUBNET6, LONE_SUBNET4 = 11, 12, 13
LEASE = 86400


def option(code: int, value: bytes) -> bytes:
    """One DHCPv4 option (RFC 2132)."""
    return bytes([code, len(value)]) + value


def option6(code: int, value: bytes) -> bytes:
    """One DHCPv6 option (RFC 8415, 21.1)."""
    return code.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value


WEB_OPTIONS4 = (
    option(54, ipaddress.ip_address(MAIN_WEB.ipv4).packed)
    + option(51, LEASE.to_bytes(4, "big"))
    + option(58, (LEASE // 2).to_bytes(4, "big"))
    + option(59, (LEASE * 7 // 8).to_bytes(4, "big"))
    + option(1, b"\xff\xff\xff\x00")
    + option(3, ipaddress.ip_address(MAIN_WEB.ipv4).packed)
    + option(6, b"\x08\x08\x08\x08")
    + option(15, b"web.example")
    + option(26, WEB.mtu.to_bytes(2, "big"))
    + option(121, b"\x10\x0a\x09" + ipaddress.ip_address(MAIN_WEB.ipv4).packed)
    + b"\xff"
)
LONE_SERVER = "10.5.0.1"
LONE_OPTIONS4 = (
    option(54, ipaddress.ip_address(LONE_SERVER).packed)
    + option(51, LEASE.to_bytes(4, "big"))
    + option(58, (LEASE // 2).to_bytes(4, "big"))
    + option(59, (LEASE * 7 // 8).to_bytes(4, "big"))
    + option(1, b"\xff\xff\xff\x00")
    + b"\xff"
)
SERVER_DUID = b"\x00\x03\x00\x01" + mac_bytes(MAIN_WEB.mac)  # DUID-LL, RFC 8415 11.4
WEB_OPTIONS6 = (
    option6(2, SERVER_DUID)
    + option6(23, ipaddress.ip_address("fd00:17::53").packed)
    + option6(24, b"\x03web\x07example\x00")
)
PREFERRED, VALID = 43200, 86400


def ra_message(interface: RouterInterface) -> bytes:
    """The template's ICMPv6 message: checksum 0, managed addresses."""
    message = bytes(
        ICMPv6ND_RA(M=1, O=1, routerlifetime=9000, chlim=64, cksum=0)
        / ICMPv6NDOptSrcLLAddr(lladdr=interface.mac)
        / ICMPv6NDOptMTU(mtu=interface.network.mtu)
        / ICMPv6NDOptPrefixInfo(
            prefix=interface.network.cidr6.split("/")[0],
            prefixlen=64,
            L=1,
            A=0,
            validlifetime=VALID,
            preferredlifetime=PREFERRED,
        )
    )
    return message


@dataclass
class World:
    """Writes the rows above for a set of devices, and any that a test adds."""

    datapath: Datapath
    ifindexes: dict[str, int]
    _rows_of: dict[str, list[tuple[str, bytes]]] = field(default_factory=dict)

    def put(self, table: str, key: Row, value: Row) -> None:
        """Write one row; scalars as they are, structs as mappings by field name."""
        key_codec, value_codec = self.datapath.abi.table_types(table)
        self.datapath.table(table).put(key_codec.pack(key), value_codec.pack(value))

    def delete(self, table: str, key: Row) -> None:
        key_codec, _ = self.datapath.abi.table_types(table)
        assert self.datapath.table(table).delete(key_codec.pack(key)), f"{table}: no {key}"

    def replace(self, owner: str, rows: Sequence[TableRow]) -> None:
        """Write rows in place of those that were written for this owner before, and let
        all networks know, as the applier does."""
        for table, key in self._rows_of.pop(owner, []):
            self.datapath.table(table).delete(key)
        self._rows_of[owner] = []
        for table, key, value in rows:
            self.put(table, key, value)
            packed = self.datapath.abi.table_types(table)[0].pack(key)
            self._rows_of[owner].append((table, packed))
        self.advance_epochs()

    def value(self, name: str) -> int:
        return self.datapath.abi.value(name)

    def advance_epoch(self, network: Network) -> None:
        """What the applier does after a change that touches a network."""
        slot = network.vni % self.value("EPOCH_SLOTS")
        table, number = self.datapath.table("epochs"), slot.to_bytes(4, "little")
        current = int.from_bytes(table.get(number) or b"", "little")
        self.put("epochs", slot, current + 1)

    def advance_epochs(self) -> None:
        for network in (WEB, DB, FAR, LONE):
            self.advance_epoch(network)

    # ---- the whole of it -----------------------------------------------

    def write(self) -> None:
        """Into empty tables."""
        self._rows_of.clear()
        write_group(self, ALL, anything())
        for nic in NICS:
            self.write_port(nic)
            self.write_endpoints(nic)
        for interface in INTERFACES:
            self.write_interface(interface)
        for route in ROUTES:
            self.write_route(route)
        for nic, cidr in SOURCE_PREFIXES:
            self.put_pair(nic, cidr, nic.mac)
        self.write_services()
        self.write_templates()

    def put_pair(self, nic: Nic, cidr: str, mac: str) -> None:
        """Let a port send from a prefix with this MAC."""
        self.put("source_prefixes", self.pair_key(nic, cidr, mac), family(cidr)["ip_version"])

    def delete_pair(self, nic: Nic, cidr: str, mac: str) -> None:
        self.delete("source_prefixes", self.pair_key(nic, cidr, mac))

    def pair_key(self, nic: Nic, cidr: str, mac: str) -> dict[str, Row]:
        bits, address = mapped_prefix(cidr)
        return {
            "prefix_bits": 96 + bits,
            "ifindex": self.ifindexes[nic.name],
            "mac": mac_bytes(mac),
            "address": address,
        }

    def write_port(self, nic: Nic, groups: Sequence[int] = (ALL,), **changes: Row) -> None:
        """A port's row, with other fields than it has by itself."""
        ring = [other for other in NICS if other.network is nic.network]
        following = ring[(ring.index(nic) + 1) % len(ring)]
        row: Mapping[str, Row] = {
            "network": nic.network.vni,
            "flags": self.datapath.abi.bits("port_flag", nic.flags),
            "counter_slot": nic.slot,
            "flood_next": self.ifindexes[following.name],
            "dhcp4_subnet": {WEB: WEB_SUBNET4, LONE: LONE_SUBNET4}.get(nic.network, 0),
            "dhcp6_subnet": WEB_SUBNET6 if nic.network is WEB else 0,
            "dhcp4_address": ipaddress.ip_address(nic.ipv4).packed,
            "dhcp6_address": ipaddress.ip_address(nic.ipv6).packed,
            "mac": mac_bytes(nic.mac),
            "mtu": nic.network.mtu,
            "group_count": len(groups),
            "groups": tuple(groups),
        }
        self.put("ports", self.ifindexes[nic.name], {**row, **changes})

    def open_port(self, nic: Nic) -> None:
        """Switch port security off."""
        flags = self.datapath.abi.bits("port_flag", [*nic.flags, "PORT_OPEN"])
        self.write_port(nic, flags=flags)
        self.put("open_networks", nic.network.vni, 1)

    def write_endpoints(self, nic: Nic) -> None:
        target, vni = self.ifindexes[nic.name], nic.network.vni
        kind, mac = self.value("ENDPOINT_PORT"), mac_bytes(nic.mac)
        self.put("macs", {"network": vni, "mac": mac}, {"kind": kind, "target": target})
        for address in (nic.ipv4, nic.ipv6):
            self.put_address(nic.network, address, kind, target, nic.mac)

    def put_address(self, network: Network, address: str, kind: int, target: int, mac: str) -> None:
        self.put(
            "addresses",
            {"network": network.vni, "address": mapped(address)},
            {"kind": kind, "target": target, "mac": mac_bytes(mac)},
        )

    def write_interface(self, interface: RouterInterface) -> None:
        network, router = interface.network, interface.router
        kind, mac = self.value("ENDPOINT_ROUTER"), mac_bytes(interface.mac)
        self.put("macs", {"network": network.vni, "mac": mac}, {"kind": kind, "target": router})
        for address in (interface.ipv4, interface.ipv6):
            self.put_address(network, address, kind, router, interface.mac)
        self.put(
            "router_interfaces",
            {"router": router, "network": network.vni},
            {
                "mac": mac,
                "mtu": network.mtu,
                "address4": mapped(interface.ipv4),
                "address6": mapped(interface.ipv6),
            },
        )
        for cidr in (network.cidr4, network.cidr6):
            bits, address = prefix(cidr)
            self.put(
                "routes",
                {"prefix_bits": bits, "router": router, "address": address},
                {
                    "kind": self.value("ROUTE_CONNECTED"),
                    "network": network.vni,
                    **family(cidr),
                },
            )

    def write_route(self, route: Via) -> None:
        bits, address = prefix(route.cidr)
        kind = "ROUTE_VIA" if route.network else "ROUTE_BLACKHOLE"
        self.put(
            "routes",
            {"prefix_bits": bits, "router": route.router, "address": address},
            {
                "kind": self.value(kind),
                "network": route.network.vni if route.network else 0,
                "via": mapped(route.via) if route.via else bytes(16),
                **family(route.cidr),
            },
        )

    def write_services(self) -> None:
        """DHCP of lone, whose gateway address no router holds."""
        kind = self.value("ENDPOINT_SERVICE")
        self.put_address(LONE, LONE_SERVER, kind, 0, SERVICE_MAC)
        self.put(
            "macs",
            {"network": LONE.vni, "mac": mac_bytes(SERVICE_MAC)},
            {"kind": kind, "target": 0},
        )

    def write_templates(self) -> None:
        self.put_dhcp4(WEB_SUBNET4, MAIN_WEB.mac, MAIN_WEB.ipv4, WEB_OPTIONS4)
        self.put_dhcp4(LONE_SUBNET4, SERVICE_MAC, LONE_SERVER, LONE_OPTIONS4)
        self.put_dhcp6(WEB_SUBNET6, MAIN_WEB.mac, SERVER_DUID, WEB_OPTIONS6)
        message = ra_message(MAIN_WEB)
        self.put(
            "ra_templates",
            WEB.vni,
            {"router_mac": mac_bytes(MAIN_WEB.mac), "length": len(message), "message": message},
        )

    def put_dhcp4(self, subnet: int, mac: str, server: str, options: bytes) -> None:
        self.put(
            "dhcp4_templates",
            subnet,
            {
                "server_mac": mac_bytes(mac),
                "options_length": len(options),
                "server_address": ipaddress.ip_address(server).packed,
                "options": options,
            },
        )

    def put_dhcp6(self, subnet: int, mac: str, duid: bytes, options: bytes) -> None:
        self.put(
            "dhcp6_templates",
            subnet,
            {
                "server_mac": mac_bytes(mac),
                "options_length": len(options),
                "server_id_length": len(duid),
                "preferred_lifetime": PREFERRED,
                "valid_lifetime": VALID,
                "options": options,
            },
        )
