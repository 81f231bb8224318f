"""answer: DHCPv4 (RFC 2131, 2132)."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv4Network, ip_address

from heddle.intent.model import Network, Subnet
from reference import wire
from reference.ends import Answered, Consumed, Dropped
from reference.guard import DHCP4_CLIENT, DHCP4_SERVER
from reference.packet import Fragment, Packet
from reference.topology import Topology

DISCOVER, OFFER, REQUEST, DECLINE, ACK, NAK, RELEASE, INFORM = range(1, 9)
COOKIE = bytes.fromhex("63825363")
BOOTP_BYTES = 240  # cookie included
BOOTP_BYTES_MIN = 300  # RFC 951 clients expect as many
OPTIONS_WALKED = 64
PAD, END = 0, 255
REQUESTED_ADDRESS, MESSAGE_TYPE, SERVER_ID = 50, 53, 54
FOREVER = 0xFFFFFFFF


def answer_dhcp4(topology: Topology, packet: Packet) -> None:
    found = topology.dhcp(packet.port, 4)
    assert found is not None, "the port has no DHCP"
    address, subnet = found
    assert isinstance(address, IPv4Address)
    server = IPv4Address(subnet.gateway_ip)
    bootp = packet.payload[8:]
    options = _valid_request(packet, bootp)
    reply = _reply_type(options, bootp, address, server)
    body = _head(bootp, options, reply, address)
    body += _tail(topology, packet.network, subnet, reply, is_informed=_informs(options))
    to_mac, to = _recipient(packet, bootp, reply, address)
    udp = struct.pack("!HHHH", DHCP4_SERVER, DHCP4_CLIENT, 8 + len(body), 0) + body
    udp = udp[:6] + struct.pack("!H", udp_checksum(packet, server, to, udp)) + udp[8:]
    ip = wire.ipv4(server, to, wire.UDP, udp)
    raise Answered(wire.ethernet(to_mac, topology.server_mac(subnet), wire.IPV4, ip))


def udp_checksum(
    packet: Packet, source: wire.IpAddress, destination: wire.IpAddress, datagram: bytes
) -> int:
    """Where the guest left its checksum to the device, so does the answer: the
    field then holds the sum of the pseudo header alone."""
    (asked,) = struct.unpack_from("!H", packet.payload, 6)
    length = packet.l3_bytes - ((packet.l4 or 0) - wire.ETHERNET)
    pseudo = wire.pseudo_header(packet.source, packet.destination, wire.UDP, length)
    if asked and asked == wire.ones_sum(pseudo):
        return wire.ones_sum(wire.pseudo_header(source, destination, wire.UDP, len(datagram)))
    return wire.udp_checksum(source, destination, datagram)


def _valid_request(packet: Packet, bootp: bytes) -> dict[int, bytes]:
    """The options of a BOOTREQUEST from the port itself, neither fragmented nor
    relayed, in a plain IP header."""
    plain = packet.l4 == wire.ETHERNET + 20 and packet.fragment is Fragment.NONE
    if not plain or len(bootp) < BOOTP_BYTES:
        raise Dropped("DHCP_INVALID")
    operation, hardware, hardware_bytes = bootp[0], bootp[1], bootp[2]
    relay, client_mac, cookie = bootp[24:28], bootp[28:34], bootp[236:240]
    options = _options(bootp[BOOTP_BYTES:])
    if (
        (operation, hardware, hardware_bytes) != (1, 1, 6)
        or any(relay)
        or cookie != COOKIE
        or client_mac != wire.mac(packet.port.mac)
        or options is None
    ):
        raise Dropped("DHCP_INVALID")
    return options


def _options(data: bytes) -> dict[int, bytes] | None:
    """By code, the last of each that has the right length; None: not ended."""
    lengths = {MESSAGE_TYPE: 1, SERVER_ID: 4, REQUESTED_ADDRESS: 4}
    found: dict[int, bytes] = {}
    for _ in range(OPTIONS_WALKED):
        if not data:
            return None
        if data[0] == END:
            return found
        if data[0] == PAD:
            data = data[1:]
            continue
        if len(data) < 2 or len(data) < 2 + data[1]:
            return None
        if lengths.get(data[0]) == data[1]:
            found[data[0]] = data[2 : 2 + data[1]]
        data = data[2 + data[1] :]
    return None


def _reply_type(
    options: dict[int, bytes], bootp: bytes, address: IPv4Address, server: IPv4Address
) -> int:
    """RFC 2131 4.3."""
    kind = options.get(MESSAGE_TYPE, b"\0")[0]
    if kind == DISCOVER:
        return OFFER
    if kind == REQUEST:
        if options.get(SERVER_ID, server.packed) != server.packed:
            raise Consumed  # it took another server's offer
        wanted = options.get(REQUESTED_ADDRESS, bootp[12:16])
        return ACK if wanted == address.packed else NAK
    if kind == INFORM:
        return ACK
    if kind in (DECLINE, RELEASE):
        raise Consumed
    raise Dropped("DHCP_INVALID")


def _recipient(
    packet: Packet, bootp: bytes, reply: int, address: IPv4Address
) -> tuple[bytes, IPv4Address]:
    """RFC 2131 4.1: a refusal goes to all; else to the client's address when it
    has one, to all when it asks for that, or to the address it is given."""
    client = IPv4Address(bootp[12:16])
    wants_broadcast = bool(bootp[10] & 0x80) and client.is_unspecified
    if reply == NAK or wants_broadcast:
        return wire.BROADCAST, IPv4Address("255.255.255.255")
    return wire.mac(packet.port.mac), address if client.is_unspecified else client


def _informs(options: dict[int, bytes]) -> bool:
    return options[MESSAGE_TYPE][0] == INFORM


def _head(bootp: bytes, options: dict[int, bytes], reply: int, address: IPv4Address) -> bytes:
    """From ``op`` to the message type. Names, addresses and times that the client
    wrote are void, what identifies it and its transaction stays (RFC 2131 table 3)."""
    client = bytes(4) if reply == NAK else bootp[12:16]
    yours = bytes(4) if reply == NAK or _informs(options) else address.packed
    head = bytes([2]) + bootp[1:3] + b"\0" + bootp[4:8] + bytes(2) + bootp[10:12]
    head += client + yours + bytes(8) + bootp[28:44] + bytes(192) + COOKIE
    return head + _option(MESSAGE_TYPE, bytes([reply]))


def _tail(
    topology: Topology, network: Network, subnet: Subnet, reply: int, *, is_informed: bool
) -> bytes:
    """The other options. No lease is given in answer to INFORM (RFC 2131 4.3.5)."""
    body = _option(SERVER_ID, ip_address(subnet.gateway_ip).packed)
    if reply != NAK:
        lease = _lease(subnet)
        body += bytes(len(lease)) if is_informed else lease
        body += _configuration(topology, network, subnet)
    return (body + bytes([END])).ljust(BOOTP_BYTES_MIN - BOOTP_BYTES - 3, b"\0")


def _option(code: int, data: bytes) -> bytes:
    """None for no data; long data takes several (RFC 3396)."""
    parts = [data[i : i + 255] for i in range(0, len(data), 255)]
    return b"".join(bytes([code, len(part)]) + part for part in parts)


def _lease(subnet: Subnet) -> bytes:
    """Time, renewal at half and rebinding at seven eighths of it (4.4.5)."""
    time = subnet.lease_time
    half, most = (time, time) if time == FOREVER else (time // 2, time * 7 // 8)
    pairs = ((51, time), (58, half), (59, most))
    return b"".join(_option(code, struct.pack("!I", value)) for code, value in pairs)


def _configuration(topology: Topology, network: Network, subnet: Subnet) -> bytes:
    gateway = ip_address(subnet.gateway_ip).packed
    has_router = topology.gateway_of(subnet) is not None
    servers = b"".join(ip_address(dns).packed for dns in subnet.dns if ":" not in dns)
    body = _option(1, IPv4Network(subnet.cidr).netmask.packed)
    body += _option(3, gateway) if has_router else b""
    body += _option(6, servers)
    body += _option(15, network.domain.rstrip(".").encode())
    body += _option(26, struct.pack("!H", network.mtu))
    return body + _option(121, _classless_routes(subnet, has_router=has_router))


def _classless_routes(subnet: Subnet, *, has_router: bool) -> bytes:
    """RFC 3442. Who takes this option ignores option 3, so the default route
    must be here too."""
    routes = [(r.destination, r.nexthop) for r in subnet.host_routes if ":" not in r.destination]
    if routes and has_router and "0.0.0.0/0" not in dict(routes):
        routes.append(("0.0.0.0/0", subnet.gateway_ip))
    data = b""
    for destination, nexthop in routes:
        prefix = IPv4Network(destination)
        used = (prefix.prefixlen + 7) // 8
        data += bytes([prefix.prefixlen]) + prefix.network_address.packed[:used]
        data += ip_address(nexthop).packed
    return data
