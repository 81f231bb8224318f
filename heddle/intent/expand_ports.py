"""Expands NICs into ports: which addresses each has, and which number."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address

from heddle.intent.addresses import Address, eui64
from heddle.intent.allocate import AddressPool, MacKey, natural_order
from heddle.intent.expand_hosts import Placement
from heddle.intent.expand_policy import (
    address_pairs,
    groups_of,
    qos_policy_id,
    security_group_id,
)
from heddle.intent.model import FixedIp, Kind, Port, Router
from heddle.intent.names import PROJECT, nic_names, object_id, subnet_name
from heddle.intent.problems import KeyPath, Problems
from heddle.intent.schema import NetworkSpec, NicSpec, SubnetSpec, TopologySpec
from heddle.intent.stored import Stored, stored_of
from heddle.intent.topology import Topology


@dataclass(slots=True)
class _Plug:
    """A NIC on its way to become a port."""

    port_id: str
    name: str
    machine: str
    index: int
    nic: NicSpec
    network: NetworkSpec
    mac: str
    old: Port | None
    addresses: list[Address] = field(default_factory=list)

    @property
    def path(self) -> KeyPath:
        return ("machines", self.machine, "nics", self.index)


def expand_ports(
    topology: Topology,
    stored: Stored,
    places: Mapping[str, Placement],
    origin: str,
    macs: Mapping[MacKey, str],
) -> list[Port]:
    """One port per NIC, where its machine is. TopologyError when a subnet has no
    address left."""
    plugs = _plugs(topology.spec, stored, origin, macs)
    _assign_addresses(topology, stored, origin, plugs)
    numbers = _nic_numbers(plugs)
    return [
        Port(
            id=plug.port_id,
            name=plug.name,
            origin=origin,
            network_id=_network_id(plug.nic.network),
            mac=plug.mac,
            fixed_ips=_fixed_ips(plug),
            machine_id=object_id(PROJECT, Kind.MACHINE, plug.machine),
            nic=numbers[plug.port_id],
            host=places[plug.machine].host,
            migrating_to=places[plug.machine].migrating_to,
            moved_from=places[plug.machine].moved_from,
            port_security=plug.nic.port_security,
            security_group_ids=tuple(map(security_group_id, groups_of(plug.nic))),
            address_pairs=address_pairs(plug.nic),
            qos_policy_id=qos_policy_id(plug.name, plug.nic),
            connections_max=plug.nic.connections or 0,
        )
        for plug in plugs
    ]


def _network_id(name: str) -> str:
    return object_id(PROJECT, Kind.NETWORK, name)


def _plugs(
    spec: TopologySpec, stored: Stored, origin: str, macs: Mapping[MacKey, str]
) -> list[_Plug]:
    """In natural order of their names, so that addresses are given out in it."""
    existing = stored_of(stored, Port)
    plugs = []
    for machine_name, machine in spec.machines.items():
        names = nic_names(machine_name, (nic.network for nic in machine.nics))
        for index, (name, nic) in enumerate(zip(names, machine.nics, strict=True)):
            port_id = object_id(PROJECT, Kind.PORT, name)
            old = existing.get(port_id)
            plugs.append(
                _Plug(
                    port_id=port_id,
                    name=name,
                    machine=machine_name,
                    index=index,
                    nic=nic,
                    network=spec.networks[nic.network],
                    mac=macs["port", port_id],
                    old=old if old is not None and old.origin == origin else None,
                )
            )
    return sorted(plugs, key=lambda plug: natural_order(plug.name))


def _assign_addresses(topology: Topology, stored: Stored, origin: str, plugs: list[_Plug]) -> None:
    """First what is named or follows from the MAC, then what a port has
    already, and then the lowest free address."""
    taken = _taken(topology.spec, stored, origin)
    for plug in plugs:
        plug.addresses = _settled_addresses(plug)
        taken[plug.nic.network].update(plug.addresses)
    for plug in plugs:
        for subnets in _open_groups(plug):
            kept = _kept_addresses(plug, subnets, taken[plug.nic.network])
            plug.addresses += kept
            taken[plug.nic.network].update(kept)
    _assign_lowest_free(topology, plugs, taken)


def _assign_lowest_free(
    topology: Topology, plugs: list[_Plug], taken: dict[str, set[Address]]
) -> None:
    problems = Problems(topology.source)
    pools = {
        (name, subnet.cidr): AddressPool(subnet.cidr, taken[name])
        for name, network in topology.spec.networks.items()
        for subnet in network.cidr
    }
    for plug in plugs:
        for subnets in _open_groups(plug):
            found = (pools[plug.nic.network, subnet.cidr].lowest_free() for subnet in subnets)
            address = next((one for one in found if one is not None), None)
            if address is None:
                cidrs = ", ".join(str(subnet.cidr) for subnet in subnets)
                what = f"no address is left in {cidrs}; use a shorter prefix, or add a subnet"
                problems.add(plug.path, what)
                continue
            plug.addresses.append(address)
            taken[plug.nic.network].add(address)
    problems.raise_if_any()


def _taken(spec: TopologySpec, stored: Stored, origin: str) -> dict[str, set[Address]]:
    """Addresses by network that no port of this file can be given."""
    taken: dict[str, set[Address]] = defaultdict(set)
    for name, network in spec.networks.items():
        taken[name] |= {subnet.gateway_ip for subnet in network.cidr}
        taken[name] |= network.foreign_addresses
    for router in spec.routers.values():
        for join in router.networks:
            subnets = spec.networks[join.network].cidr
            taken[join.network] |= {join.address_in(subnet) for subnet in subnets}
    names = {_network_id(name): name for name in spec.networks}
    for port in stored_of(stored, Port).values():
        if port.origin != origin and port.network_id in names:
            taken[names[port.network_id]] |= {ip_address(fixed.ip) for fixed in port.fixed_ips}
    for other in stored_of(stored, Router).values():
        for interface in other.interfaces:
            if other.origin != origin and interface.network_id in names:
                taken[names[interface.network_id]] |= set(map(ip_address, interface.addresses))
    return taken


def _settled_addresses(plug: _Plug) -> list[Address]:
    """Named addresses, and those that guests form from their MAC."""
    formed = [
        eui64(prefix, plug.mac)
        for subnet in plug.network.cidr
        if (prefix := subnet.slaac_prefix) is not None
    ]
    return [*plug.nic.address, *(one for one in formed if one not in plug.nic.address)]


def _open_groups(plug: _Plug) -> list[list[SubnetSpec]]:
    """Groups of subnets (IPv4; IPv6 with assigned addresses) of which the port
    should have an address and has none yet."""
    assigned = [subnet for subnet in plug.network.cidr if subnet.slaac_prefix is None]
    groups = [[s for s in assigned if s.cidr.version == version] for version in (4, 6)]
    return [
        group
        for group in groups
        if group and not any(one in s.cidr for one in plug.addresses for s in group)
    ]


def _kept_addresses(plug: _Plug, subnets: list[SubnetSpec], taken: set[Address]) -> list[Address]:
    if plug.old is None:
        return []
    held = [ip_address(fixed.ip) for fixed in plug.old.fixed_ips]
    return [
        one for one in held if one not in taken and any(one in subnet.cidr for subnet in subnets)
    ]


def _fixed_ips(plug: _Plug) -> tuple[FixedIp, ...]:
    """IPv4 first; the first of a family is what DHCP offers."""
    fixed = []
    for address in sorted(plug.addresses, key=lambda one: one.version):
        subnet = plug.network.subnet_of(address)
        if subnet is not None:
            name = subnet_name(plug.nic.network, str(subnet.cidr))
            subnet_id = object_id(PROJECT, Kind.SUBNET, name)
            fixed.append(FixedIp(subnet_id=subnet_id, ip=str(address)))
    return tuple(fixed)


def _nic_numbers(plugs: list[_Plug]) -> dict[str, int]:
    """A port that exists keeps its number, since guests name devices by it; a
    new one gets its place in the file, or else the lowest that is free."""
    numbers: dict[str, int] = {}
    used: dict[str, set[int]] = defaultdict(set)
    for plug in plugs:
        if plug.old is not None:
            numbers[plug.port_id] = plug.old.nic
            used[plug.machine].add(plug.old.nic)
    for plug in sorted(plugs, key=lambda one: one.index):
        if plug.port_id in numbers:
            continue
        taken = used[plug.machine]
        number = plug.index
        if number in taken:
            number = min(set(range(len(taken) + 1)) - taken)
        numbers[plug.port_id] = number
        taken.add(number)
    return numbers
