"""What is sent to an address of heddle's own: ping is answered (RFC 792, RFC 4443
4.2), nothing else is there."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address

from reference import wire
from reference.ends import Answered, Dropped, IcmpError
from reference.packet import Fragment, Packet

TTL = 64


def serve(packet: Packet) -> None:
    if _is_echo_request(packet):
        raise Answered(_echo_reply(packet))
    if packet.protocol == wire.UDP:
        tell = IcmpError(3, 3) if packet.version == 4 else IcmpError(1, 4)
        raise Dropped("ROUTER_SERVICE", tell)
    raise Dropped("ROUTER_SERVICE")


def _is_echo_request(packet: Packet) -> bool:
    request = 8 if packet.version == 4 else 128
    whole = packet.fragment is Fragment.NONE
    return whole and packet.is_icmp and (packet.icmp_type, packet.icmp_code) == (request, 0)


def _echo_reply(packet: Packet) -> bytes:
    """The request turned round: addresses exchanged, a fresh TTL, another type.
    All else stays as it is; a checksum that was wrong stays wrong."""
    assert packet.l4 is not None
    frame = bytearray(packet.frame)
    frame[0:6], frame[6:12] = packet.source_mac, packet.destination_mac
    ip = memoryview(frame)[wire.ETHERNET :]
    source, destination = packet.source.packed, packet.destination.packed
    if isinstance(packet.source, IPv4Address):
        ip[12:16], ip[16:20] = destination, source
        change = (packet.ttl << 8, TTL << 8)
        ip[8] = TTL
        _update(ip, 10, change)
    else:
        ip[8:24], ip[24:40] = destination, source
        ip[7] = TTL
    message = memoryview(frame)[packet.l4 :]
    reply = 0 if packet.version == 4 else 129
    _update(message, 2, (packet.icmp_type << 8, reply << 8))
    message[0] = reply
    return bytes(frame)


def _update(header: memoryview, offset: int, change: tuple[int, int]) -> None:
    (old,) = struct.unpack_from("!H", header, offset)
    struct.pack_into("!H", header, offset, wire.updated_checksum(old, [change]))
