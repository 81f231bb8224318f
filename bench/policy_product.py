"""Heddle with security groups: pairs of containers that differ in their policy."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import closing
from typing import Any

from bench import private, product
from bench.peers import Pair
from bench.policy_peers import TCP_PORTS, UDP_PORTS, dashed
from heddle.intent.model import AnyResource
from heddle.intent.names import namespace_name
from heddle.paths import store_file
from heddle.store.sqlite import SqliteStore

FEW = 10  # rules of a small group
_ROLES = ("sender", "receiver")
_NETWORKS = {"left": "10.83.1", "right": "10.83.2"}  # prefixes of /24 subnets

Nic = Mapping[str, Any]  # the keys of a NIC that say what may pass, and how fast


def start_pairs(groups: Iterable[str], nics: Mapping[str, tuple[Nic, Nic]]) -> dict[str, Pair]:
    """Pairs by name, up and running: a sender in one subnet and a receiver in
    another, with the NICs given. Each of the groups has ten rules."""
    machines: dict[str, object] = {}
    for place, ends in enumerate(nics.values()):
        for role, network, nic in zip(_ROLES, _NETWORKS, ends, strict=True):
            plug = {"network": network, "address": _address(network, place), **nic}
            machines[_machine(place, role)] = {"kind": "container", "nics": [plug]}
    _up({"security_groups": {group: _ten_rules() for group in groups}, "machines": machines})
    return {name: _pair(place, name) for place, name in enumerate(nics)}


def _address(network: str, place: int) -> str:
    return f"{_NETWORKS[network]}.{2 + place}"


def _machine(place: int, role: str) -> str:
    return f"{role}-{place}"


def _pair(place: int, name: str) -> Pair:
    sender, receiver = (namespace_name(_machine(place, role)) for role in _ROLES)
    sender_ip, receiver_ip = (_address(network, place) for network in _NETWORKS)
    host = private.HOST_NAMESPACE
    return Pair(f"heddle, {name}", sender, receiver, host, sender_ip, receiver_ip).check()


def _up(parts: Mapping[str, object]) -> None:
    """JSON is YAML as well."""
    networks = {name: {"cidr": f"{prefix}.0/24"} for name, prefix in _NETWORKS.items()}
    routers = {"main": {"networks": list(networks)}}
    topology = {"version": 1, "networks": networks, "routers": routers, **parts}
    file = private.ROOT / "policy.yaml"
    file.write_text(json.dumps(topology, indent=1), encoding="utf-8")
    product.heddle("up", str(file))


def _ten_rules() -> list[dict[str, object]]:
    """What the peers allow, and others that are never met."""
    needed: list[dict[str, object]] = [
        {"direction": "from_vm", "remote": "10.83.0.0/16"},
        {"direction": "to_vm", "protocol": "udp", "ports": dashed(UDP_PORTS)},
        {"direction": "to_vm", "protocol": "tcp", "ports": dashed(TCP_PORTS)},
        {"direction": "to_vm", "protocol": "icmp", "icmp_type": 8, "ethertype": "ipv4"},
    ]
    others = (
        {"direction": "to_vm", "protocol": "tcp", "ports": 8000 + n, "remote": f"192.0.2.{n}"}
        for n in range(FEW - len(needed))
    )
    return [*needed, *others]


def in_group(group: str) -> tuple[Nic, Nic]:
    """Both ends in one security group."""
    nic = {"security_groups": [group]}
    return nic, nic


OPEN: tuple[Nic, Nic] = ({"port_security": False}, {"port_security": False})


def load(resources: Iterable[AnyResource]) -> None:
    """Add to intent, and wait until the agent has carried it out."""
    with closing(SqliteStore(store_file())) as store:
        product.load(store, resources)
