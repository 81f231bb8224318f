"""The whole of it: objects of intent, and what becomes of frames among them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from heddle.intent.model import AnyResource, Network, PacketRateLimit, Port
from reference import wire
from reference.answer_arp import answer_arp
from reference.answer_dhcp4 import answer_dhcp4
from reference.answer_dhcp6 import answer_dhcp6
from reference.answer_nd import answer_nd
from reference.arrive import arrive
from reference.connections import Connections, is_elsewhere
from reference.deliver import delivered
from reference.echo import serve
from reference.ends import Answered, Blame, Consumed, Dropped, End, Outcome, Verdict
from reference.fragments import Fragments
from reference.guard import DHCP4_CLIENT, DHCP4_SERVER, DHCP6_CLIENT, DHCP6_SERVER, guard
from reference.icmp_error import Budget, error_frame
from reference.judge import Judge
from reference.packet import Packet
from reference.parse import parse
from reference.places import Places
from reference.rates import BROADCAST_UNITS, FLOOD_UNITS_PER_SECOND, Pace, flood_seconds
from reference.route import route
from reference.solicit import Questions, question
from reference.switch import switch
from reference.topology import Gateway, Topology
from reference.way import Flood, Nowhere, Serve, ToPort, Wanted, Way

FLOOD_AHEAD = 1.0  # seconds of flooding that a port may save up


class World:
    """Takes the frames that VMs send, one by one, and says what becomes of each.
    ``now`` is in seconds and never runs backwards."""

    def __init__(self, objects: Iterable[AnyResource], behind: Iterable[Port] = ()) -> None:
        self.topology = Topology(objects, behind)
        self._questions = Questions()
        self.places = Places(self.topology)
        self.connections = Connections()
        self._fragments = Fragments()
        self.refill()

    def change(self, objects: Iterable[AnyResource]) -> None:
        """Another intent from now on; what was remembered stays so."""
        self.topology = self.places.topology = Topology(objects, self.topology.behind.values())

    def refill(self) -> None:
        """All budgets and rates as if nothing had been sent for long."""
        self._budgets = defaultdict[str, Budget](Budget)
        self._sending = defaultdict[str, Pace](Pace)
        self._receiving = defaultdict[str, Pace](Pace)
        self._flooding = defaultdict[str, Pace](Pace)

    def send(self, port_id: str, frame: bytes, now: float, gso_size: int = 0) -> Outcome:
        """What becomes of a frame from this port; with ``gso_size`` one that the
        guest left to be cut into segments with as much payload."""
        port = self.topology.ports[port_id]
        packet = Packet(port, self.topology.network_of(port), frame, gso_size)
        way = None
        try:
            way = self._find_way(packet, now)
            judge = Judge(self.topology, self.connections)
            judge.judge(packet, way, now)
            return self._go(packet, way, judge, now)
        except End as end:
            return self._finish(packet, way, end, now)

    def arrive(self, machine_id: str, frame: bytes, now: float) -> Outcome:
        """What becomes of a frame from this machine behind a foreign VTEP."""
        machine = self.topology.behind[machine_id]
        packet = Packet(machine, self.topology.network_of(machine), frame)
        way = None
        try:
            parse(packet)
            self._fragments.note(packet, now)
            way = arrive(self.places, packet)
            judge = Judge(self.topology, self.connections)
            if isinstance(way, ToPort) and not is_elsewhere(way.port) and way.drop is None:
                judge.judge(packet, way, now)  # other hosts ask the rules of their ports
            return self._go(packet, way, judge, now)
        except End as end:
            return self._finish(packet, way, _as_of_tunnel(end), now)

    # ---- the stages in order ---------------------------------------------------

    def _find_way(self, packet: Packet, now: float) -> Way:
        parse(packet)
        self._fragments.note(packet, now)
        self._pace_sender(packet, now)
        guard(self.topology, packet)
        self._answer(packet, is_news=self._learn(packet))
        found = switch(self.places, packet)
        if isinstance(found, Gateway):
            found = route(self.places, packet, found)
        return found

    def _learn(self, packet: Packet) -> bool:
        """Is an address announced that intent does not know?"""
        is_open, mac = not packet.port.port_security, packet.source_mac
        if is_open:
            self.places.learn_open_mac(packet.port, mac)
        if packet.announces is None:
            return False
        learn = self.places.learn_open_address if is_open else self.places.learn
        return learn(packet.port, mac, packet.announces)

    def _go(self, packet: Packet, way: Way, judge: Judge, now: float) -> Outcome:
        if way.drop is not None:
            raise way.drop
        if isinstance(way, Serve):
            serve(packet)
        if isinstance(way, Flood):
            return self._flood(packet, way, judge, now)
        assert isinstance(way, ToPort)
        return self._deliver(packet, way, now)

    def _answer(self, packet: Packet, *, is_news: bool) -> None:
        if packet.is_arp:
            answer_arp(self.places, packet, is_news=is_news)
        elif packet.version == 4 and packet.has_ports(wire.UDP, DHCP4_CLIENT, DHCP4_SERVER):
            if self.topology.dhcp(packet.port, 4):
                answer_dhcp4(self.topology, packet)
        elif packet.version == 6 and packet.has_ports(wire.UDP, DHCP6_CLIENT, DHCP6_SERVER):
            if self.topology.dhcp(packet.port, 6):
                answer_dhcp6(self.topology, packet)
        elif packet.is_nd:
            answer_nd(self.places, packet)

    # ---- deliver ------------------------------------------------------------------

    def _deliver(self, packet: Packet, way: ToPort, now: float) -> Outcome:
        if is_elsewhere(way.port):
            frame = delivered(packet, self._dscp(packet.port), way.macs, way.hops)
            return Outcome(Verdict.DELIVERED, ((self._host_of(way.port), frame),))
        if not self._pace_receiver(way.port, now):
            raise Dropped("PACKET_RATE_TO_VM", port=way.port.id)
        frame = delivered(packet, self._dscp(packet.port), way.macs, way.hops)
        return Outcome(Verdict.DELIVERED, ((way.port.id, frame),))

    def _flood(self, packet: Packet, way: Flood, judge: Judge, now: float) -> Outcome:
        """A copy for every other port of the network whose rules and rate allow it."""
        if packet.port.id in self.topology.behind:  # it came flooded, and no port pays for it
            return Outcome(Verdict.FLOODED, *self._copies(packet, way, judge, now))
        budget = self._flooding[packet.port.id]
        if not budget.is_within(now, FLOOD_AHEAD):
            raise Dropped("FLOOD_LIMIT")
        copies, drops = self._copies(packet, way, judge, now)
        passed_over = 0
        if way.only_open and self.topology.has_open_ports(packet.network):
            ports = self.topology.ports_of(packet.network)
            passed_over = sum(port.port_security and port is not packet.port for port in ports)
        frame = delivered(packet, self._dscp(packet.port))
        copies += tuple((host, frame) for host in self._foreign_hosts(packet, way))
        budget.take(now, flood_seconds(packet, len(copies) + passed_over))
        return Outcome(Verdict.FLOODED, copies, drops)

    def _copies(
        self, packet: Packet, way: Flood, judge: Judge, now: float
    ) -> tuple[tuple[tuple[str, bytes], ...], tuple[Blame, ...]]:
        """For ports of this host, and the drops on the way there."""
        frame = delivered(packet, self._dscp(packet.port))
        copies, drops = [], []
        for port in self.topology.ports_of(packet.network):
            if port is packet.port or (way.only_open and port.port_security):
                continue
            if not judge.may_enter(packet, port):
                drops.append(Blame(port.id, "DROP_POLICY_TO_VM"))
            elif not self._pace_receiver(port, now):
                drops.append(Blame(port.id, "DROP_PACKET_RATE_TO_VM"))
            else:
                copies.append((port.id, frame))
        return tuple(copies), tuple(drops)

    def _foreign_hosts(self, packet: Packet, way: Flood) -> list[str]:
        """Those that get a copy: what nobody known has, where they may have it."""
        if way.only_open and not self.topology.learns(packet.network):
            return []
        return _foreign_members(packet.network)

    def _host_of(self, end: Port) -> str:
        """Who is to get what is for it: a machine behind a foreign VTEP has none of its own."""
        if not is_elsewhere(end):
            return end.id
        return _foreign_host(end.host, self.topology.network_of(end))

    def _dscp(self, port: Port) -> int | None:
        qos = self.topology.qos(port)
        return qos.dscp if qos else None

    # ---- rates ----------------------------------------------------------------------

    def _pace_sender(self, packet: Packet, now: float) -> None:
        qos = self.topology.qos(packet.port)
        limit = qos.packet_rate_from_vm if qos else None
        if not _may_pass(self._sending[packet.port.id], limit, now):
            raise Dropped("PACKET_RATE_FROM_VM")

    def _pace_receiver(self, port: Port, now: float) -> bool:
        qos = self.topology.qos(port)
        limit = qos.packet_rate_to_vm if qos else None
        return _may_pass(self._receiving[port.id], limit, now)

    # ---- the end ----------------------------------------------------------------------

    def _finish(self, packet: Packet, way: Way | None, end: End, now: float) -> Outcome:
        port, back = packet.port.id, self._host_of(packet.port)
        if isinstance(end, Answered):
            return Outcome(Verdict.ANSWERED, ((back, end.frame),))
        if isinstance(end, Consumed):
            return Outcome(Verdict.CONSUMED)
        assert isinstance(end, Dropped)
        drops = (Blame(end.port or port, end.reason),)
        if isinstance(way, Nowhere) and way.wanted is not None and end is way.drop:
            asked = self._ask(packet, way.wanted, now)
            if asked is not None:
                return asked
        told = None
        if end.tell is not None:
            told = error_frame(packet, end.tell, way.speaker if way else None)
        if told is None or not self._budgets[port].take(now):
            return Outcome(Verdict.DROPPED, (), drops)
        return Outcome(Verdict.DROPPED, ((back, told),), drops)

    def _ask(self, packet: Packet, wanted: Wanted, now: float) -> Outcome | None:
        """Instead of telling the sender; None: nobody answered."""
        if self._questions.is_hopeless(wanted, now):
            return None
        asked = Outcome(Verdict.DROPPED, (), (Blame(packet.port.id, "DROP_NEIGHBOR_ASKED"),))
        if not self._questions.is_due(wanted, now):
            return asked
        budget = self._flooding[packet.port.id]
        if not is_elsewhere(packet.port) and not budget.is_within(now, FLOOD_AHEAD):
            return Outcome(Verdict.DROPPED, (), (Blame(packet.port.id, "DROP_FLOOD_LIMIT"),))
        self._questions.note(wanted, now)
        network = self.topology.networks[wanted.asker.interface.network_id]
        hosts = _foreign_members(network)
        budget.take(now, (BROADCAST_UNITS + len(hosts)) / FLOOD_UNITS_PER_SECOND)
        return replace(asked, questions=tuple((host, question(wanted)) for host in hosts))


def _foreign_host(name: str, network: Network) -> str:
    """A foreign host, and in which network it gets something."""
    return f"{name} {network.vni}"


def _foreign_members(network: Network) -> list[str]:
    return [_foreign_host(member.host, network) for member in network.foreign_members]


def _as_of_tunnel(end: End) -> End:
    return Dropped("TUNNEL_MALFORMED") if getattr(end, "reason", "") == "DROP_MALFORMED" else end


def _may_pass(pace: Pace, limit: PacketRateLimit | None, now: float) -> bool:
    return limit is None or pace.may_take(now, 1 / limit.rate, limit.burst)
