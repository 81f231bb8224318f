"""What a compile function can ask of intent. A question is a plain tuple that
starts with its name, so that it can be recorded and looked up cheaply."""

from __future__ import annotations

from heddle.intent.model import Direction, Kind

ObjectKey = tuple[Kind, str]  # also the question: what is this object?
Question = tuple[str, ...]

ANY_PEER: Question = ("any peer",)  # is another host in a network that this one needs?
ALL_HOSTS: Question = ("all hosts",)  # are there so few hosts that each knows all?
FLOOD_GROUPS: Question = ("flood groups",)  # which multicast groups do needed networks have?


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


def presence_of(machine_id: str) -> Question:
    """Does a machine that is being moved run here?"""
    return ("presence of machine", machine_id)


def number_of_host(name: str) -> Question:
    return ("number of host", name)


def relaying(host: str) -> Question:
    """For whom is the host the relay?"""
    return ("relaying", host)


def on_paths(host: str) -> Question:
    """Which paths that probes found go through the host?"""
    return ("on paths", host)


def is_needed(network_id: str) -> Question:
    """Does this host need the network?"""
    return ("needed", network_id)


def is_peer(host: str) -> Question:
    """Is the other host in a network that this one needs?"""
    return ("peer", host)


def resides(network_id: str, host: str) -> Question:
    """Is the other host in the network? Also the key of what it gives this host."""
    return (RESIDENCE, network_id, host)


RESIDENCE = "residence"


def number_of_group(group_id: str) -> Question:
    """Under which number do the ports of this host use the security group, if at all?"""
    return ("number of group", group_id)


def number_of_set(key: ObjectKey) -> Question:
    """Under which number do groups that this host uses name the set, if at all?"""
    return ("number of set", *key)


def fits(group_id: str, direction: Direction, ip_version: int, key: ObjectKey) -> Question:
    """Is the set among those that this side of the group has room for?"""
    return ("fits", group_id, direction, str(ip_version), *key)
