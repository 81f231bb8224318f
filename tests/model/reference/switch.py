"""switch: by destination MAC, within one network."""

from __future__ import annotations

from heddle.intent.model import Port
from reference import wire
from reference.ends import Consumed, Dropped, IcmpError
from reference.packet import Packet
from reference.places import Places
from reference.topology import Gateway, Service
from reference.way import Flood, Serve, ToPort, Way

_LINK_RESERVED = bytes.fromhex("0180c20000")  # 01:80:c2:00:00:00 to 0f, IEEE 802.1Q 8.6.3


def switch(places: Places, packet: Packet) -> Way | Gateway:
    """A router's side of the network, when the packet must be routed."""
    mac = packet.destination_mac
    if wire.is_group(mac):
        if mac[:5] == _LINK_RESERVED and mac[5] <= 0x0F:
            raise Dropped("LINK_RESERVED")
        return Flood(network=packet.network, only_open=packet.is_question)
    endpoint = places.with_mac(packet.network, mac)
    if endpoint is None:
        if not places.topology.asks_unknown(packet.network):
            raise Dropped("UNKNOWN_MAC")
        return _unless_too_big(packet, Flood(network=packet.network, only_open=True))
    if isinstance(endpoint, Port):
        return _to_port(packet, endpoint)
    if packet.is_arp:
        raise Consumed  # a reply to ARP that heddle never sent
    if isinstance(endpoint, Gateway):
        return endpoint
    holder = places.with_address(packet.network, packet.destination)
    if holder is None or not isinstance(holder.endpoint, Service):
        raise Dropped("NO_ROUTE")
    return Serve(network=packet.network)


def _to_port(packet: Packet, port: Port) -> Way:
    if port is packet.port:
        raise Dropped("TO_ITSELF")
    return _unless_too_big(packet, ToPort(network=packet.network, port=port))


def _unless_too_big(packet: Packet, way: Way) -> Way:
    if packet.largest_segment > packet.network.mtu:
        way.drop = Dropped("TOO_BIG", too_big(packet, packet.network.mtu))
    return way


def too_big(packet: Packet, mtu: int) -> IcmpError:
    """RFC 1191 4; RFC 4443 3.2."""
    return IcmpError(3, 4, mtu) if packet.version == 4 else IcmpError(2, 0, mtu)
