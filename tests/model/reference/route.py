"""route: longest prefix, next hop, TTL (RFC 1812 5.2, 5.3; RFC 8200).

A next hop may be another router, and so on; ROUTER_HOPS_MAX of them in a row.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from heddle.intent.model import Port, Router
from reference import wire
from reference.ends import Dropped, IcmpError
from reference.packet import Packet
from reference.places import Neighbor, Places
from reference.switch import too_big
from reference.topology import (
    Blackhole,
    Connected,
    Gateway,
    RouteTarget,
    Service,
    Topology,
    Via,
)
from reference.way import Nowhere, Serve, ToPort, Wanted, Way

ROUTER_HOPS_MAX = 16
NET_UNREACHABLE, HOST_UNREACHABLE = 0, 1  # RFC 792
NO_ROUTE, ADDRESS_UNREACHABLE = 0, 3  # RFC 4443 3.1
_THIS_NETWORK = IPv4Network("0.0.0.0/8")


def route(places: Places, packet: Packet, gateway: Gateway) -> Way:
    """``gateway``: the router's side to which the frame was sent."""
    if packet.destination == wire.link_local(packet.destination_mac):
        return Serve(network=packet.network, speaker=gateway)
    if not _is_routable(packet):
        raise Dropped("ROUTED_MULTICAST")
    way = Way(network=None, speaker=gateway)
    for _ in range(ROUTER_HOPS_MAX):
        found = _pass_router(places, packet, way)
        if found is not None:
            return found
    raise Dropped("ROUTE_LOOP")


def _is_routable(packet: Packet) -> bool:
    """Not to or from many, nobody, a link or the host itself (RFC 1812 5.3.7,
    RFC 3927 7, RFC 4291 2.5.6)."""
    source, destination = packet.source, packet.destination
    if packet.is_unspecified or source.is_link_local or destination.is_link_local:
        return False
    if isinstance(destination, IPv4Address):
        loopback = source.is_loopback or destination.is_loopback
        return not loopback and destination.packed[0] < 224 and destination not in _THIS_NETWORK
    return not destination.is_multicast and not destination.is_unspecified


def _pass_router(places: Places, packet: Packet, way: Way) -> Way | None:
    """None: on to the next router, which ``way.speaker`` then is."""
    assert way.speaker is not None
    router = way.speaker.router
    target = _longest(places.topology, router, packet.destination)
    if target is None:
        return _refuse(way, "NO_ROUTE", _unreachable(packet, NET_UNREACHABLE, NO_ROUTE))
    if isinstance(target, Blackhole):
        raise Dropped("BLACKHOLE")
    way.network = target.network
    nexthop = packet.destination if isinstance(target, Connected) else target.nexthop
    neighbor = places.with_address(target.network, nexthop)
    holder = neighbor.endpoint if neighbor else None
    if isinstance(target, Connected) and isinstance(holder, Gateway | Service):
        return Serve(network=packet.network, speaker=way.speaker)
    if packet.ttl <= way.hops + 1:
        exceeded = IcmpError(11, 0) if packet.version == 4 else IcmpError(3, 0)
        return _refuse(way, "TTL_EXCEEDED", exceeded)
    if neighbor is None or isinstance(holder, Service):
        unreachable = _unreachable(packet, HOST_UNREACHABLE, ADDRESS_UNREACHABLE)
        refused = _refuse(way, "NO_NEIGHBOR", unreachable)
        if neighbor is None and places.topology.learns(target.network):
            side = places.topology.interface(router, target.network)
            assert side is not None, "a router has an interface where its routes lead"
            refused.wanted = Wanted(side, nexthop)
        return refused
    way.hops += 1
    if isinstance(holder, Port):
        return _to_port(places.topology, packet, way, holder, neighbor)
    assert isinstance(holder, Gateway)
    way.speaker = holder
    return None


def leads_back(topology: Topology, packet: Packet, gateway: Gateway) -> bool:
    """Would the router send to the source of a packet where it came from, and to nobody
    whom intent has elsewhere?"""
    source = packet.source
    if source.version == 6 and source.is_link_local:
        return True
    back = _longest(topology, gateway.router, source)
    if not isinstance(back, Connected | Via) or back.network is not packet.network:
        return False
    holder = topology.with_address(packet.network, back.nexthop) if isinstance(back, Via) else None
    return holder is None or holder in topology.behind.values()


def _longest(topology: Topology, router: Router, address: wire.IpAddress) -> RouteTarget | None:
    best, best_length = None, -1
    for cidr, target in topology.routes(router):
        prefix = wire.prefix(cidr)
        if (
            prefix.version == address.version
            and address in prefix
            and prefix.prefixlen > best_length
        ):
            best, best_length = target, prefix.prefixlen
    return best


def _unreachable(packet: Packet, code4: int, code6: int) -> IcmpError:
    return IcmpError(3, code4) if packet.version == 4 else IcmpError(1, code6)


def _refuse(way: Way, reason: str, tell: IcmpError) -> Nowhere:
    drop = Dropped(reason, tell)
    return Nowhere(network=way.network, speaker=way.speaker, hops=way.hops, drop=drop)


def _to_port(topology: Topology, packet: Packet, way: Way, port: Port, neighbor: Neighbor) -> Way:
    assert way.speaker is not None
    network = topology.network_of(port)
    side = topology.interface(way.speaker.router, network)
    assert side is not None, "a router has an interface where its routes lead"
    found = ToPort(network=network, port=port, speaker=way.speaker, hops=way.hops)
    found.macs = neighbor.mac + side.mac
    if packet.largest_segment > network.mtu:
        found.drop = Dropped("TOO_BIG", too_big(packet, network.mtu))
    return found
