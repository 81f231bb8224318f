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

PORTS_PER_HOST = 50
PORTS_PER_NETWORK = 20
HOSTS_PER_NETWORK = 2
_PROJECT = "cluster"
_GROUP_SIZE = PORTS_PER_HOST * HOSTS_PER_NETWORK  # ports of hosts that share networks


class ClusterPlan:
    """So many ports; host 0 is the one that is looked at."""

    def __init__(self, ports: int) -> None:
        self.ports = ports
        self.hosts = -(-ports // PORTS_PER_HOST)

    def resources(self) -> Iterator[AnyResource]:
        yield from _security_group()
        for number in range(self.hosts):
            yield _host(number)
            for half in range(2):
                yield _machine(_machine_name(number, half), host_name(number))
        networks = range(-(-self.ports // PORTS_PER_NETWORK))
        for number in networks:
            yield from _network(number)
        for first in networks[:-1:2]:
            yield _router(first)
        for number in range(self.ports):
            yield _port(number, _place(number))

    def change(self, number: int, *, near: bool) -> tuple[AnyResource, ...]:
        """A port more, on another host: in a network of host 0, or in one that
        concerns it not at all."""
        host = host_name(1 if near else self.hosts - 1)
        network = 0 if near else -(-self.ports // PORTS_PER_NETWORK) - 1
        machine = _machine(f"{host}-more-{number}-{near}", host)
        return machine, _port_of(
            machine, network, PORTS_PER_NETWORK + 2 + number, f"{number}-{near}"
        )


def host_name(number: int) -> str:
    return f"host{number}"


def _machine_name(host: int, half: int) -> str:
    """A machine has fewer NICs than a host has ports."""
    return f"{host_name(host)}-{half}"


def _place(number: int) -> int:
    """The host of a port: the ports of a network take turns among its hosts."""
    group, within = divmod(number, _GROUP_SIZE)
    return group * HOSTS_PER_NETWORK + within % HOSTS_PER_NETWORK


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


def _port(number: int, host: int) -> Port:
    network, place = divmod(number, PORTS_PER_NETWORK)
    half, nic = divmod(number // HOSTS_PER_NETWORK % PORTS_PER_HOST, PORTS_PER_HOST // 2)
    machine = _machine(_machine_name(host, half), host_name(host))
    return _port_of(machine, network, place + 2, str(number), nic)


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
