"""answer: ARP (RFC 826), from intent, never by asking."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address

from reference import wire
from reference.ends import Answered, Consumed, Dropped
from reference.guard import ARP_BYTES
from reference.packet import Packet
from reference.places import Places

REQUEST, REPLY = 1, 2


def answer_arp(places: Places, packet: Packet, *, is_news: bool) -> None:
    """A reply to one VM goes on to it. Announcements to all need no answer, as
    everybody can ask; but where an address has moved to (``is_news``) all hear: in
    a reply, or in a request for one's own address (RFC 5227 3)."""
    message = packet.frame[wire.ETHERNET : wire.ETHERNET + ARP_BYTES]
    if len(message) < ARP_BYTES:
        raise Dropped("MALFORMED")
    (operation,) = struct.unpack_from("!H", message, 6)
    if operation != REQUEST:
        if wire.is_group(packet.destination_mac) and not is_news:
            raise Consumed
        return
    if is_news and message[14:18] == message[24:28]:
        return
    holder = places.with_address(packet.network, IPv4Address(message[24:28]))
    if holder is None:
        if not places.topology.asks_unknown(packet.network):
            raise Dropped("ARP_UNKNOWN")
        packet.is_question = True
        return
    if holder.endpoint is packet.port:
        raise Consumed
    raise Answered(_reply(packet, message, holder.mac))


def _reply(packet: Packet, request: bytes, mac: bytes) -> bytes:
    sender_mac, sender_ip, target_ip = request[8:14], request[14:18], request[24:28]
    reply = request[:6] + struct.pack("!H", REPLY) + mac + target_ip + sender_mac + sender_ip
    padding = packet.frame[wire.ETHERNET + ARP_BYTES :]
    return wire.ethernet(sender_mac, mac, wire.ARP, reply) + padding
