"""Intent for a cluster that no machine holds: hosts with so many ports each,
in networks that reach over a few hosts, two networks to a router."""

from __future__ import annotations

from collections.abc import Iterator

from heddle.intent.model import (
    AnyResource,
    Direction,
    FixedIp,
    Host,
    Kind,
    Machine,
    Network,
    Port,
    Router,
    RouterInterface,
    SecurityGroup,
    SecurityGroupRule,
    Subnet,
)
from heddle.intent.names import derived_mac, object_id

PORTS_PER_NETWORK = 20
NICS_PER_MACHINE = 25
_PROJECT = "cluster"


class ClusterPlan:
    """So many ports. The hosts are in groups that share networks and routers, and
    each host of a group has ports in all of its networks."""

    def __init__(self, ports: int, *, ports_per_host: int = 50, hosts_per_network: int = 2) -> None:
        self.ports = ports
        self.ports_per_host = ports_per_host
        self.hosts_per_network = hosts_per_network
        self.hosts = -(-ports // ports_per_host)
        self.networks = -(-ports // PORTS_PER_NETWORK)

    def resources(self) -> Iterator[AnyResource]:
        yield from _security_group()
        for number in range(self.hosts):
            yield _host(number)
            for one in range(-(-self.ports_per_host // NICS_PER_MACHINE)):
                yield _machine(_machine_name(number, one), host_name(number))
        for number in range(self.networks):
            yield from _network(number)
        for first in range(0, self.networks - 1, 2):
            yield _router(first)
        for number in range(self.ports):
            yield self._port(number)

    def change(self, number: int, *, near: bool) -> tuple[AnyResource, ...]:
        """A port more, on another host: in a network of host 0, or in one that
        concerns it not at all."""
        host, network = (1, 0) if near else (self.hosts - 1, self.networks - 1)
        return self.another(host, network, number, f"{number}-{near}")

    def another(self, host: int, network: int, number: int, name: str) -> tuple[Machine, Port]:
        """A machine with a port more; number counts those of the network."""
        machine = _machine(f"{host_name(host)}-more-{name}", host_name(host))
        return machine, _port_of(machine, network, PORTS_PER_NETWORK + 2 + number, name)

    def _port(self, number: int) -> Port:
        """The ports of a network take turns among its hosts."""
        group, within = divmod(number, self.ports_per_host * self.hosts_per_network)
        turn, member = divmod(within, self.hosts_per_network)
        host = group * self.hosts_per_network + member
        one, nic = divmod(turn, NICS_PER_MACHINE)
        machine = _machine(_machine_name(host, one), host_name(host))
        network, place = divmod(number, PORTS_PER_NETWORK)
        return _port_of(machine, network, place + 2, str(number), nic)


def host_name(number: int) -> str:
    return f"host{number}"


def _machine_name(host: int, number: int) -> str:
    """A machine has fewer NICs than a host has ports."""
    return f"{host_name(host)}-{number}"


def _id(kind: Kind, name: object) -> str:
    return object_id(_PROJECT, kind, str(name))


def _host(number: int) -> Host:
    name = host_name(number)
    vtep = f"198.18.{number // 250}.{number % 250 + 1}"
    return Host(id=_id(Kind.HOST, name), name=name, number=number + 1, vtep=vtep)


def _machine(name: str, host: str) -> Machine:
    return Machine(id=_id(Kind.MACHINE, name), name=name, machine_kind="vm", host=host)


def _network(number: int) -> Iterator[AnyResource]:
    network_id, subnet_id = _id(Kind.NETWORK, number), _id(Kind.SUBNET, number)
    yield Network(id=network_id, name=f"net{number}", vni=number + 1)
    prefix = _prefix(number)
    yield Subnet(
        id=subnet_id,
        name=f"net{number}",
        network_id=network_id,
        number=number + 1,
        cidr=f"{prefix}.0/24",
        gateway_ip=f"{prefix}.1",
    )


def _prefix(network: int) -> str:
    return f"10.{network // 250}.{network % 250}"


def _router(first: int) -> Router:
    interfaces = tuple(
        RouterInterface(
            network_id=_id(Kind.NETWORK, network),
            mac=derived_mac(_PROJECT, "router", str(network)),
            addresses=(f"{_prefix(network)}.1",),
        )
        for network in (first, first + 1)
    )
    return Router(
        id=_id(Kind.ROUTER, first), name=f"router{first}", number=first + 1, interfaces=interfaces
    )


def _security_group() -> Iterator[AnyResource]:
    """One group for all: they may talk to each other, and send anything."""
    group = _id(Kind.SECURITY_GROUP, "all")
    yield SecurityGroup(id=group, name="all", number=1)
    for number, direction in enumerate((Direction.FROM_VM, Direction.TO_VM), 1):
        yield SecurityGroupRule(
            id=_id(Kind.SECURITY_GROUP_RULE, number),
            name=f"all-{number}",
            number=number,
            security_group_id=group,
            direction=direction,
            ip_version=4,
            remote_group_id=group if direction is Direction.TO_VM else None,
        )


def _port_of(machine: Machine, network: int, place: int, name: str, nic: int = 0) -> Port:
    return Port(
        id=_id(Kind.PORT, name),
        name=f"port{name}",
        network_id=_id(Kind.NETWORK, network),
        mac=derived_mac(_PROJECT, "port", name),
        fixed_ips=(FixedIp(subnet_id=_id(Kind.SUBNET, network), ip=f"{_prefix(network)}.{place}"),),
        machine_id=machine.id,
        nic=nic,
        host=machine.host,
        security_group_ids=(_id(Kind.SECURITY_GROUP, "all"),),
    )
