"""guard: a VM speaks for itself alone.

Its MAC and addresses, its address pairs, what is routed to it, and no service
that is the network's to give (DHCP, router advertisement). Nothing of that holds
for a port without port security.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

from heddle.intent.model import Port
from reference import wire
from reference.ends import Dropped
from reference.packet import Fragment, Packet
from reference.topology import Topology

DHCP4_SERVER, DHCP4_CLIENT = 67, 68
DHCP6_CLIENT, DHCP6_SERVER = 546, 547
ROUTER_SOLICITATION, ROUTER_ADVERTISEMENT = 133, 134
NEIGHBOR_SOLICITATION, NEIGHBOR_ADVERTISEMENT, REDIRECT = 135, 136, 137
SOURCE_LINK_LAYER, TARGET_LINK_LAYER = 1, 2
ARP_BYTES = 28  # over Ethernet and IPv4
ND_OPTIONS_MAX = 8
MLD = (131, 132, 143)  # report, done (RFC 2710); report (RFC 3810)


def guard(topology: Topology, packet: Packet) -> None:
    """Another MAC than the port's is good only together with an address of a pair
    that names it: whatever else comes from one, the MAC is what is wrong."""
    if not packet.port.port_security:
        packet.announces = spoken_for(packet)
        return
    if packet.is_arp and len(packet.frame) < wire.ETHERNET + ARP_BYTES:
        raise Dropped("MALFORMED")
    try:
        if packet.is_arp:
            _guard_arp(topology, packet)
        else:
            _guard_source(topology, packet)
    except Dropped:
        if not _has_own_mac(packet):
            raise Dropped("SOURCE_MAC") from None
        raise
    if packet.has_ports(wire.UDP, DHCP4_SERVER, DHCP4_CLIENT) and packet.version == 4:
        raise Dropped("DHCP_SERVER")
    if packet.has_ports(wire.UDP, DHCP6_SERVER, DHCP6_CLIENT) and packet.version == 6:
        raise Dropped("DHCP_SERVER")
    if packet.is_nd:
        _guard_nd(topology, packet)


def _has_own_mac(packet: Packet) -> bool:
    return packet.source_mac == wire.mac(packet.port.mac)


def may_speak_for(topology: Topology, port: Port, mac: bytes, address: wire.IpAddress) -> bool:
    """For its own addresses and its link-local one (RFC 4291) under its own MAC,
    and for what it may share."""
    if mac == wire.mac(port.mac) and (
        address in topology.addresses_of(port) or address == wire.link_local(mac)
    ):
        return True
    return may_share(topology, port, mac, address)


def may_share(topology: Topology, port: Port, mac: bytes, address: wire.IpAddress) -> bool:
    """An address pair's prefix under the pair's MAC; what is routed to the port,
    under its own. Link-local addresses are never routed (RFC 4291 2.5.6)."""
    if _is_never_a_source(address):
        return False
    own_mac = wire.mac(port.mac)
    pairs = [p for p in port.address_pairs if (wire.mac(p.mac) if p.mac else own_mac) == mac]
    if any(_holds(pair.cidr, address) for pair in pairs):
        return True
    if mac != own_mac or (address.version == 6 and address.is_link_local):
        return False
    return any(_holds(prefix, address) for prefix in topology.routed_to(port))


def _holds(prefix: str, address: wire.IpAddress) -> bool:
    network = wire.prefix(prefix)
    return network.version == address.version and address in network


def _guard_source(topology: Topology, packet: Packet) -> None:
    if packet.is_unspecified:
        if not _may_be_unspecified(packet) or not _has_own_mac(packet):
            raise Dropped("SOURCE_IP")
    elif not may_speak_for(topology, packet.port, packet.source_mac, packet.source):
        raise Dropped("SOURCE_IP")


def _may_be_unspecified(packet: Packet) -> bool:
    """Who has no address yet: DHCP (RFC 2131 4.1), router and neighbor
    solicitation (RFC 4861 4.1, 4.3), multicast listener reports (RFC 3590)."""
    if packet.version == 4:
        return packet.has_ports(wire.UDP, DHCP4_CLIENT, DHCP4_SERVER)
    return (
        packet.is_icmp
        and packet.fragment is Fragment.NONE
        and packet.icmp_type in (ROUTER_SOLICITATION, NEIGHBOR_SOLICITATION, *MLD)
    )


def _guard_arp(topology: Topology, packet: Packet) -> None:
    """RFC 826 over Ethernet; a probe has no sender yet (RFC 5227 2.1.1)."""
    message = packet.frame[wire.ETHERNET : wire.ETHERNET + ARP_BYTES]
    *kinds, operation = struct.unpack_from("!HHBBH", message)
    if kinds != [1, wire.IPV4, 6, 4] or operation not in (1, 2):
        raise Dropped("MALFORMED")
    sender_mac, sender = message[8:14], IPv4Address(message[14:18])
    if sender_mac != packet.source_mac:
        raise Dropped("ARP_SPOOF")
    is_probe = sender.is_unspecified and operation == 1 and _has_own_mac(packet)
    if is_probe:
        return
    if not may_speak_for(topology, packet.port, sender_mac, sender):
        raise Dropped("ARP_SPOOF")
    packet.announces = sender


def _guard_nd(topology: Topology, packet: Packet) -> None:
    """RFC 4861 6.1, 7.1; fragments are refused as RFC 6980 asks."""
    if packet.icmp_type in (ROUTER_ADVERTISEMENT, REDIRECT):
        raise Dropped("ROUTER_ADVERTISEMENT")
    if packet.fragment is not Fragment.NONE or packet.ttl != 255 or packet.icmp_code != 0:
        raise Dropped("ND_SPOOF")
    message = packet.payload
    options = message[8:]
    if packet.icmp_type != ROUTER_SOLICITATION:
        if len(message) < 24:
            raise Dropped("MALFORMED")
        target = IPv6Address(message[8:24])
        if packet.icmp_type == NEIGHBOR_ADVERTISEMENT:
            if not may_speak_for(topology, packet.port, packet.source_mac, target):
                raise Dropped("ND_SPOOF")
            packet.announces = target
        options = message[24:]
    if not _options_honest(options, packet.source_mac):
        raise Dropped("ND_SPOOF")


def spoken_for(packet: Packet) -> wire.IpAddress | None:
    """Whose address an open port's ARP or ND gives away, if with the MAC it comes
    from. A link-local address that follows from a MAC needs no words."""
    address: wire.IpAddress | None = None
    if packet.is_arp and len(packet.frame) >= wire.ETHERNET + ARP_BYTES:
        message = packet.frame[wire.ETHERNET :]
        protocol, _, length = struct.unpack_from("!HBB", message, 2)
        if (protocol, length, message[8:14]) == (wire.IPV4, 4, packet.source_mac):
            address = IPv4Address(message[14:18])
    elif packet.is_nd and packet.fragment is Fragment.NONE and packet.ttl == 255:
        if len(packet.payload) < 24 or not _options_honest(packet.payload[24:], packet.source_mac):
            return None
        if packet.icmp_type == NEIGHBOR_ADVERTISEMENT:
            address = IPv6Address(packet.payload[8:24])
        elif packet.icmp_type == NEIGHBOR_SOLICITATION:
            address = packet.source
    if address is None or address.is_unspecified or _is_never_a_source(address):
        return None
    is_made = address.version == 6 and wire.mac_of_link_local(IPv6Address(address)) is not None
    return None if is_made else address


def _is_never_a_source(address: wire.IpAddress) -> bool:
    """RFC 1122 3.2.1.3, RFC 4291 2.5.3, 2.7."""
    return (
        address.is_multicast
        or address.is_loopback
        or (address.version == 4 and address.is_reserved)
    )


def _options_honest(options: bytes, mac: bytes) -> bool:
    """The MAC that a message gives away must be the sender's."""
    for _ in range(ND_OPTIONS_MAX + 1):
        if not options:
            return True
        if len(options) < 8 or options[1] == 0 or len(options) < options[1] * 8:
            return False
        if options[0] in (SOURCE_LINK_LAYER, TARGET_LINK_LAYER) and options[2:8] != mac:
            return False
        options = options[options[1] * 8 :]
    return False
