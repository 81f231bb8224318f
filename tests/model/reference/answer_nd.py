"""answer: neighbor and router solicitations (RFC 4861)."""

from __future__ import annotations

import struct
from ipaddress import IPv6Address, IPv6Network, ip_address

from heddle.intent.model import Ipv6Mode, Network, Subnet
from reference import wire
from reference.ends import Answered, Consumed, Dropped
from reference.guard import NEIGHBOR_ADVERTISEMENT, NEIGHBOR_SOLICITATION, ROUTER_SOLICITATION
from reference.packet import Packet
from reference.places import Neighbor, Places
from reference.topology import Gateway, Topology

ROUTER, SOLICITED, OVERRIDE = 0x80, 0x40, 0x20  # flags of an advertisement
MANAGED, OTHER = 0x80, 0x40
ROUTER_LIFETIME = 9000  # seconds, the most that RFC 4861 6.2.1 allows
VALID, PREFERRED = 2592000, 604800  # defaults of RFC 4861 6.2.1
ON_LINK, AUTONOMOUS = 0x80, 0x40


def answer_nd(places: Places, packet: Packet) -> None:
    if packet.icmp_type == NEIGHBOR_SOLICITATION:
        _answer_neighbor(places, packet)
    elif packet.icmp_type == ROUTER_SOLICITATION:
        _answer_router(places.topology, packet)


def asker(packet: Packet) -> tuple[bytes, IPv6Address]:
    """Where an answer goes: to all nodes, when the asker has no address yet."""
    if packet.source.is_unspecified:
        return wire.ALL_NODES_MAC, wire.ALL_NODES
    assert isinstance(packet.source, IPv6Address)
    return packet.source_mac, packet.source


def _advertise(packet: Packet, mac: bytes, source: IPv6Address, message: bytes) -> Answered:
    to_mac, to = asker(packet)
    message = wire.icmpv6(source, to, message)
    ip = wire.ipv6(source, to, wire.ICMPV6, message, hop_limit=255)
    return Answered(wire.ethernet(to_mac, mac, wire.IPV6, ip))


def holder_of(places: Places, network: Network, address: IPv6Address) -> Neighbor | None:
    """By intent, or by the MAC from which a link-local address was made."""
    holder = places.with_address(network, address)
    mac = wire.mac_of_link_local(address)
    if holder is not None or mac is None:
        return holder
    endpoint = places.with_mac(network, mac)
    return Neighbor(endpoint, mac) if endpoint is not None else None


def _answer_neighbor(places: Places, packet: Packet) -> None:
    """RFC 4861 7.2.4. For one's own address (DAD) silence is the answer."""
    if len(packet.payload) < 24:
        raise Dropped("MALFORMED")
    target = IPv6Address(packet.payload[8:24])
    holder = holder_of(places, packet.network, target)
    if holder is None:
        if not places.topology.asks_unknown(packet.network):
            raise Dropped("ND_UNKNOWN")
        packet.is_question = True
        return
    if holder.endpoint is packet.port:
        raise Consumed
    flags = OVERRIDE
    flags |= ROUTER if isinstance(holder.endpoint, Gateway) else 0
    flags |= 0 if packet.source.is_unspecified else SOLICITED
    message = struct.pack("!BBHB3x16s", NEIGHBOR_ADVERTISEMENT, 0, 0, flags, target.packed)
    raise _advertise(packet, holder.mac, target, message + bytes([2, 1]) + holder.mac)


# ---- router advertisement --------------------------------------------------------


def _answer_router(topology: Topology, packet: Packet) -> None:
    """RFC 4861 6.2.6. Without a router nobody answers."""
    subnets = [s for s in topology.subnets_of(packet.network) if ":" in s.cidr]
    for subnet in subnets:
        gateway = topology.gateway_of(subnet)
        if gateway is not None:
            message = _router_advertisement(packet.network, subnets, gateway)
            raise _advertise(packet, gateway.mac, wire.link_local(gateway.mac), message)
    raise Consumed


def _router_advertisement(network: Network, subnets: list[Subnet], gateway: Gateway) -> bytes:
    modes = {subnet.ipv6_mode for subnet in subnets if subnet.enable_dhcp}
    flags = MANAGED if Ipv6Mode.STATEFUL in modes else 0
    flags |= OTHER if Ipv6Mode.STATELESS in modes else 0
    message = struct.pack("!BBHBBHII", 134, 0, 0, 64, flags, ROUTER_LIFETIME, 0, 0)
    message += _option(1, gateway.mac)
    message += _option(5, struct.pack("!HI", 0, network.mtu))
    for subnet in subnets:
        message += _prefix_information(subnet)
    message += _routes(subnets, gateway)
    servers = list(dict.fromkeys(d for s in subnets for d in s.dns if ":" in d))
    if servers:
        packed = b"".join(ip_address(server).packed for server in servers)
        message += _option(25, struct.pack("!HI", 0, ROUTER_LIFETIME) + packed)
    if network.domain:
        message += _option(31, struct.pack("!HI", 0, ROUTER_LIFETIME) + domain_name(network.domain))
    return message


def _option(kind: int, data: bytes) -> bytes:
    units = (len(data) + 2 + 7) // 8
    return (bytes([kind, units]) + data).ljust(units * 8, b"\0")


def _prefix_information(subnet: Subnet) -> bytes:
    prefix = IPv6Network(subnet.cidr)
    flags = ON_LINK
    flags |= AUTONOMOUS if subnet.ipv6_mode in (Ipv6Mode.SLAAC, Ipv6Mode.STATELESS) else 0
    numbers = struct.pack("!BBIII", prefix.prefixlen, flags, VALID, PREFERRED, 0)
    return _option(3, numbers + prefix.network_address.packed)


def _routes(subnets: list[Subnet], gateway: Gateway) -> bytes:
    """RFC 4191: host routes through this very router."""
    destinations = dict.fromkeys(
        IPv6Network(route.destination)
        for subnet in subnets
        for route in subnet.host_routes
        if ":" in route.destination and route.nexthop in gateway.interface.addresses
    )
    options = b""
    for prefix in destinations:
        used = (prefix.prefixlen + 63) // 64 * 8
        numbers = struct.pack("!BBI", prefix.prefixlen, 0, ROUTER_LIFETIME)
        options += _option(24, numbers + prefix.network_address.packed[:used])
    return options


def domain_name(domain: str) -> bytes:
    """RFC 1035 3.1."""
    labels = domain.rstrip(".").split(".")
    return b"".join(bytes([len(label)]) + label.encode() for label in labels) + b"\0"
