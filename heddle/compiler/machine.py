"""A machine: the domain or container, with its NICs as seen from inside."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from heddle.compiler.addresses import is_ipv6, prefix_length
from heddle.compiler.dependencies import View
from heddle.compiler.fragment import Fragment
from heddle.compiler.port import addresses_of, device_of, plug_of
from heddle.compiler.state import MachineSpec, Nic
from heddle.compiler.subnet import has_router_gateway
from heddle.intent.model import Machine, Port, Subnet
from heddle.intent.names import namespace_name


def compile_machine(view: View, machine: Machine) -> Fragment:
    if view.host not in (machine.host, machine.migrating_to):
        return Fragment()
    spec = MachineSpec(
        id=machine.id,
        name=machine.name,
        machine_kind=machine.machine_kind,
        image=machine.image,
        cpus=machine.cpus,
        memory=machine.memory,
        running=machine.running,
        nics=tuple(_nics(view, machine)),
        pinned=machine.pin == "auto",
        moving=_moving(view, machine),
        paused=machine.paused,
        saved=machine.saved,
    )
    fragment = Fragment(machines={machine.id: spec})
    if machine.machine_kind == "container":
        fragment.namespaces.add(namespace_name(machine.name))
    return fragment


def _moving(view: View, machine: Machine) -> Literal["", "in", "out"]:
    if not machine.migrating_to or machine.migrating_to == machine.host:
        return ""
    return "in" if machine.host != view.host else "out"


def _nics(view: View, machine: Machine) -> Iterator[Nic]:
    """In the order of their numbers."""
    for port in sorted(view.ports(machine.id), key=lambda port: port.nic):
        plug = plug_of(view, port)
        if plug is not None:
            yield _nic(view, port, machine, plug.network.mtu)


def _nic(view: View, port: Port, machine: Machine, mtu: int) -> Nic:
    addresses = list(addresses_of(view, port))
    subnets = [subnet for _, subnet in addresses]
    return Nic(
        port_id=port.id,
        device=device_of(port, machine),
        mac=port.mac,
        mtu=mtu,
        addresses=tuple(f"{ip}/{prefix_length(subnet.cidr)}" for ip, subnet in addresses),
        gateways=tuple(_gateways(view, subnets)),
        routes=tuple(
            dict.fromkeys((r.destination, r.nexthop) for s in subnets for r in s.host_routes)
        ),
        dns=tuple(dict.fromkeys(server for subnet in subnets for server in subnet.dns)),
    )


def _gateways(view: View, subnets: list[Subnet]) -> Iterator[str]:
    """The first gateway of each family that a router holds."""
    for ipv6 in (False, True):
        for subnet in subnets:
            if is_ipv6(subnet.cidr) == ipv6 and has_router_gateway(view, subnet):
                yield subnet.gateway_ip
                break
