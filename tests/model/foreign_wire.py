"""The wire to a foreign VTEP: envelopes in bytes (RFC 7348)."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address
from typing import NamedTuple

from packet_lab import OWN_MAC, PEER_MAC, Device
from reference import wire

from heddle.intent.model import VXLAN_PORT

FOREIGN_HOST = "sw1"
VTEP, FOREIGN_VTEP = "10.99.0.1", "10.99.0.5"
_HEADERS = wire.ETHERNET + 20 + 8 + 8
_HAS_VNI = 0x08000000


class Underlay(NamedTuple):
    """Devices: the wire, whose file is the foreign host, and the one of VXLAN."""

    wire: Device
    vxlan: Device


def envelope(vni: int, frame: bytes) -> bytes:
    """From the foreign host to this one."""
    vxlan = struct.pack("!II", _HAS_VNI, vni << 8) + frame
    udp = struct.pack("!HHHH", 50000, VXLAN_PORT, 8 + len(vxlan), 0) + vxlan
    packet = wire.ipv4(IPv4Address(FOREIGN_VTEP), IPv4Address(VTEP), wire.UDP, udp)
    return wire.ethernet(wire.mac(OWN_MAC), wire.mac(PEER_MAC), wire.IPV4, packet)


def open_envelope(raw: bytes) -> tuple[str, bytes] | None:
    """To whom in which network, and the frame; None: it is none."""
    if raw[12:14] != wire.IPV4.to_bytes(2, "big") or raw[23] != wire.UDP:
        return None
    (port,) = struct.unpack_from("!H", raw, wire.ETHERNET + 22)
    if port != VXLAN_PORT or raw[30:34] != IPv4Address(FOREIGN_VTEP).packed:
        return None
    flags, vni = struct.unpack_from("!II", raw, _HEADERS - 8)
    assert flags == _HAS_VNI, "a foreign host is told nothing but the network"
    return f"{FOREIGN_HOST} {vni >> 8}", raw[_HEADERS:]
