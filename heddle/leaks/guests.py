"""What guests may know: the networks as intent has them, from stored objects as
plain dicts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

from heddle.events.naming import PortNames
from heddle.intent.names import derived_mac

Item = Mapping[str, Any]


@dataclass(slots=True)
class GuestNetwork:
    """A network, and who may speak in it. MACs are 6 bytes, addresses 4 or 16."""

    name: str
    vni: int
    mtu: int
    macs: set[bytes] = field(default_factory=set)
    addresses: set[bytes] = field(default_factory=set)
    routers: set[bytes] = field(default_factory=set)  # their MACs
    strangers: bool = False  # guests may send from any MAC: learned, or without port security


@dataclass(frozen=True, slots=True)
class GuestPort:
    """A port of this host."""

    label: str  # machine:nic
    device: str
    network: GuestNetwork
    mac: bytes
    fixed: tuple[tuple[str, str], ...]  # address, gateway of its subnet


@dataclass(frozen=True, slots=True)
class Guests:
    """All networks by VNI, and the ports of this host by device."""

    networks: Mapping[int, GuestNetwork]
    ports: Mapping[str, GuestPort]

    @property
    def macs(self) -> set[bytes]:
        return {mac for network in self.networks.values() for mac in network.macs}

    @property
    def addresses(self) -> set[bytes]:
        return {address for network in self.networks.values() for address in network.addresses}


def read_guests(objects: Iterable[Item], host: str) -> Guests:
    """From everything in the store; ``host`` chooses the ports."""
    stored = list(objects)
    networks = {item["id"]: _network(item) for item in stored if item["kind"] == "network"}
    for item in stored:
        match item["kind"]:
            case "port":
                _add_port(networks[item["network_id"]], item)
            case "router":
                for interface in item["interfaces"]:
                    _add_interface(networks[interface["network_id"]], interface)
            case "subnet":
                _add_subnet(networks[item["network_id"]], item)
    names = PortNames(stored)
    gateways = {item["id"]: item["gateway_ip"] for item in stored if item["kind"] == "subnet"}
    ports = [
        GuestPort(
            names.by_id[item["id"]].label,
            names.by_id[item["id"]].device,
            networks[item["network_id"]],
            mac_bytes(item["mac"]),
            tuple((fixed["ip"], gateways[fixed["subnet_id"]]) for fixed in item["fixed_ips"]),
        )
        for item in stored
        if item["kind"] == "port" and item["host"] == host
    ]
    return Guests(
        {network.vni: network for network in networks.values()},
        {port.device: port for port in ports},
    )


def mac_bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def packed(address: str) -> bytes:
    return ip_address(address).packed


def _network(item: Item) -> GuestNetwork:
    network = GuestNetwork(item["name"], item["vni"], item["mtu"])
    for member in item.get("foreign_members", ()):
        network.strangers |= member["learn"]
        for behind in member["macs"]:
            network.macs.add(mac_bytes(behind["mac"]))
            if behind["address"]:
                network.addresses.add(packed(behind["address"]))
    return network


def _add_port(network: GuestNetwork, item: Item) -> None:
    network.macs.add(mac_bytes(item["mac"]))
    network.addresses |= {packed(fixed["ip"]) for fixed in item["fixed_ips"]}
    network.strangers |= not item.get("port_security", True)
    for pair in item.get("address_pairs", ()):
        if pair["mac"]:
            network.macs.add(mac_bytes(pair["mac"]))
        network.addresses.add(ip_network(pair["cidr"], strict=False).network_address.packed)


def _add_interface(network: GuestNetwork, interface: Item) -> None:
    network.routers.add(mac_bytes(interface["mac"]))
    network.macs.add(mac_bytes(interface["mac"]))
    network.addresses |= {packed(address) for address in interface["addresses"]}


def _add_subnet(network: GuestNetwork, item: Item) -> None:
    """A subnet without a router is served under a MAC of its own."""
    network.macs.add(mac_bytes(derived_mac("service", item["id"])))
    network.addresses.add(packed(item["gateway_ip"]))
