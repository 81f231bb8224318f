"""What only one object of a whole cluster can have. Two with the same VNI,
number, address or MAC would meet in the same rows of the data plane, on any
host that holds both."""

from __future__ import annotations

from collections.abc import Iterator

from heddle.intent.model import (
    AddressGroup,
    AnyResource,
    Host,
    Network,
    Port,
    Router,
    SecurityGroup,
    SecurityGroupRule,
    Subnet,
)

Claim = tuple[str, ...]
"""What is claimed, in whose realm if it has one, and the value."""


def claims_of(resource: AnyResource) -> Iterator[Claim]:
    """Everything that the object must be the only one to have."""
    match resource:
        case Network():
            yield ("VNI", str(resource.vni))
        case Subnet():
            yield ("subnet number", str(resource.number))
        case Router():
            yield ("router number", str(resource.number))
            for interface in resource.interfaces:
                yield ("MAC", interface.network_id, interface.mac)
                for address in interface.addresses:
                    yield ("address", interface.network_id, address)
        case SecurityGroup() | AddressGroup():  # rules name both by their number alone
            yield ("group number", str(resource.number))
        case SecurityGroupRule():
            yield ("rule number", str(resource.number))
        case Host():
            yield ("host name", resource.name)
            yield ("host number", str(resource.number))
            if resource.vtep:
                yield ("VTEP", resource.vtep)
        case Port():
            yield ("MAC", resource.network_id, resource.mac)
            for fixed_ip in resource.fixed_ips:
                yield ("address", resource.network_id, fixed_ip.ip)


def describe(claim: Claim) -> str:
    """For a message, e.g. ``VNI 5`` or ``address 10.0.0.5``."""
    return f"{claim[0]} {claim[-1]}"
