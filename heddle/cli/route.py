"""Which frame a machine would send to reach a destination: the addresses, and
the MAC it would learn by ARP or neighbour discovery."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from heddle.cli.view import Item, View
from heddle.errors import NotFoundError, RequestError
from heddle.events.naming import PortName

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Way:
    """The ends of a packet and its first hop."""

    port: PortName  # that sends it
    source: str
    source_mac: bytes
    destination: str
    destination_mac: bytes | None  # None: nobody would answer the ARP request


_BROADCAST_MAC = b"\xff" * 6
_BROADCAST = IPv4Address("255.255.255.255")


def choose_way(view: View, source: str, destination: str, *, ipv6: bool) -> Way:
    """Ends by name or address. RequestError or NotFoundError says what does
    not fit: no such machine, no common address family, no router."""
    sources = _ports(view, source)
    target = _parse_address(destination)
    if target is not None:
        port = _first_with_address(sources, [target], source)
        return _way(view, port, target)
    targets = _ports(view, destination)
    for port, other in _pairs(sources, targets):
        for address in _fixed(other):
            if address.version == (6 if ipv6 else 4) and _of_version(port, address.version):
                return _way(view, port, address)
    if not ipv6:
        return choose_way(view, source, destination, ipv6=True)
    raise RequestError(f"{source} and {destination} have no addresses of a common family")


def _ports(view: View, name: str) -> list[Item]:
    """The ports of MACHINE, or the one of MACHINE:NIC."""
    machine_name, colon, nic = name.rpartition(":")
    if not colon:
        machine_name = name
    ports = view.ports_of(view.find("machine", machine_name))
    if colon:
        ports = [port for port in ports if str(port["nic"]) == nic]
    if not ports:
        raise NotFoundError(f"{name}: the machine has no such NIC; `heddle show port` lists them")
    return ports


def _pairs(sources: Iterable[Item], targets: Iterable[Item]) -> list[tuple[Item, Item]]:
    """Pairs of ports, those on one network first."""
    pairs = [(source, target) for source in sources for target in targets]
    return sorted(pairs, key=lambda pair: pair[0]["network_id"] != pair[1]["network_id"])


def _first_with_address(ports: Iterable[Item], targets: list[Address], name: str) -> Item:
    for port in ports:
        if any(_of_version(port, target.version) for target in targets):
            return port
    raise RequestError(f"{name} has no IPv{targets[0].version} address to send from")


def _way(view: View, port: Item, target: Address) -> Way:
    subnet_id, source = _source(view, port, target)
    return Way(
        port=view.names.by_id[port["id"]],
        source=str(source),
        source_mac=_mac(port["mac"]),
        destination=str(target),
        destination_mac=_first_hop_mac(view, port, view.by_id[subnet_id], target),
    )


def _source(view: View, port: Item, target: Address) -> tuple[str, Address]:
    """The fixed address to send from: one in the target's subnet if there is."""
    candidates = [
        (fixed["subnet_id"], ipaddress.ip_address(fixed["ip"]))
        for fixed in port["fixed_ips"]
        if ipaddress.ip_address(fixed["ip"]).version == target.version
    ]
    for subnet_id, address in candidates:
        if target in ipaddress.ip_network(view.by_id[subnet_id]["cidr"]):
            return subnet_id, address
    return candidates[0]


def _first_hop_mac(view: View, port: Item, subnet: Item, target: Address) -> bytes | None:
    prefix = ipaddress.ip_network(subnet["cidr"])
    if target.is_multicast:
        return _multicast_mac(target)
    if target in (_BROADCAST, prefix.broadcast_address) and target.version == 4:
        return _BROADCAST_MAC
    if target in prefix:
        return _mac_of(view, port["network_id"], target)
    hop = ipaddress.ip_address(_next_hop(subnet, target))
    mac = _mac_of(view, port["network_id"], hop)
    if mac is None:
        raise RequestError(
            f"{view.names.by_id[port['id']].label} knows no way to {target}: network "
            f"{view.name_of(port['network_id'])} has no router at {hop}"
        )
    return mac


def _multicast_mac(group: Address) -> bytes:
    """RFC 1112 6.4: 23 bits of the group; RFC 2464 7: 32 bits."""
    if group.version == 6:
        return b"\x33\x33" + group.packed[12:]
    return b"\x01\x00\x5e" + bytes([group.packed[1] & 0x7F]) + group.packed[2:]


def _next_hop(subnet: Item, target: Address) -> str:
    """By the routes that guests of the subnet are given: longest prefix first."""
    matching = [
        (ipaddress.ip_network(route["destination"]).prefixlen, str(route["nexthop"]))
        for route in subnet["host_routes"]
        if target in ipaddress.ip_network(route["destination"])
    ]
    return max(matching)[1] if matching else str(subnet["gateway_ip"])


def _mac_of(view: View, network_id: str, address: Address) -> bytes | None:
    """Who has the address on the network: a port or a router."""
    for port in view.ports_in(network_id):
        if address in _fixed(port):
            return _mac(port["mac"])
    for router in view.of_kind("router"):
        for interface in router["interfaces"]:
            own = map(ipaddress.ip_address, interface["addresses"])
            if interface["network_id"] == network_id and address in own:
                return _mac(interface["mac"])
    return None


def _fixed(port: Item) -> list[Address]:
    return [ipaddress.ip_address(fixed["ip"]) for fixed in port["fixed_ips"]]


def _of_version(port: Item, version: int) -> bool:
    return any(address.version == version for address in _fixed(port))


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _parse_address(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
