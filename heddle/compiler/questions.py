"""What a compile function can ask of intent. A question is a plain tuple that
starts with its name, so that it can be recorded and looked up cheaply."""

from __future__ import annotations

from heddle.intent.model import Direction, Kind

ObjectKey = tuple[Kind, str]  # also the question: what is this object?
Question = tuple[str, ...]


def subnets_of(network_id: str) -> Question:
    return ("subnets of", network_id)


def routers_of(network_id: str) -> Question:
    return ("routers of", network_id)


def ports_of(machine_id: str) -> Question:
    return ("ports of", machine_id)


def routed_to(network_id: str, address: str) -> Question:
    """Which static routes have this next hop?"""
    return ("routed to", network_id, address)


def holder_of(network_id: str, address: str) -> Question:
    """Who has this IP address?"""
    return ("address", network_id, address)


def host_named(name: str) -> Question:
    """Which host has this name?"""
    return ("host name", name)


def detour_of(host: str) -> Question:
    """Through whom do all reach the host?"""
    return ("detour of host", host)


def path_to(host: str) -> Question:
    """How do probes say that this host reaches that one?"""
    return ("path to host", host)


def number_of_group(group_id: str) -> Question:
    """Under which number do the ports of this host use the security group, if at all?"""
    return ("number of group", group_id)


def number_of_set(key: ObjectKey) -> Question:
    """Under which number do groups that this host uses name the set, if at all?"""
    return ("number of set", *key)


def fits(group_id: str, direction: Direction, ip_version: int, key: ObjectKey) -> Question:
    """Is the set among those that this side of the group has room for?"""
    return ("fits", group_id, direction, str(ip_version), *key)
