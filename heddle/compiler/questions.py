"""What a compile function can ask of intent. A question is a plain tuple that
starts with its name, so that it can be recorded and looked up cheaply."""

from __future__ import annotations

from heddle.intent.model import Kind

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
