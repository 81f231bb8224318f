"""Expands a topology file into the objects that it stands for.

Ids follow from names, so the same file names the same objects on every day and
host. What the file leaves open is filled in by allocate.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from heddle.intent.allocate import MacKey, assign_macs, assign_numbers
from heddle.intent.collection import paused_collection
from heddle.intent.expand_hosts import (
    Placement,
    check_known,
    expand_detours,
    expand_hosts,
    foreign_members,
    mtu_of,
    placements,
)
from heddle.intent.expand_policy import expand_policies, expand_qos
from heddle.intent.expand_ports import expand_ports
from heddle.intent.model import (
    NUMBER_MAX,
    VNI_MAX,
    AnyResource,
    HostRoute,
    Kind,
    Machine,
    Network,
    NetworkMode,
    Port,
    Route,
    Router,
    RouterInterface,
    Subnet,
)
from heddle.intent.names import PROJECT, derived_mac, nic_names, object_id, subnet_name
from heddle.intent.schema import BUILT_IN_IMAGE, MachineSpec, RouteSpec, SubnetSpec, TopologySpec
from heddle.intent.stored import Stored, stored_of
from heddle.intent.topology import Topology


@paused_collection()
def expand(topology: Topology, stored: Stored, host: str, origin: str) -> list[AnyResource]:
    """The objects of a file, owned by ``origin``, as seen from ``host``.

    Sorted by kind, then name. Objects that exist keep their numbers, MACs,
    addresses, hosts and what commands want of a machine. The project's own
    security group, which ports need that name none, belongs to the project.
    TopologyError when a subnet has no address left, or a host that the file names
    is not there.
    """
    spec = topology.spec
    check_known(topology, stored, host)
    places = placements(topology, stored, host, origin)
    macs = _macs(spec, stored)
    networks = _networks(spec, stored, origin)
    subnets = _subnets(spec, stored, origin)
    routers = _routers(spec, stored, origin, macs)
    machines = _machines(topology, stored, places, origin)
    ports = expand_ports(topology, stored, places, origin, macs)
    qos = list(expand_qos(spec, origin))
    return [
        *_by_name(expand_hosts(spec, stored, origin), expand_detours(spec, origin)),
        *_by_name(networks, subnets, routers),
        *expand_policies(spec, stored, origin),
        *_by_name(qos, machines, ports),
    ]


def _by_name(*groups: Sequence[AnyResource]) -> Iterator[AnyResource]:
    for group in groups:
        yield from sorted(group, key=lambda resource: resource.name)


def _network_id(name: str) -> str:
    return object_id(PROJECT, Kind.NETWORK, name)


def _router_id(name: str) -> str:
    return object_id(PROJECT, Kind.ROUTER, name)


def _networks(spec: TopologySpec, stored: Stored, origin: str) -> list[Network]:
    ids = {name: _network_id(name) for name in spec.networks}
    vnis = assign_numbers(
        ids.values(),
        given={ids[name]: net.vni for name, net in spec.networks.items() if net.vni is not None},
        held={key: network.vni for key, network in stored_of(stored, Network).items()},
        maximum=VNI_MAX,
    )
    return [
        Network(
            id=ids[name],
            name=name,
            origin=origin,
            vni=vnis[ids[name]],
            mode=NetworkMode(network.mode),
            mtu=mtu_of(network, spec, stored),
            domain=network.domain,
            flood_group=str(network.flood) if network.flood else None,
            foreign_members=tuple(foreign_members(network)),
        )
        for name, network in spec.networks.items()
    ]


def _subnets(spec: TopologySpec, stored: Stored, origin: str) -> list[Subnet]:
    found = [(name, subnet) for name, network in spec.networks.items() for subnet in network.cidr]
    ids = [_subnet_id(name, subnet) for name, subnet in found]
    numbers = assign_numbers(
        ids,
        given={},
        held={key: subnet.number for key, subnet in stored_of(stored, Subnet).items()},
        maximum=NUMBER_MAX,
    )
    return [
        Subnet(
            id=subnet_id,
            name=subnet_name(name, str(subnet.cidr)),
            origin=origin,
            network_id=_network_id(name),
            number=numbers[subnet_id],
            cidr=str(subnet.cidr),
            gateway_ip=str(subnet.gateway_ip),
            enable_dhcp=subnet.dhcp,
            ipv6_mode=subnet.mode,
            dns=tuple(map(str, spec.networks[name].dns_of(subnet))),
            host_routes=tuple(
                HostRoute(destination=str(route.to), nexthop=str(route.via))
                for route in subnet.host_routes
            ),
            lease_time=subnet.lease_time,
        )
        for subnet_id, (name, subnet) in zip(ids, found, strict=True)
    ]


def _subnet_id(network: str, subnet: SubnetSpec) -> str:
    return object_id(PROJECT, Kind.SUBNET, subnet_name(network, str(subnet.cidr)))


def _routers(
    spec: TopologySpec, stored: Stored, origin: str, macs: dict[MacKey, str]
) -> list[Router]:
    ids = {name: _router_id(name) for name in spec.routers}
    numbers = assign_numbers(
        ids.values(),
        given={},
        held={key: router.number for key, router in stored_of(stored, Router).items()},
        maximum=NUMBER_MAX,
    )
    return [
        Router(
            id=ids[name],
            name=name,
            origin=origin,
            number=numbers[ids[name]],
            interfaces=_interfaces(spec, name, macs),
            routes=tuple(map(_route, router.routes)),
        )
        for name, router in spec.routers.items()
    ]


def _interfaces(
    spec: TopologySpec, router: str, macs: dict[MacKey, str]
) -> tuple[RouterInterface, ...]:
    return tuple(
        RouterInterface(
            network_id=_network_id(join.network),
            mac=macs["router", _router_id(router), _network_id(join.network)],
            addresses=tuple(
                str(join.address_in(subnet)) for subnet in spec.networks[join.network].cidr
            ),
        )
        for join in spec.routers[router].networks
    )


def _route(spec: RouteSpec) -> Route:
    return Route(destination=str(spec.to), nexthop=str(spec.via) if spec.via else None)


def _machines(
    topology: Topology, stored: Stored, places: Mapping[str, Placement], origin: str
) -> list[Machine]:
    existing = stored_of(stored, Machine)
    machines = []
    for name, spec in topology.spec.machines.items():
        machine_id = object_id(PROJECT, Kind.MACHINE, name)
        old = existing.get(machine_id)
        machines.append(
            Machine(
                id=machine_id,
                name=name,
                origin=origin,
                machine_kind=spec.kind,
                **places[name]._asdict(),
                image=_image(topology, spec),
                cpus=spec.cpus,
                memory=spec.memory,
                pin=spec.pin,
                running=old is not None and old.running,
                paused=old is not None and old.paused,
                saved="" if old is None else old.saved,
            )
        )
    return machines


def _image(topology: Topology, spec: MachineSpec) -> str:
    if spec.image == BUILT_IN_IMAGE or spec.kind == "container":
        return BUILT_IN_IMAGE
    return str(topology.folder / spec.image)


def _macs(spec: TopologySpec, stored: Stored) -> dict[MacKey, str]:
    """MACs of all ports and router interfaces."""
    given: dict[MacKey, str] = {}
    wanted: set[MacKey] = set()
    for name, machine in spec.machines.items():
        port_names = nic_names(name, (nic.network for nic in machine.nics))
        for port_name, nic in zip(port_names, machine.nics, strict=True):
            key = ("port", object_id(PROJECT, Kind.PORT, port_name))
            wanted.add(key)
            if nic.mac is not None:
                given[key] = nic.mac
    for name, router in spec.routers.items():
        for join in router.networks:
            wanted.add(("router", _router_id(name), _network_id(join.network)))
    foreign = {
        mac for net in spec.networks.values() for one in net.foreign.values() for mac in one.macs
    }
    # The data plane answers DHCP under these MACs in subnets without a router.
    services = {
        derived_mac("service", _subnet_id(name, subnet))
        for name, network in spec.networks.items()
        for subnet in network.cidr
    }
    return assign_macs(wanted, given=given, held=_held_macs(stored), reserved=services | foreign)


def _held_macs(stored: Stored) -> dict[MacKey, str]:
    held: dict[MacKey, str] = {
        ("port", key): port.mac for key, port in stored_of(stored, Port).items()
    }
    for key, router in stored_of(stored, Router).items():
        for interface in router.interfaces:
            held["router", key, interface.network_id] = interface.mac
    return held
