"""Random packets among the ports of a topology, biased towards what matters:
conversations in both directions, handshakes and closes, errors about earlier
packets, fragments, answers that heddle must give, and lies.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from random import Random

from reference import wire
from reference.answer_dhcp4 import BOOTP_BYTES, COOKIE
from reference.topology import Topology
from talk import CHAINS, Talk, fragments, ip_packet, l4_bytes

from heddle.intent.model import Port

SYN, ACK, FIN, RST, PSH = 2, 16, 1, 4, 8
FLAGS = (SYN, SYN | ACK, ACK, ACK, PSH | ACK, FIN | ACK, FIN | ACK, RST, RST | ACK, 0, SYN | FIN)
# Lives of connections: flags, those of the other side as negative numbers.
LIVES = (
    (SYN, -(SYN | ACK), ACK, -ACK, FIN | ACK, -ACK, -(FIN | ACK), ACK, -SYN, SYN),
    (SYN, -(SYN | ACK), ACK, -(FIN | ACK), ACK, FIN | ACK, -ACK, SYN, -SYN, ACK),
    (SYN, -(SYN | ACK), ACK, FIN | ACK, -(FIN | ACK), ACK, SYN, -(SYN | ACK), ACK),
    (SYN, -(SYN | ACK), ACK, RST, -ACK, ACK, -SYN, SYN, -(SYN | ACK)),
    (SYN, -(RST | ACK), SYN, -(SYN | ACK), ACK, -RST, ACK, SYN),
    (ACK, -ACK, -(FIN | ACK), FIN | ACK, -ACK, -SYN, SYN),
    (SYN, SYN, -ACK, -(SYN | ACK), FIN | ACK, -ACK, ACK),
)
PROTOCOLS = (*(wire.TCP,) * 6, *(wire.UDP,) * 4, *(wire.ICMP,) * 3, wire.SCTP, 47, 50, 2, 136, 33)
# Those of DHCP clients and servers among them.
SOURCES, DESTINATIONS = (0, 68, 546, 1000, 40000, 40001), (22, 67, 80, 443, 547, 5000, 65535)
SOLICITED_NODE = IPv6Address("ff02::1:ff00:0").packed[:13]


@dataclass(frozen=True)
class Sent:
    port: str
    frame: bytes
    gso_size: int = 0


class Traffic:
    """Says what is sent next, given what was sent before. With machines behind foreign
    VTEPs nothing takes another way than it did before: an end of a connection that
    was elsewhere and is here now would count as one that has moved, which the model
    does not know."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._ports = [*topology.ports.values(), *topology.behind.values()]
        self._talks: list[Talk] = []
        self._steps: dict[Talk, int] = {}
        self._sent: list[Sent] = []
        self._pending: list[Sent] = []  # later fragments

    def next(self, random: Random) -> Sent:
        kinds: list[tuple[Callable[[Random], Sent], int]] = [
            (self._talk, 56),
            (self._icmp_error, 6),
            (self._fragment, 8),
            (self._arp, 4),
            (self._neighbor_solicitation, 3),
            (self._router_solicitation, 1),
            (self._dhcp4, 3),
            (self._dhcp6, 3),
            (self._to_many, 5),
            (self._ping_gateway, 4),
            (self._to_nobody, 3),
            (self._listener_report, 1),
        ]
        (make,) = random.choices([k for k, _ in kinds], [weight for _, weight in kinds])
        sent = make(random)
        if random.random() < 0.04:
            sent = self._lie(random, sent)
        self._sent.append(sent)
        return sent

    # ---- conversations ---------------------------------------------------------------

    def _talk(self, random: Random) -> Sent:
        if self._talks and random.random() < 0.75:
            talk = random.choice(self._talks[-6:])
        else:
            talk = self._new_talk(random)
            self._talks.append(talk)
        step = self._steps.get(talk, 0)
        self._steps[talk] = step + 1
        life = LIVES[self._talks.index(talk) % len(LIVES)]
        flags, replies = random.choice(FLAGS), random.random() < 0.5
        if random.random() < 0.9:
            flags = life[step % len(life)]
            flags, replies = abs(flags), flags < 0
        is_reply = talk.ends[1] is not None and replies
        return self._say(random, talk.turned() if is_reply else talk, flags, is_reply=is_reply)

    def _new_talk(self, random: Random) -> Talk:
        here = random.choice(self._ports)
        version = random.choice([a.version for a in self._topology.addresses_of(here)])
        there, address = self._partner(random, here, version)
        protocol = random.choice(PROTOCOLS)
        if protocol == wire.ICMP and version == 6:
            protocol = wire.ICMPV6
        source = self._own(random, here, version)
        if protocol in (wire.ICMP, wire.ICMPV6):
            ids = (random.choice((1, 2)),) * 2
        else:
            ids = (random.choice(SOURCES), random.choice(DESTINATIONS))
        return Talk((here, there), (source, address), protocol, ids)

    def _own(self, random: Random, port: Port, version: int) -> wire.IpAddress:
        """Mostly its address, sometimes a pair's, a routed or the link-local one."""
        own = [a for a in self._topology.addresses_of(port) if a.version == version]
        more = [ip_address(p.cidr.split("/")[0]) for p in port.address_pairs]
        more += [ip_address(p.split("/")[0]) for p in self._topology.routed_to(port)]
        more = [a for a in more if a.version == version and not a.is_unspecified]
        if version == 6:
            more.append(wire.link_local(wire.mac(port.mac)))
        return random.choice(more) if more and random.random() < 0.08 else own[0]

    def _partner(
        self, random: Random, here: Port, version: int
    ) -> tuple[Port | None, wire.IpAddress]:
        others = [
            port
            for port in self._ports
            if port is not here
            and any(a.version == version for a in self._topology.addresses_of(port))
        ]
        near = [port for port in others if port.network_id == here.network_id]
        if near and random.random() < 0.5:
            others = near
        if others and random.random() < 0.95:
            there = random.choice(others)
            return there, self._own(random, there, version)
        far = {4: ("10.9.0.5", "10.9.1.5", "8.8.8.8", "10.3.0.5"), 6: ("fd00:9::5", "2001:db8::5")}
        return None, ip_address(random.choice(far[version]))

    def _say(self, random: Random, talk: Talk, flags: int, *, is_reply: bool) -> Sent:
        size = random.choice((0, 0, 8, 8, 100, 100, 1200, 1450, 2000))
        segment = l4_bytes(talk, flags, bytes(size), is_reply=is_reply)
        ttl = random.choice((64,) * 16 + (255, 1, 2, 3, 0))
        frame = self._frame(random, talk, segment, ttl=ttl, tos=random.choice((0, 1, 0xB8, 3)))
        gso = random.choice((500, 1200, 1400)) if size > 1000 and random.random() < 0.5 else 0
        return Sent(talk.ends[0].id, frame, gso)

    def _frame(
        self, random: Random, talk: Talk, segment: bytes, *, ttl: int = 64, tos: int = 0
    ) -> bytes:
        packet = ip_packet(talk, segment, ttl=ttl, tos=tos, chain=_chain(random))
        return self._ethernet(random, talk, packet)

    def _ethernet(self, random: Random, talk: Talk, packet: bytes) -> bytes:
        here, there = talk.ends
        ethertype = wire.IPV4 if talk.addresses[0].version == 4 else wire.IPV6
        mac = self._next_mac(random, here, there)
        return wire.ethernet(mac, self._source_mac(talk), ethertype, packet)

    def _source_mac(self, talk: Talk) -> bytes:
        """That of the pair, when it has one of its own."""
        for pair in talk.ends[0].address_pairs:
            if pair.mac and str(talk.addresses[0]) == pair.cidr.split("/")[0]:
                return wire.mac(pair.mac)
        return wire.mac(talk.ends[0].mac)

    def _next_mac(self, random: Random, here: Port, there: Port | None) -> bytes:
        """The partner's on the same network, else a router's; rarely another's."""
        network = self._topology.network_of(here)
        gateways = list(self._topology.gateways_of(network))
        if random.random() < 0.03 and not self._topology.behind:
            there = random.choice(self._ports)
        if there is not None and there.network_id == here.network_id and random.random() < 0.95:
            return wire.mac(there.mac)
        return random.choice(gateways).mac if gateways else b"\xfa\x16\x3e\x99\x99\x99"

    # ---- errors, fragments ---------------------------------------------------------------

    def _icmp_error(self, random: Random) -> Sent:
        """About an earlier packet, by the port that got it (or somebody else)."""
        talks = [talk for talk in self._talks[-6:] if talk.ends[1] is not None]
        if not talks:
            return self._talk(random)
        talk = random.choice(talks)
        is_reply = random.random() < 0.5
        quoted = talk.turned() if is_reply else talk
        segment = l4_bytes(quoted, ACK, bytes(8), is_reply=is_reply)
        if quoted.protocol in (wire.ICMP, wire.ICMPV6) and random.random() < 0.1:
            segment = bytes([3 if quoted.protocol == wire.ICMP else 1, 4]) + bytes(46)
        quote = ip_packet(quoted, segment, chain=_chain(random))
        quote = quote[: random.choice((27, 28, 48, 60, 200))]
        version = quoted.addresses[0].version
        kinds4 = ((3, 3), (3, 4), (11, 0), (5, 1), (13, 0))
        kinds6 = ((1, 4), (2, 0), (3, 0), (127, 0))
        message = bytes(random.choice(kinds4 if version == 4 else kinds6)) + bytes(6) + quote
        answer = quoted.turned()
        protocol = wire.ICMP if version == 4 else wire.ICMPV6
        answer = replace(answer, protocol=protocol)
        return Sent(answer.ends[0].id, self._frame(random, answer, message))

    def _fragment(self, random: Random) -> Sent:
        if self._pending and random.random() < 0.7:
            return self._pending.pop(random.randrange(len(self._pending)))
        talk = self._new_talk(random) if not self._talks else random.choice(self._talks[-4:])
        segment = l4_bytes(talk, random.choice((SYN, ACK)), bytes(100), is_reply=False)
        identification = random.choice((1, 2, 3))
        first, *later = [
            Sent(talk.ends[0].id, self._ethernet(random, talk, piece))
            for piece in fragments(talk, segment, identification)
        ]
        self._pending += later
        if random.random() < 0.2:  # the first one comes late
            self._pending.append(first)
            return self._pending.pop(random.randrange(len(self._pending)))
        return first

    # ---- questions to heddle ---------------------------------------------------------------

    def _arp(self, random: Random) -> Sent:
        port = random.choice(self._ports)
        sender = self._own(random, port, 4)
        network = self._topology.network_of(port)
        targets = [p.fixed_ips[0].ip for p in self._ports if p.network_id == network.id]
        targets += [self._topology.subnets_of(network)[0].gateway_ip, "10.1.0.200", "10.2.0.2"]
        operation = random.choice((1, 1, 1, 2))
        probe = random.random() < 0.1
        message = struct.pack("!HHBBH", 1, wire.IPV4, 6, 4, operation)
        message += wire.mac(port.mac) + (bytes(4) if probe else sender.packed)
        message += bytes(6) + ip_address(random.choice(targets)).packed
        to = wire.BROADCAST if random.random() < 0.7 else wire.mac(random.choice(self._ports).mac)
        frame = wire.ethernet(to, wire.mac(port.mac), wire.ARP, message)
        return Sent(port.id, frame.ljust(random.choice((0, 60)), b"\0"))

    def _neighbor_solicitation(self, random: Random) -> Sent:
        port = random.choice(self._ports)
        mac = wire.mac(port.mac)
        network = self._topology.network_of(port)
        known = [
            a
            for p in self._ports
            if p.network_id == network.id
            for a in self._topology.addresses_of(p)
        ]
        known += [a for g in self._topology.gateways_of(network) if (a := g.address(6))]
        known += [wire.link_local(wire.mac(p.mac)) for p in self._ports]
        known += [wire.link_local(g.mac) for g in self._topology.gateways_of(network)]
        known.append(IPv6Address("fd00:1::777"))
        target = random.choice([address for address in known if address.version == 6])
        sources = [a for a in self._topology.addresses_of(port) if a.version == 6]
        sources += [wire.link_local(mac), IPv6Address(0)]
        source = random.choice(sources)
        assert isinstance(source, IPv6Address)
        kind = random.choice((135, 135, 135, 136))
        option = bytes([1 if kind == 135 else 2, 1]) + mac
        message = struct.pack("!BBHI", kind, 0, 0, 0) + target.packed + option
        to = IPv6Address(SOLICITED_NODE + target.packed[-3:])
        packet = wire.ipv6(source, to, wire.ICMPV6, message, hop_limit=255)
        to_mac = b"\x33\x33" + to.packed[-4:]
        return Sent(port.id, wire.ethernet(to_mac, mac, wire.IPV6, packet))

    def _router_solicitation(self, random: Random) -> Sent:
        port = random.choice(self._ports)
        mac = wire.mac(port.mac)
        source = random.choice((wire.link_local(mac), IPv6Address(0)))
        message = struct.pack("!BBHI", random.choice((133, 133, 134)), 0, 0, 0)
        message += bytes([1, 1]) + mac if not source.is_unspecified else b""
        to = IPv6Address("ff02::2")
        packet = wire.ipv6(source, to, wire.ICMPV6, message, hop_limit=255)
        return Sent(port.id, wire.ethernet(bytes.fromhex("333300000002"), mac, wire.IPV6, packet))

    def _dhcp4(self, random: Random) -> Sent:
        port = random.choice(self._ports)
        mac = wire.mac(port.mac)
        own = ip_address(port.fixed_ips[0].ip)
        has_address = random.random() < 0.4
        gateway = self._topology.subnets_of(self._topology.network_of(port))[0].gateway_ip
        options = bytes([53, 1, random.choice((1, 1, 3, 3, 3, 4, 7, 8, 2))])
        if random.random() < 0.5:
            options += b"\x32\x04" + random.choice((own, IPv4Address("10.1.0.99"))).packed
        if random.random() < 0.5:
            options += b"\x36\x04" + ip_address(random.choice((gateway, "1.2.3.4"))).packed
        options += random.choice((b"\xff", b"\x0c\x02vm\x00\xff", b"\x37\x03\x01\x03\x06\xff", b""))
        flags = random.choice((0, 0x8000))
        bootp = struct.pack("!BBBBIHH", 1, 1, 6, 0, random.getrandbits(32), 7, flags)
        bootp += own.packed if has_address else bytes(4)
        bootp = (bootp + bytes(12) + mac).ljust(BOOTP_BYTES - 4, b"\0") + COOKIE + options
        source = own if has_address else IPv4Address(0)
        to = IPv4Address("255.255.255.255")
        udp = struct.pack("!HHHH", 68, 67, 8 + len(bootp), random.choice((0, 0x1234))) + bootp
        packet = wire.ipv4(source, to, wire.UDP, udp)
        return Sent(port.id, wire.ethernet(wire.BROADCAST, mac, wire.IPV4, packet))

    def _dhcp6(self, random: Random) -> Sent:
        port = random.choice(self._ports)
        mac = wire.mac(port.mac)
        options = b""
        if random.random() < 0.9:
            options += struct.pack("!HHHH", 1, 10, 3, 1) + mac
        servers = [self._topology.server_mac(s) for s in self._topology.subnets.values()]
        if random.random() < 0.5:
            options += struct.pack("!HHHH", 2, 10, 3, 1) + random.choice(servers)
        if random.random() < 0.8:
            options += struct.pack("!HHIII", 3, 12, random.getrandbits(32), 0, 0)
        kind = random.choice((1, 1, 3, 3, 4, 5, 6, 8, 9, 11, 7))
        body = bytes([kind]) + b"abc" + options
        udp = struct.pack("!HHHH", 546, 547, 8 + len(body), 0x1234) + body
        packet = wire.ipv6(wire.link_local(mac), IPv6Address("ff02::1:2"), wire.UDP, udp)
        return Sent(port.id, wire.ethernet(bytes.fromhex("333300010002"), mac, wire.IPV6, packet))

    def _ping_gateway(self, random: Random) -> Sent:
        port = random.choice(self._ports)
        network = self._topology.network_of(port)
        subnet = random.choice(self._topology.subnets_of(network))
        address = ip_address(subnet.gateway_ip)
        own = [a for a in self._topology.addresses_of(port) if a.version == address.version]
        protocol = random.choice((1, 1, 1, wire.UDP, wire.TCP))
        if protocol == wire.ICMP and address.version == 6:
            protocol = wire.ICMPV6
        talk = Talk((port, None), (own[0], address), protocol, (7, random.choice((7, 80))))
        segment = l4_bytes(talk, SYN, bytes(random.choice((8, 56, 1500))), is_reply=False)
        ethertype = wire.IPV4 if address.version == 4 else wire.IPV6
        mac = self._topology.server_mac(subnet)
        packet = ip_packet(talk, segment, ttl=random.choice((64, 1)))
        return Sent(port.id, wire.ethernet(mac, wire.mac(port.mac), ethertype, packet))

    # ---- to many, to nobody, lies --------------------------------------------------------

    def _to_many(self, random: Random) -> Sent:
        port = random.choice(self._ports)
        mac = wire.mac(port.mac)
        kinds = ("ffffffffffff", "01005e0000fb", "0180c2000000", "0180c2000010")
        to = bytes.fromhex(random.choice(kinds))
        own = ip_address(port.fixed_ips[0].ip)
        group = ip_address(random.choice(("224.0.0.251", "255.255.255.255", "10.1.0.255")))
        talk = Talk((port, None), (own, group), wire.UDP, (5353, random.choice((80, 5353))))
        segment = l4_bytes(talk, 0, bytes(20), is_reply=False)
        return Sent(port.id, wire.ethernet(to, mac, wire.IPV4, ip_packet(talk, segment)))

    def _listener_report(self, random: Random) -> Sent:
        port = random.choice(self._ports)
        mac = wire.mac(port.mac)
        source = random.choice((wire.link_local(mac), IPv6Address(0)))
        to = IPv6Address("ff02::16")
        message = bytes([random.choice((131, 143, 130)), 0]) + bytes(22)
        packet = wire.ipv6(source, to, wire.ICMPV6, message, hop_limit=1)
        return Sent(port.id, wire.ethernet(bytes.fromhex("333300000016"), mac, wire.IPV6, packet))

    def _to_nobody(self, random: Random) -> Sent:
        port = random.choice(self._ports)
        mac = wire.mac(port.mac)
        if random.random() < 0.4:
            kind = random.choice((0x8100, 0x88A8, 0x88CC, 0x0842))
            return Sent(port.id, wire.ethernet(wire.BROADCAST, mac, kind, bytes(60)))
        targets = ("10.1.0.250", "127.0.0.1", "169.254.1.1", "224.0.0.5", "0.0.0.5", "10.2.0.1")
        own = ip_address(port.fixed_ips[0].ip)
        talk = Talk((port, None), (own, ip_address(random.choice(targets))), wire.UDP, (1, 80))
        segment = l4_bytes(talk, 0, bytes(20), is_reply=False)
        return Sent(port.id, self._frame(random, talk, segment))

    def _lie(self, random: Random, sent: Sent) -> Sent:
        """A forged MAC or address, or any other byte."""
        frame = bytearray(sent.frame)
        kinds = ("mac", "address", "byte", "byte", "other port")
        kind = random.choice(kinds[:-1] if self._topology.behind else kinds)
        if kind == "mac":
            frame[11] ^= 1
        elif kind == "address" and len(frame) > 30:
            frame[29] ^= random.choice((1, 0x80))
        elif kind == "other port":
            return replace(sent, port=random.choice(self._ports).id)
        else:
            frame[random.randrange(min(len(frame), 80))] ^= 1 << random.randrange(8)
        return replace(sent, frame=bytes(frame))


def _chain(random: Random) -> tuple[int, ...]:
    """Extension headers that go before the upper layer in IPv6."""
    return random.choice(CHAINS) if random.random() < 0.15 else ()
