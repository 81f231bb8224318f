"""Intent for many ports: networks of a hundred, ten networks to a router."""

from __future__ import annotations

from collections.abc import Iterator

from heddle.intent.model import (
    AnyResource,
    FixedIp,
    Kind,
    Machine,
    Network,
    Port,
    Router,
    RouterInterface,
    Subnet,
)
from heddle.intent.names import derived_mac, object_id
from heddle.paths import host_name

PORTS_PER_NETWORK = 100
NETWORKS_PER_ROUTER = 10
NICS_PER_MACHINE = 32
_PROJECT = "bench"


def another_address(number: int) -> str:
    """Of the port that ``Plan.another`` makes."""
    return f"10.0.0.{number + 2 + PORTS_PER_NETWORK}"


class Plan:
    """So many ports, and what they need. ``resources`` is all of it."""

    def __init__(self, ports: int) -> None:
        self._host = host_name()
        self._ports = ports
        networks = range(-(-ports // PORTS_PER_NETWORK))
        self.resources: list[AnyResource] = []
        self._others: list[AnyResource] = []
        for number in networks:
            self.resources += _network(number)
        for first in networks[::NETWORKS_PER_ROUTER]:
            self.resources.append(_router(networks[first : first + NETWORKS_PER_ROUTER]))
        for number in range(-(-ports // NICS_PER_MACHINE)):
            self.resources.append(self._machine(f"machine-{number}"))
        for number in range(ports):
            machine, nic = divmod(number, NICS_PER_MACHINE)
            self.resources.append(self._port(number, f"machine-{machine}", nic))

    def another(self, number: int) -> tuple[Machine, Port, str]:
        """A port beyond the plan in one of its networks, its machine, and the
        address of its gateway."""
        machine = self._machine(f"another-{number}")
        port = self._port(self._ports + number, machine.name, 0, network=0)
        self._others += [machine, port]
        return machine, port, _gateway(0)

    def another_in(self, network: int) -> tuple[Machine, Port, str]:
        """The same in another network of the plan."""
        machine = self._machine(f"another-in-{network}")
        port = self._port(self._ports, machine.name, 0, network=network)
        return machine, port, _gateway(network)

    def everything(self) -> Iterator[tuple[Kind, str]]:
        """What to delete to be rid of it all, in an order that intent allows."""
        for resource in reversed([*self.resources, *self._others]):
            yield resource.kind, resource.id

    def _machine(self, name: str) -> Machine:
        identity = object_id(_PROJECT, Kind.MACHINE, name)
        return Machine(id=identity, name=name, machine_kind="vm", host=self._host)

    def _port(self, number: int, machine: str, nic: int, network: int | None = None) -> Port:
        if network is None:
            network = number // PORTS_PER_NETWORK
            place = number % PORTS_PER_NETWORK + 2
        else:
            place = number - self._ports + 2 + PORTS_PER_NETWORK
        subnet_id = _id(Kind.SUBNET, network)
        return Port(
            id=object_id(_PROJECT, Kind.PORT, str(number)),
            name=f"port-{number}",
            network_id=_id(Kind.NETWORK, network),
            mac=f"fa:16:3e:{number >> 16 & 0xFF:02x}:{number >> 8 & 0xFF:02x}:{number & 0xFF:02x}",
            fixed_ips=(FixedIp(subnet_id=subnet_id, ip=f"10.{network}.0.{place}"),),
            machine_id=object_id(_PROJECT, Kind.MACHINE, machine),
            nic=nic,
            host=self._host,
        )


def _id(kind: Kind, number: int) -> str:
    return object_id(_PROJECT, kind, str(number))


def _gateway(network: int) -> str:
    return f"10.{network}.0.1"


def _network(number: int) -> tuple[Network, Subnet]:
    network = Network(id=_id(Kind.NETWORK, number), name=f"network-{number}", vni=1000 + number)
    subnet = Subnet(
        id=_id(Kind.SUBNET, number),
        name=f"subnet-{number}",
        network_id=network.id,
        number=1000 + number,
        cidr=f"10.{number}.0.0/24",
        gateway_ip=_gateway(number),
    )
    return network, subnet


def _router(networks: range) -> Router:
    interfaces = tuple(
        RouterInterface(
            network_id=_id(Kind.NETWORK, number),
            mac=derived_mac("bench-router", str(number)),
            addresses=(_gateway(number),),
        )
        for number in networks
    )
    first = networks[0]
    return Router(
        id=_id(Kind.ROUTER, first), name=f"router-{first}", number=1 + first, interfaces=interfaces
    )
