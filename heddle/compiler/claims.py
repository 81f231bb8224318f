"""What an object needs for itself alone: two objects with the same VNI, number,
device or address would meet in the same rows of the data plane."""

from __future__ import annotations

from collections.abc import Iterator

from heddle.compiler.questions import (
    Question,
    detour_of,
    holder_of,
    host_named,
    path_to,
    presence_of,
)
from heddle.compiler.roles import role_of
from heddle.intent.model import (
    AddressGroup,
    AnyResource,
    Detour,
    Host,
    Machine,
    Network,
    Path,
    Port,
    Presence,
    Router,
    SecurityGroup,
    SecurityGroupRule,
    Subnet,
)
from heddle.intent.names import derived_mac, tap_name


def claims_of(resource: AnyResource, host: str) -> Iterator[Question]:
    """Everything that the object must be the only one to have."""
    match resource:
        case Port():
            yield from _port_claims(resource, host)
        case Network():
            yield ("VNI", str(resource.vni))
            yield from _foreign_claims(resource)
        case Subnet():
            yield ("subnet number", str(resource.number))
            yield ("gateway", resource.network_id, resource.gateway_ip)
            yield _mac_claim(resource.network_id, service_mac(resource))
        case Router():
            yield from _router_claims(resource)
        case SecurityGroup() | AddressGroup():  # rules name both by their number alone
            yield ("group number", str(resource.number))
        case SecurityGroupRule():
            yield ("rule number", str(resource.number))
        case Machine():
            if resource.host == host:
                yield ("machine name", resource.name)
        case Host():
            yield ("host number", str(resource.number))
            if resource.vtep:
                yield ("VTEP", resource.vtep)
            yield from answers_of(resource)
        case Detour() | Path() | Presence():
            yield from answers_of(resource)


def answers_of(resource: AnyResource | None) -> Iterator[Question]:
    """The claims that compile functions ask about."""
    match resource:
        case Host():
            yield host_named(resource.name)
        case Detour():
            yield detour_of(resource.host)
        case Path():
            yield path_to(resource.host)
        case Presence():
            yield presence_of(resource.machine_id)
        case Network():
            behind = (one for member in resource.foreign_members for one in member.macs)
            yield from (holder_of(resource.id, one.address) for one in behind if one.address)
        case Port():
            yield from (holder_of(resource.network_id, one.ip) for one in resource.fixed_ips)
        case Router():
            ends = (
                (one.network_id, address)
                for one in resource.interfaces
                for address in one.addresses
            )
            yield from (holder_of(*end) for end in ends)


def _port_claims(port: Port, host: str) -> Iterator[Question]:
    yield _mac_claim(port.network_id, port.mac)
    yield from answers_of(port)
    if role_of(port, host) is not None:
        yield ("device", tap_name(port.id))
        yield ("NIC", port.machine_id, str(port.nic))


def _router_claims(router: Router) -> Iterator[Question]:
    yield ("router number", str(router.number))
    for interface in router.interfaces:
        yield _mac_claim(interface.network_id, interface.mac)
    yield from answers_of(router)


def _foreign_claims(network: Network) -> Iterator[Question]:
    for member in network.foreign_members:
        for behind in member.macs:
            yield _mac_claim(network.id, behind.mac)
    yield from answers_of(network)


def _mac_claim(network_id: str, mac: str) -> Question:
    return ("MAC", network_id, mac)


def service_mac(subnet: Subnet) -> str:
    """Under which the data plane serves a subnet whose gateway no router has."""
    return derived_mac("service", subnet.id)


def describe(claim: Question) -> str:
    """For a message, e.g. ``VNI 5`` or ``address 10.0.0.5``."""
    name, *values = claim
    return f"{name} {values[-1]}"
