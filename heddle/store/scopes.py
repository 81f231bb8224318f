"""Which part of intent a host needs, as a graph of scopes.

A scope is a part of intent that is followed as a whole. Each object lies in a
scope of its own choosing (``homes``); some are announced in others as well
(``signposts``), and some make whoever holds them need further scopes
(``needs``). What a host needs is what it reaches from its ``roots``:

    host h -> ports there -> their networks -> ports, subnets
                                            -> routers there -> the networks that they join
           -> their security groups and rules -> groups and address groups that rules name
           -> their QoS policies
    hosts: everybody's

Pure, and the same for every store.
"""

from __future__ import annotations

from collections.abc import Iterator

from heddle.intent.model import (
    AddressGroup,
    AddressGroupEntry,
    AnyResource,
    Kind,
    Machine,
    Network,
    Port,
    QosPolicy,
    Router,
    SecurityGroup,
    SecurityGroupRule,
    Subnet,
)
from heddle.store.scope import Scope

HOSTS = Scope("hosts", "all")

# Kinds of which each object opens a scope.
_OWN_SCOPE = {
    Kind.NETWORK: "network",
    Kind.ROUTER: "router",
    Kind.SECURITY_GROUP: "group",
    Kind.ADDRESS_GROUP: "address_group",
    Kind.QOS_POLICY: "qos",
}


def roots(host: str) -> tuple[Scope, ...]:
    """What a host follows in any case."""
    return HOSTS, Scope("host", host)


def homes(resource: AnyResource) -> tuple[Scope, ...]:
    """Where an object is kept: the first is where it is read from, in others
    there are copies."""
    match resource:
        case Machine():
            return tuple(Scope("host", host) for host in _hosts(resource))
        case Network() | Router() | SecurityGroup() | AddressGroup() | QosPolicy():
            return (Scope(_OWN_SCOPE[resource.kind], resource.id),)
        case Subnet() | Port():
            return (Scope("network", resource.network_id),)
        case SecurityGroupRule():
            return (Scope("rules", resource.security_group_id),)
        case AddressGroupEntry():
            return (Scope("entries", resource.address_group_id),)
    return (HOSTS,)


def signposts(resource: AnyResource) -> Iterator[Scope]:
    """Scopes that say where the object is: who follows one needs its home."""
    match resource:
        case Port():
            yield from (Scope("host", host) for host in _hosts(resource))
        case Router():
            yield from {Scope("network", one.network_id): None for one in resource.interfaces}


def needs(resource: AnyResource, host: str) -> Iterator[Scope]:
    """What a host has to follow because it holds the object."""
    match resource:
        case Router():
            yield from (Scope("network", one.network_id) for one in resource.interfaces)
        case SecurityGroupRule():
            if resource.remote_group_id is not None:
                yield Scope("group", resource.remote_group_id)
            if resource.address_group_id is not None:
                yield Scope("address_group", resource.address_group_id)
                yield Scope("entries", resource.address_group_id)
        case Port() if host in _hosts(resource):
            for group in resource.security_group_ids:
                yield Scope("group", group)
                yield Scope("rules", group)
            if resource.qos_policy_id is not None:
                yield Scope("qos", resource.qos_policy_id)


def _hosts(resource: Machine | Port) -> tuple[str, ...]:
    """Where it is, is going to be, or has just been."""
    hosts = (resource.host, resource.migrating_to, resource.moved_from)
    return tuple(dict.fromkeys(host for host in hosts if host))
