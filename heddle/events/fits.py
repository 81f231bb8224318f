"""Whether what networks need passes between the hosts that have them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations, product
from typing import Any, NamedTuple

Item = Mapping[str, Any]
Proven = Mapping[frozenset[str], int]  # largest packet of a guest, by pair of hosts


class Misfit(NamedTuple):
    """Packets of a network that don't pass between two hosts."""

    network: str
    needed: int
    passes: int
    hosts: tuple[str, str]

    def __str__(self) -> str:
        return (
            f"network {self.network}: packets of {self.needed} bytes do not pass between hosts "
            f"{self.hosts[0]} and {self.hosts[1]}, whose path carries {self.passes}"
        )


class Spread(NamedTuple):
    """Where networks are."""

    networks: dict[str, tuple[str, int]]  # id -> name, MTU
    hosts: dict[str, set[str]]  # network id -> hosts with a port in it
    routers: list[list[str]]  # ids of the networks that each joins


def spread_of(objects: Iterable[Item]) -> Spread:
    """From stored objects as plain dicts; those of other kinds are left out."""
    spread = Spread({}, {}, [])
    for item in objects:
        match item["kind"]:
            case "network":
                spread.networks[item["id"]] = (item["name"], item["mtu"])
            case "port":
                spread.hosts.setdefault(item["network_id"], set()).add(item["host"])
            case "router":
                spread.routers.append([one["network_id"] for one in item["interfaces"]])
    return spread


def proven_paths(statuses: Mapping[tuple[str, str], Item]) -> dict[frozenset[str], int]:
    """From the facts that hosts have published; the smaller of what both say."""
    proven: dict[frozenset[str], int] = {}
    for (kind, host), fact in statuses.items():
        for path in fact["paths"] if kind == "path" else ():
            if path["mtu"] is not None and path["state"] in ("direct", "relayed"):
                pair = frozenset((host, path["host"]))
                proven[pair] = min(path["mtu"], proven.get(pair, path["mtu"]))
    return proven


def misfits(spread: Spread, proven: Proven) -> Iterator[Misfit]:
    """Networks that need more than what is proven to pass between two of their
    hosts, or between theirs and those of a network that a router joins to it."""
    for network, (name, mtu) in spread.networks.items():
        own = combinations(sorted(spread.hosts.get(network, ())), 2)
        yield from _between(name, mtu, own, proven)
    for joined in spread.routers:
        for one, other in combinations([n for n in joined if n in spread.networks], 2):
            both = (spread.networks[one], spread.networks[other])
            name, mtu = min(both, key=lambda network: network[1])
            pairs = product(spread.hosts.get(one, ()), spread.hosts.get(other, ()))
            yield from _between(name, mtu, (_sorted_pair(*pair) for pair in pairs), proven)


def _sorted_pair(one: str, other: str) -> tuple[str, str]:
    return (one, other) if one <= other else (other, one)


def _between(
    name: str, mtu: int, pairs: Iterable[tuple[str, str]], proven: Proven
) -> Iterator[Misfit]:
    for one, other in pairs:
        passes = proven.get(frozenset((one, other)))
        if one != other and passes is not None and passes < mtu:
            yield Misfit(name, mtu, passes, (one, other))
