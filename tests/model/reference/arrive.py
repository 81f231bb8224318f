"""arrive: what a machine behind a foreign VTEP sends, of which nobody has taken care.

Routers serve it as they serve ports; only, it has no guard and no rules of its own.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

from reference import wire
from reference.answer_arp import REQUEST, answer_arp
from reference.answer_nd import answer_nd, holder_of
from reference.ends import Consumed, Dropped
from reference.guard import (
    ARP_BYTES,
    NEIGHBOR_ADVERTISEMENT,
    NEIGHBOR_SOLICITATION,
    ROUTER_SOLICITATION,
    spoken_for,
)
from reference.packet import Fragment, Packet
from reference.places import Places
from reference.route import leads_back, route
from reference.switch import switch
from reference.topology import Gateway, Service, Topology
from reference.way import Flood, Way


def arrive(places: Places, packet: Packet) -> Way:
    topology = places.topology
    _guard(topology, packet)
    _learn(places, packet)
    if _asks_router(places, packet):
        _answer(places, packet)
    _require_place_here(places, packet)
    found = switch(places, packet)
    if isinstance(found, Flood) and found.drop is not None:
        found.drop.tell = None  # nobody is there who could pay for the error
    if not isinstance(found, Gateway):
        return found
    if packet.is_nd:
        raise Consumed  # an answer to what the router has asked
    if not leads_back(topology, packet, found):
        raise Dropped("SOURCE_IP")
    return route(places, packet, found)


def _guard(topology: Topology, packet: Packet) -> None:
    """It may speak for all that intent has given nobody else."""

    def is_anothers(address: wire.IpAddress) -> bool:
        holder = topology.with_address(packet.network, address)
        return holder is not None and holder not in topology.behind.values()

    message = packet.frame[wire.ETHERNET :]
    if packet.is_arp:
        if len(message) >= ARP_BYTES and is_anothers(IPv4Address(message[14:18])):
            raise Dropped("ARP_SPOOF")
        return
    if packet.version and is_anothers(packet.source):
        raise Dropped("SOURCE_IP")
    is_claim = packet.is_nd and packet.icmp_type == NEIGHBOR_ADVERTISEMENT
    if is_claim and len(packet.payload) >= 24 and is_anothers(IPv6Address(packet.payload[8:24])):
        raise Dropped("ND_SPOOF")


def _require_place_here(places: Places, packet: Packet) -> None:
    """No foreign host reaches another one by us, nor addresses without a router."""
    topology, mac = places.topology, packet.destination_mac
    endpoint = places.with_mac(packet.network, mac)
    is_unknown = endpoint is None and not topology.has_open_ports(packet.network)
    if not wire.is_group(mac) and (
        is_unknown or isinstance(endpoint, Service) or endpoint in topology.behind.values()
    ):
        raise Dropped("UNKNOWN_MAC")


def _answer(places: Places, packet: Packet) -> None:
    """Always raises."""
    if packet.is_arp:
        answer_arp(places, packet, is_news=False)
    else:
        answer_nd(places, packet)


# ---- learning ------------------------------------------------------------------------


def _learn(places: Places, packet: Packet) -> None:
    """Its MAC is learned where the network has members to be learned; what it announces
    in every network."""
    topology, port, mac = places.topology, packet.port, packet.source_mac
    known = topology.with_mac(packet.network, mac)
    if wire.is_group(mac) or (known is not None and known not in topology.behind.values()):
        return
    announced = _announced(packet, learns=topology.learns(packet.network))
    if topology.learns(packet.network) or announced is not None:
        places.learn_foreign_mac(port, mac)
    if announced is not None:
        places.learn(port, mac, announced)


def _announced(packet: Packet, *, learns: bool) -> wire.IpAddress | None:
    if learns or packet.is_arp:
        address = spoken_for(packet)
    elif packet.is_nd and packet.icmp_type == NEIGHBOR_ADVERTISEMENT and packet.ttl == 255:
        address = IPv6Address(packet.payload[8:24]) if len(packet.payload) >= 24 else None
    else:
        address = None
    if address is None or (
        address.version == 6 and (address.is_link_local or address.is_multicast)
    ):
        return None
    return address


# ---- questions about routers -----------------------------------------------------------


def _asks_router(places: Places, packet: Packet) -> bool:
    if packet.is_arp:
        return _asks_by_arp(places, packet)
    plain = packet.fragment is Fragment.NONE and packet.ttl == 255 and packet.icmp_code == 0
    if not packet.is_nd or not plain:
        return False
    topology = places.topology
    if packet.icmp_type == ROUTER_SOLICITATION:
        subnets = [s for s in topology.subnets_of(packet.network) if ":" in s.cidr]
        return any(topology.gateway_of(subnet) for subnet in subnets)
    if packet.icmp_type != NEIGHBOR_SOLICITATION or len(packet.payload) < 24:
        return False
    holder = holder_of(places, packet.network, IPv6Address(packet.payload[8:24]))
    return holder is not None and isinstance(holder.endpoint, Gateway)


def _asks_by_arp(places: Places, packet: Packet) -> bool:
    message = packet.frame[wire.ETHERNET : wire.ETHERNET + ARP_BYTES]
    if len(message) < ARP_BYTES:
        return False
    protocol, *lengths, operation = struct.unpack_from("!HBBH", message, 2)
    if (protocol, *lengths, operation) != (wire.IPV4, 6, 4, REQUEST):
        return False
    holder = places.topology.with_address(packet.network, IPv4Address(message[24:28]))
    return isinstance(holder, Gateway)
