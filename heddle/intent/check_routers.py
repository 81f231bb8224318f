"""Checks routers, their interfaces and their static routes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

from heddle.intent.addresses import (
    Address,
    Prefix,
    unrouted_meaning,
    unusable_meaning,
    usable_range,
)
from heddle.intent.check_context import Context
from heddle.intent.problems import KeyPath
from heddle.intent.schema import JoinSpec, NetworkSpec, RouterSpec, RouteSpec, SubnetSpec


@dataclass(frozen=True, slots=True)
class _Reach:
    """Where a router's next hops can be. Not ``complete`` when a joined network
    is broken: a next hop that is nowhere may well be in that one."""

    connected: frozenset[Prefix]
    own: frozenset[Address]
    complete: bool


_Joined = list[tuple[KeyPath, JoinSpec, NetworkSpec]]


def check_routers(context: Context) -> None:
    for name, router in context.spec.routers.items():
        path = ("routers", name)
        joined = _joined_networks(context, router, path)
        _check_overlap(context, joined)
        own = [
            address
            for interface_path, join, network in joined
            for address in _check_interface(context, name, join, network, interface_path)
        ]
        connected = {subnet.cidr for _, _, network in joined for subnet in network.cidr}
        complete = len(joined) == len(router.networks)
        reach = _Reach(frozenset(connected), frozenset(own), complete)
        _check_routes(context, router, reach, (*path, "routes"))
    _warn_of_silence(context)


def _warn_of_silence(context: Context) -> None:
    """Router advertisements, which SLAAC needs, come from routers alone."""
    if context.names["routers"] != list(context.spec.routers):
        return
    joined = {join.network for router in context.spec.routers.values() for join in router.networks}
    for name, network in context.spec.networks.items():
        for index, subnet in enumerate(network.cidr):
            if subnet.slaac_prefix is not None and name not in joined:
                what = f"{subnet.cidr}: no router tells guests of this prefix ({subnet.mode})"
                remedy = "join the network to a router, or use dhcpv6-stateful"
                context.warn(("networks", name, "cidr", index), f"{what}; {remedy}")


def _joined_networks(context: Context, router: RouterSpec, path: KeyPath) -> _Joined:
    joined: _Joined = []
    seen: set[str] = set()
    for index, join in enumerate(router.networks):
        item_path = (*path, "networks", index)
        if join.network in seen:
            what = f'network "{join.network}" is joined twice; remove one'
            context.problems.add(item_path, what)
            continue
        seen.add(join.network)
        network = context.network(join.network, item_path)
        if network is not None:
            joined.append((item_path, join, network))
    return joined


def _check_overlap(context: Context, joined: _Joined) -> None:
    for (_, first_join, first), (path, second_join, second) in combinations(joined, 2):
        for one in first.cidr:
            for other in second.cidr:
                if one.cidr.overlaps(other.cidr):
                    what = (
                        f'{other.cidr} of network "{second_join.network}" overlaps {one.cidr} of '
                        f'"{first_join.network}", which the router joins too; choose another prefix'
                    )
                    context.problems.add(path, what)


def _check_interface(
    context: Context, router: str, join: JoinSpec, network: NetworkSpec, path: KeyPath
) -> list[Address]:
    """Report bad addresses; return the router's own in this network."""
    problems = [
        problem
        for address in join.address
        if (problem := _named_address_problem(join, network, address)) is not None
    ]
    for problem in problems:
        context.problems.add((*path, "address"), problem)
    own = [join.address_in(subnet) for subnet in network.cidr]
    for subnet, address in zip(network.cidr, own, strict=True):
        other = context.claim(join.network, address, f'router "{router}"')
        if other is not None and not problems:
            what = (
                f'{address} of network "{join.network}" belongs to {other}; give this one an '
                f"address of its own: {{network: {join.network}, address: "
                f"{_spare_address(subnet)}}}"
            )
            context.problems.add(path, what)
    return own


def _named_address_problem(join: JoinSpec, network: NetworkSpec, address: Address) -> str | None:
    subnet = network.subnet_of(address)
    if subnet is None:
        prefixes = ", ".join(str(item.cidr) for item in network.cidr)
        return f'{address} is outside network "{join.network}" ({prefixes}); choose one inside'
    if meaning := unusable_meaning(subnet.cidr, address):
        choice = usable_range(subnet.cidr)
        return f"{address} is {meaning} of {subnet.cidr}; choose one from {choice}"
    if address != join.address_in(subnet):
        return f"{address} is a second address in {subnet.cidr}; give one per subnet"
    return None


def _spare_address(subnet: SubnetSpec) -> Address:
    """An example of another address: the last usable one."""
    return subnet.cidr[-2]


def _check_routes(context: Context, router: RouterSpec, reach: _Reach, path: KeyPath) -> None:
    seen: set[Prefix] = set()
    for index, route in enumerate(router.routes):
        what = "given twice; keep one" if route.to in seen else _route_problem(route, reach)
        if what is not None:
            context.problems.add((*path, index), f"route to {route.to}: {what}")
        seen.add(route.to)


def _route_problem(route: RouteSpec, reach: _Reach) -> str | None:
    if route.to in reach.connected:
        return "the router joins this subnet itself; remove the route"
    if route.via is not None:
        return _hop_problem(route, route.via, reach)
    if "blackhole" in route.model_fields_set and not route.blackhole:
        return "has no next hop, and is no blackhole; give it via, or blackhole: true"
    return None


def _hop_problem(route: RouteSpec, via: Address, reach: _Reach) -> str | None:
    if route.blackhole:
        return "has both via and blackhole; keep one"
    if meaning := unrouted_meaning(route.to):
        return f"holds addresses for {meaning}; remove the route"
    if via.version != route.to.version:
        return f"{via} is of another address family; use an IPv{route.to.version} next hop"
    return _next_hop_problem(via, reach)


def _next_hop_problem(via: Address, reach: _Reach) -> str | None:
    if via in reach.own:
        return f"{via} is the router's own address; use a next hop behind it"
    subnet = next((prefix for prefix in reach.connected if via in prefix), None)
    if subnet is None:
        if not reach.complete:
            return None
        prefixes = ", ".join(sorted(str(p) for p in reach.connected if p.version == via.version))
        where = f"none of the router's networks ({prefixes or 'no subnet of this family'})"
        return f"{via} is in {where}; use a next hop in one, or join its network"
    if meaning := unusable_meaning(subnet, via):
        return f"{via} is {meaning} of {subnet}; use one from {usable_range(subnet)}"
    return None
