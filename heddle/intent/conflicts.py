"""Where wanted objects contradict objects that something else owns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from heddle.intent.describe import title
from heddle.intent.model import (
    AddressGroupEntry,
    AnyResource,
    Host,
    Kind,
    Machine,
    Network,
    Port,
    Router,
    SecurityGroupRule,
)
from heddle.intent.names import PROJECT_ORIGIN
from heddle.intent.stored import KIND_ORDER, Stored

_Wanted = Mapping[tuple[Kind, str], AnyResource]
_Claim = tuple[str, ...]
"""What only one object may have, such as ("address", network id, "10.0.0.2")."""

API_ORIGIN = "api"
AGENT_ORIGIN = "agent"
CLONE_ORIGIN = "clone:"
"""Followed by the name of the clone."""

# All others are named after these.
_NAMED_KINDS = (
    Kind.HOST,
    Kind.DETOUR,
    Kind.NETWORK,
    Kind.ROUTER,
    Kind.ADDRESS_GROUP,
    Kind.SECURITY_GROUP,
    Kind.MACHINE,
)


def find_conflicts(stored: Stored, wanted: _Wanted, origin: str) -> list[str]:
    """One line per conflict: which objects, who owns the other, what to do."""
    others = [
        resource
        for objects in stored.objects.values()
        for resource in objects.values()
        if resource.origin != origin
    ]
    others.sort(key=lambda other: (KIND_ORDER[other.kind], other.name))
    same_name = [
        _owned(other)
        for other in others
        if other.kind in _NAMED_KINDS
        and (other.kind, other.id) in wanted
        and wanted[other.kind, other.id].origin == origin
    ]
    if same_name:  # the rest would only follow from it
        return same_name
    taken = {claim: other for other in others for claim in _claims(other)}
    claimed = [
        _taken(claim, resource, taken[claim])
        for resource in wanted.values()
        for claim in _claims(resource)
        if claim in taken and taken[claim].id != resource.id
    ]
    return claimed + list(_left_hanging(stored, others, wanted, origin))


def _claims(resource: AnyResource) -> Iterator[_Claim]:
    if isinstance(resource, Network):
        yield "VNI", str(resource.vni)
        for behind in (one for member in resource.foreign_members for one in member.macs):
            yield "MAC", resource.id, behind.mac
            if behind.address is not None:
                yield "address", resource.id, behind.address
    elif isinstance(resource, Host):
        yield "host number", str(resource.number)
        if resource.vtep:
            yield "VTEP", resource.vtep
    elif isinstance(resource, Machine):
        yield "machine name", resource.name.lower()
    elif isinstance(resource, Port):
        yield "MAC", resource.network_id, resource.mac
        for fixed in resource.fixed_ips:
            yield "address", resource.network_id, fixed.ip
    elif isinstance(resource, Router):
        for interface in resource.interfaces:
            yield "MAC", interface.network_id, interface.mac
            for address in interface.addresses:
                yield "address", interface.network_id, address


def _owned(other: AnyResource) -> str:
    return (
        f"{title(other)}: belongs to {_owner(other)} already; rename it here, or {_removal(other)}"
    )


def _taken(claim: _Claim, resource: AnyResource, other: AnyResource) -> str:
    what = f"{claim[0]} {claim[-1]}"
    return (
        f"{title(resource)}: {what} is taken by {title(other)} of "
        f"{_owner(other)}; choose another, or {_removal(other)}"
    )


def _left_hanging(
    stored: Stored, others: list[AnyResource], wanted: _Wanted, origin: str
) -> Iterator[str]:
    """Objects of others that need one that is to be deleted."""
    for other in others:
        for key in _needs(other):
            needed = stored.objects.get(key[0], {}).get(key[1])
            if needed is not None and needed.origin == origin and key not in wanted:
                yield (
                    f"{title(needed)}: is in use by {title(other)} of "
                    f"{_owner(other)}; keep it, or {_removal(other)}"
                )


def _needs(resource: AnyResource) -> Iterator[tuple[Kind, str]]:
    if isinstance(resource, Port):
        yield Kind.NETWORK, resource.network_id
        yield Kind.MACHINE, resource.machine_id
        for fixed in resource.fixed_ips:
            yield Kind.SUBNET, fixed.subnet_id
        for group_id in resource.security_group_ids:
            yield Kind.SECURITY_GROUP, group_id
        if resource.qos_policy_id is not None:
            yield Kind.QOS_POLICY, resource.qos_policy_id
    elif isinstance(resource, SecurityGroupRule):
        yield Kind.SECURITY_GROUP, resource.security_group_id
        if resource.remote_group_id is not None:
            yield Kind.SECURITY_GROUP, resource.remote_group_id
        if resource.address_group_id is not None:
            yield Kind.ADDRESS_GROUP, resource.address_group_id
    elif isinstance(resource, AddressGroupEntry):
        yield Kind.ADDRESS_GROUP, resource.address_group_id
    elif isinstance(resource, Router):
        for interface in resource.interfaces:
            yield Kind.NETWORK, interface.network_id


def _owner(resource: AnyResource) -> str:
    owners = {
        API_ORIGIN: "the API",
        AGENT_ORIGIN: "its agent",
        PROJECT_ORIGIN: "the project",
        "": "nobody",
    }
    if clone := _clone_of(resource):
        return f"the clone {clone}"
    return owners.get(resource.origin, resource.origin)


def _removal(resource: AnyResource) -> str:
    if resource.origin in ("", API_ORIGIN, AGENT_ORIGIN, PROJECT_ORIGIN):
        return "remove that one first"
    if clone := _clone_of(resource):
        return f"take that one away with: heddle clone --remove {clone}"
    return f"take that one away with: heddle down {resource.origin}"


def _clone_of(resource: AnyResource) -> str:
    """The name of the clone that an object belongs to ("": none)."""
    return (
        resource.origin.removeprefix(CLONE_ORIGIN)
        if resource.origin.startswith(CLONE_ORIGIN)
        else ""
    )
