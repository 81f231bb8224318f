"""answer: DHCPv6 (RFC 8415)."""

from __future__ import annotations

import struct
from ipaddress import ip_address

from heddle.intent.model import Ipv6Mode, Network, Subnet
from reference import wire
from reference.answer_dhcp4 import udp_checksum
from reference.answer_nd import asker, domain_name
from reference.ends import Answered, Consumed, Dropped
from reference.guard import DHCP6_CLIENT, DHCP6_SERVER
from reference.packet import Fragment, Packet
from reference.topology import Topology

SOLICIT, ADVERTISE, REQUEST, CONFIRM, RENEW, REBIND, REPLY, RELEASE, DECLINE = range(1, 10)
INFORMATION_REQUEST = 11
CLIENT_ID, SERVER_ID, IA_NA, IA_ADDRESS, STATUS, DNS, DOMAINS = 1, 2, 3, 5, 13, 23, 24
OPTIONS_WALKED = 24
DUID_MAX = 130  # 2 bytes of type and 128 (11.1)


def answer_dhcp6(topology: Topology, packet: Packet) -> None:
    found = topology.dhcp(packet.port, 6)
    assert found is not None, "the port has no DHCPv6"
    address, subnet = found
    offered = address if subnet.ipv6_mode is Ipv6Mode.STATEFUL else None
    server_mac = topology.server_mac(subnet)
    message = packet.payload[8:]
    plain = packet.l4 == wire.ETHERNET + 40 and packet.fragment is Fragment.NONE
    options = _options(message[4:]) if plain and len(message) >= 4 else None
    if options is None:
        raise Dropped("DHCP_INVALID")
    own_id = struct.pack("!HH", 3, 1) + server_mac  # DUID-LL (11.4)
    extra = _judge(message[0], options, own_id, offered, subnet)
    kind = ADVERTISE if message[0] == SOLICIT else REPLY
    body = bytes([kind]) + message[1:4] + _configuration(packet.network, subnet, own_id) + extra
    if CLIENT_ID in options:
        if len(options[CLIENT_ID]) > DUID_MAX:
            raise Dropped("DHCP_INVALID")
        body += _option(CLIENT_ID, options[CLIENT_ID])
    raise Answered(_frame(packet, server_mac, body))


def _frame(packet: Packet, server_mac: bytes, body: bytes) -> bytes:
    server = wire.link_local(server_mac)
    to_mac, to = asker(packet)
    udp = struct.pack("!HHHH", DHCP6_SERVER, DHCP6_CLIENT, 8 + len(body), 0) + body
    udp = udp[:6] + struct.pack("!H", udp_checksum(packet, server, to, udp)) + udp[8:]
    ip = wire.ipv6(server, to, wire.UDP, udp)
    return wire.ethernet(to_mac, server_mac, wire.IPV6, ip)


def _options(data: bytes) -> dict[int, bytes] | None:
    """By code, the last of each, of IA_NA the first; None: broken."""
    found: dict[int, bytes] = {}
    for _ in range(OPTIONS_WALKED):
        if not data:
            return found
        if len(data) < 4:
            return None
        code, length = struct.unpack_from("!HH", data)
        if len(data) < 4 + length or (code == IA_NA and IA_NA not in found and length < 4):
            return None
        if code != IA_NA or IA_NA not in found:
            found[code] = data[4 : 4 + length]
        data = data[4 + length :]
    return None if data else found


def _judge(
    kind: int,
    options: dict[int, bytes],
    own_id: bytes,
    offered: wire.IpAddress | None,
    subnet: Subnet,
) -> bytes:
    """Sections 16 and 18.3: what the answer holds besides the configuration."""
    named = options.get(SERVER_ID)
    for_us = named == own_id
    if kind == INFORMATION_REQUEST:
        if named is not None and not for_us:
            raise Consumed
        return b""
    must_name = kind in (REQUEST, RENEW, RELEASE, DECLINE)
    must_not_name = kind in (SOLICIT, REBIND, CONFIRM)
    if CLIENT_ID not in options or not (must_name or must_not_name):
        raise Dropped("DHCP_INVALID")
    if must_name != (named is not None):
        raise Dropped("DHCP_INVALID")
    if must_name and not for_us:
        raise Consumed
    if kind in (RELEASE, DECLINE):
        return _option(STATUS, struct.pack("!H", 0))
    if offered is None:
        raise Consumed
    if kind == CONFIRM:
        return _option(STATUS, struct.pack("!H", 0))
    if IA_NA not in options:
        raise Consumed
    return _identity_association(options[IA_NA][:4], offered, subnet)


def _identity_association(iaid: bytes, offered: wire.IpAddress, subnet: Subnet) -> bytes:
    """Renew at half, rebind at four fifths of the preferred lifetime (21.4)."""
    time = subnet.lease_time
    address = _option(IA_ADDRESS, offered.packed + struct.pack("!II", time, time))
    return _option(IA_NA, iaid + struct.pack("!II", time // 2, time * 4 // 5) + address)


def _configuration(network: Network, subnet: Subnet, own_id: bytes) -> bytes:
    body = _option(SERVER_ID, own_id)
    servers = b"".join(ip_address(dns).packed for dns in subnet.dns if ":" in dns)
    body += _option(DNS, servers) if servers else b""
    return body + (_option(DOMAINS, domain_name(network.domain)) if network.domain else b"")


def _option(code: int, data: bytes) -> bytes:
    return struct.pack("!HH", code, len(data)) + data
