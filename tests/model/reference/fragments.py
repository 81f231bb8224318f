"""fragments: only the first fragment has ports; later ones take those.

One that overtakes its first is an orphan, about which policy decides. ICMP other
than echo, and DHCP, is remembered only where it goes to many.
"""

from __future__ import annotations

from dataclasses import dataclass

from reference import wire
from reference.packet import Fragment, Packet

LIFETIME = 30.0  # seconds, as Linux' reassembly (net.ipv4.ipfrag_time)

# Port, protocol, addresses and identification (RFC 791 3.2; in IPv6 the first
# fragment alone tells the protocol, RFC 8200 4.5).
_Key = tuple[str, int, wire.IpAddress, wire.IpAddress, int]


@dataclass(frozen=True)
class _First:
    seen_at: float
    packet: Packet


class Fragments:
    def __init__(self) -> None:
        self._firsts: dict[_Key, _First] = {}

    def note(self, packet: Packet, now: float) -> None:
        """Remember a first fragment; give a later one what its first has."""
        key = _key(packet)
        is_plain = not packet.is_dhcp and (not packet.is_icmp or is_echo(packet))
        is_plain |= wire.is_group(packet.destination_mac)
        if packet.fragment is Fragment.FIRST and is_plain:
            self._firsts[key] = _First(now, packet)
        if packet.fragment is not Fragment.LATER:
            return
        first = self._firsts.get(key)
        packet.is_orphan = first is None or now - first.seen_at > LIFETIME
        if first is not None and not packet.is_orphan:
            packet.protocol = first.packet.protocol
            packet.source_port = first.packet.source_port
            packet.destination_port = first.packet.destination_port
            packet.icmp_type, packet.icmp_code = first.packet.icmp_type, first.packet.icmp_code
            packet.icmp_id = first.packet.icmp_id


def _key(packet: Packet) -> _Key:
    addresses = (packet.source, packet.destination)
    protocol = packet.protocol if packet.version == 4 else 0
    return (packet.port.id, protocol, *addresses, packet.identification)


def is_echo(packet: Packet) -> bool:
    kinds = (0, 8) if packet.version == 4 else (128, 129)
    return packet.is_icmp and packet.icmp_type in kinds and packet.icmp_code == 0
