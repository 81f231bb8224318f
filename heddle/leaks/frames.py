"""Judges captured frames: which of them no guest should get, and which must not
be on the wire. Pure: bytes in, leaks out."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from heddle.leaks.catalogue import Leak
from heddle.leaks.guests import GuestPort, Guests
from heddle.leaks.physical import Physical

_IPV4, _ARP, _IPV6 = 0x0800, 0x0806, 0x86DD
_VLAN_TAGS = (b"\x81\x00", b"\x88\xa8")  # IEEE 802.1Q and 802.1ad
_LLDP, _EAPOL = 0x88CC, 0x888E
_ICMP, _IGMP, _UDP, _ICMPV6 = 1, 2, 17, 58
_CISCO = bytes.fromhex("01000ccccccc")  # CDP, VTP, DTP
_STP_GROUP = bytes.fromhex("0180c2000000")
_PVST = bytes.fromhex("01000ccccccd")
_SERVICES = {5353, 5355, 1900}  # mDNS, LLMNR, SSDP
_DHCP_SERVERS = {67, 547}
_ICMP_ERRORS = {3, 5, 11, 12}  # RFC 792
_MLD = {130, 131, 132, 143}
_ND = {133, 134, 135, 136, 137}
_VXLAN_HEADER = 8


@dataclass(frozen=True, slots=True)
class Frame:
    """The parts of a frame that judging needs. Transport fields are of what is
    no fragment; ``transport`` begins at the header after IP."""

    data: bytes
    ethertype: int
    protocol: int = -1
    source: bytes = b""  # IP addresses, 4 or 16 bytes
    destination: bytes = b""
    transport: bytes = b""

    @property
    def to_mac(self) -> bytes:
        return self.data[:6]

    @property
    def from_mac(self) -> bytes:
        return self.data[6:12]

    @property
    def udp_ports(self) -> tuple[int, int] | None:
        """Source and destination."""
        if self.protocol != _UDP or len(self.transport) < 8:
            return None
        source, destination = struct.unpack_from("!HH", self.transport)
        return source, destination


def parse(data: bytes) -> Frame:
    """Of a frame that may be cut off anywhere. VLAN tags tell nothing of what is inside."""
    while data[12:14] in _VLAN_TAGS:
        data = data[:12] + data[16:]
    ethertype = int.from_bytes(data[12:14], "big")
    if ethertype == _IPV4 and len(data) >= 34:
        header = (data[14] & 0xF) * 4
        later = int.from_bytes(data[20:22], "big") & 0x1FFF
        transport = b"" if later else data[14 + header :]
        return Frame(data, ethertype, data[23], data[26:30], data[30:34], transport)
    if ethertype == _IPV6 and len(data) >= 54:
        protocol, transport = data[20], data[54:]
        if protocol == 0 and len(transport) >= 8:  # hop-by-hop options, as MLD has them
            protocol, transport = transport[0], transport[(transport[1] + 1) * 8 :]
        return Frame(data, ethertype, protocol, data[22:38], data[38:54], transport)
    return Frame(data, ethertype)


# ---- towards guests ---------------------------------------------------------


def judge_to_guest(data: bytes, port: GuestPort, physical: Physical) -> Iterator[Leak]:
    """What is wrong with a frame that a guest gets. What others of its network
    say is theirs to say, so their MACs clear all but the contents of ARP and ICMP."""
    frame = parse(data)
    known = port.network.macs | port.network.addresses
    seen = _contents(frame, known, physical)
    if seen is not None:
        leak, what = seen
        yield Leak(leak, port.label, f"shows {what} ({_sender(frame)})")
    elif frame.from_mac not in port.network.macs:
        name = _kind(frame)
        is_guests = port.network.strangers and frame.from_mac not in physical.macs
        if not is_guests or name in ("guest-lldp", "guest-stp"):
            yield Leak(name, port.label, _sender(frame))


def _contents(frame: Frame, known: Collection[bytes], physical: Physical) -> tuple[str, str] | None:
    """ARP and ICMP errors may come from the right MAC and still tell of a host."""
    if frame.ethertype == _ARP:
        seen = physical.seen_in(frame.data[14:42], known)
        return ("guest-arp", seen) if seen else None
    if _is_icmp_error(frame):
        seen = physical.seen_in(frame.source + frame.transport[8:64], known)
        return ("guest-icmp", seen) if seen else None
    return None


def _kind(frame: Frame) -> str:
    """What a frame of a stranger is, as a name of the catalogue."""
    ports = frame.udp_ports or ()
    first = frame.transport[0] if frame.transport and frame.protocol == _ICMPV6 else -1
    signs = {
        "guest-lldp": frame.ethertype in (_LLDP, _EAPOL) or frame.to_mac == _CISCO,
        "guest-stp": frame.to_mac in (_STP_GROUP, _PVST),
        "guest-arp": frame.ethertype == _ARP,
        "guest-igmp": frame.protocol == _IGMP,
        "guest-icmp": _is_icmp_error(frame),
        "guest-mld": first in _MLD,
        "guest-nd": first in _ND,
        "guest-mdns": not _SERVICES.isdisjoint(ports),
        "guest-dhcp": not _DHCP_SERVERS.isdisjoint(ports[:1]),
    }
    return next((name for name, is_so in signs.items() if is_so), "guest-frame")


def _is_icmp_error(frame: Frame) -> bool:
    if not frame.transport:
        return False
    kind = frame.transport[0]
    return (frame.protocol == _ICMP and kind in _ICMP_ERRORS) or (
        frame.protocol == _ICMPV6 and kind < 128
    )


def _sender(frame: Frame) -> str:
    address = f", {ip_address(frame.source)}" if frame.source else ""
    return f"from {frame.from_mac.hex(':')}{address}, ethertype {frame.ethertype:#06x}"


# ---- on the wire -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wire:
    """What may pass a link outside: envelopes between VTEPs (4 or 16 bytes, groups
    too) to these UDP ports, of these VNIs."""

    vteps: Collection[bytes]
    udp_ports: Collection[int]
    vnis: Collection[int]
    macs: Collection[bytes]  # of guests, that must not be seen
    addresses: Collection[bytes]  # the same, as far as nobody outside has them

    @classmethod
    def of(
        cls, guests: Guests, physical: Physical, hosts: Mapping[bytes, int], probe_vni: int
    ) -> Wire:
        """``hosts``: VTEPs and groups, with the UDP port there."""
        return cls(
            vteps=hosts.keys(),
            udp_ports=set(hosts.values()),
            vnis={probe_vni, *guests.networks},
            macs=guests.macs - physical.macs.keys(),
            addresses=guests.addresses - physical.addresses.keys(),
        )


def judge_on_wire(data: bytes, device: str, wire: Wire, *, leaves: bool) -> Iterator[Leak]:
    """What is wrong with a frame on a link outside; ``leaves``: this host sends it."""
    frame = parse(data)
    guest = next((mac for mac in (frame.from_mac, frame.to_mac) if mac in wire.macs), None)
    if guest is not None:
        yield Leak("wire-frame", device, f"guest MAC {guest.hex(':')}: {_sender(frame)}")
        return
    ports = frame.udp_ports
    if ports and ports[1] in wire.udp_ports:
        if leaves:
            yield from _judge_envelope(frame, device, wire)
        return
    for address in (frame.source, frame.destination):
        if address in wire.addresses:
            detail = f"guest address {ip_address(address)}: {_sender(frame)}"
            yield Leak("wire-packet", device, detail)
            return


def _judge_envelope(frame: Frame, device: str, wire: Wire) -> Iterator[Leak]:
    header = frame.transport[8 : 8 + _VXLAN_HEADER]
    vni = int.from_bytes(header[4:7], "big")
    if frame.destination not in wire.vteps:
        detail = f"envelope of VNI {vni} to {ip_address(frame.destination)}, no host's VTEP"
        yield Leak("wire-vtep", device, detail)
    elif len(header) == _VXLAN_HEADER and vni not in wire.vnis:
        yield Leak("wire-network", device, f"envelope of VNI {vni}, no network's")
