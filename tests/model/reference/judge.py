"""The policy stage: rules (policy.py) and connections (connections.py) together.

What opens a connection needs rules at both ends. What belongs to one needs none
in its own direction, as long as the rules would still let it be opened; but an
end that allowed it by stateless groups alone looks at every packet.
"""

from __future__ import annotations

from heddle.intent.model import Direction, Network, Port
from reference import wire
from reference.connections import (
    ENDED,
    OPENING,
    Connection,
    Connections,
    Tuple,
    begins,
    has_odd_flags,
    is_elsewhere,
    is_icmp_error,
    may_open,
    tuple_of,
)
from reference.ends import Dropped
from reference.guard import DHCP4_CLIENT, DHCP4_SERVER, DHCP6_CLIENT, DHCP6_SERVER
from reference.packet import Packet
from reference.policy import Answer, Question, ask
from reference.quote import quoted_tuple
from reference.topology import Topology
from reference.way import ToPort, Way


class Judge:
    def __init__(self, topology: Topology, connections: Connections) -> None:
        self._topology = topology
        self._connections = connections

    # ---- the stage -------------------------------------------------------------

    def judge(self, packet: Packet, way: Way, now: float) -> None:
        """May the packet go its way? Of a flooded one and one to heddle itself,
        and before the sender is told why a packet is dropped, this is about the
        sender alone."""
        if needs_no_rule(packet):
            self._judge_free(packet, way)
        elif isinstance(way, ToPort) and way.drop is None:
            self._judge_between(packet, way, now)
        elif not self._is_known(packet, way, now) and not self._may_leave(packet, way):
            raise Dropped("POLICY_FROM_VM")

    def _judge_free(self, packet: Packet, way: Way) -> None:
        """The sender needs no rule; whom it asks for an address is asked for one."""
        if isinstance(way, ToPort) and way.drop is None and not self.may_enter(packet, way.port):
            raise Dropped("POLICY_TO_VM", port=way.port.id)

    def may_enter(self, packet: Packet, receiver: Port) -> bool:
        """A flooded packet, for one of those who get a copy."""
        if needs_no_rule(packet) and not _asks_for_address(packet):
            return True
        question = _question(Direction.TO_VM, packet, packet.source, packet.network)
        return ask(self._topology, receiver, question) is not Answer.NO

    def _may_leave(self, packet: Packet, way: Way) -> bool:
        question = _question(Direction.FROM_VM, packet, packet.destination, way.network)
        return ask(self._topology, packet.port, question) is not Answer.NO

    def _is_known(self, packet: Packet, way: Way, now: float) -> bool:
        """Does it belong to a connection? Who may reply but not open must learn as
        well that a packet was too big. Whether the rules have changed since is
        asked when a packet passes."""
        direction = tuple_of(packet)
        if direction is None or way.drop is None:
            return False
        return self._connections.find(packet.port, None, direction, now) is not None

    def _judge_between(self, packet: Packet, way: ToPort, now: float) -> None:
        if packet.is_orphan:
            if packet.port.port_security or way.port.port_security:
                raise Dropped("FRAGMENT_ORPHAN")
            return
        if is_icmp_error(packet) and self._judge_related(packet, way, now):
            return
        direction = tuple_of(packet)
        found = self._connections.find(packet.port, way.port, direction, now) if direction else None
        if found is not None and not self._is_current(found, packet, way):
            self._connections.end(found)
            found = None
        if found is None or not found.tracked:
            self._judge_first(packet, way, now, known=found)
        else:
            self._judge_known(packet, way, found, now)

    # ---- without a connection ------------------------------------------------------

    def _judge_first(
        self, packet: Packet, way: ToPort, now: float, known: Connection | None
    ) -> None:
        questions = first_questions(packet, way.port, self._topology)
        answers = self._ask_both(*questions, packet.port, way.port)
        tracked = Answer.STATEFUL in answers
        if known is not None and (tracked or Answer.NO in answers):
            self._connections.end(known)  # the rules are others now
            known = None
        _require(answers, packet.port, way.port)
        if tracked and not may_open(packet):
            raise Dropped("CONNECTION_INVALID")
        if known is not None:
            known.advance(packet, now)
        elif tuple_of(packet) is not None:
            self._open(packet, way, now, tracked=tracked)

    def _open(self, packet: Packet, way: ToPort, now: float, *, tracked: bool) -> None:
        payer = way.port if is_elsewhere(packet.port) else packet.port
        if self._connections.may_open_another(payer.id, payer.connections_max, now):
            self._connections.open(packet, way.port, now, tracked=tracked)
        elif tracked:
            raise Dropped("CONNECTION_LIMIT")

    # ---- with one --------------------------------------------------------------------

    def _is_current(self, connection: Connection, packet: Packet, way: ToPort) -> bool:
        """Its other end may be another port by now, and a SYN after the end begins
        another one (RFC 9293 3.6.1)."""
        if {packet.port.id, way.port.id} != set(connection.ends):
            return False
        only_syn = begins(packet) and not has_odd_flags(packet)
        is_tcp = connection.direction.protocol == wire.TCP and connection.tracked
        return not (is_tcp and only_syn and connection.state in ENDED)

    def _judge_known(self, packet: Packet, way: ToPort, connection: Connection, now: float) -> None:
        opener, other = self._ends(connection)
        answers = self._opening(connection)
        try:
            _require(answers, opener, other)
        except Dropped:
            self._connections.end(connection)
            raise
        if has_odd_flags(packet):
            raise Dropped("CONNECTION_INVALID")
        if connection.is_reply(packet):
            if begins(packet) and connection.state not in OPENING:
                answers = (Answer.STATELESS, Answer.STATELESS)  # it is no reply
            self._judge_reply(packet, way, answers)
        connection.advance(packet, now)

    def _judge_reply(self, packet: Packet, way: ToPort, answers: tuple[Answer, Answer]) -> None:
        """``answers``: of the opener's end and of the other. Stateless ends need a
        rule for this packet."""
        if answers[1] is Answer.STATELESS and not self._may_leave(packet, way):
            raise Dropped("POLICY_FROM_VM")
        if answers[0] is Answer.STATELESS and not self.may_enter(packet, way.port):
            raise Dropped("POLICY_TO_VM", port=way.port.id)

    def _judge_related(self, packet: Packet, way: ToPort, now: float) -> bool:
        """An ICMP error about a packet that this port got from the one to which the
        error goes belongs to that packet's connection."""
        quoted = quoted_tuple(packet)
        if quoted is None or quoted.source != packet.destination:
            return False
        connection = self._connections.find(way.port, packet.port, quoted, now)
        if connection is None or not connection.tracked:
            return False
        if {packet.port.id, way.port.id} != set(connection.ends):
            return False
        from_opener, other = self._opening(connection)
        if Answer.NO in (from_opener, other):
            self._connections.end(connection)
            return False
        sent_by_opener = quoted == connection.direction
        answers = (from_opener, other) if sent_by_opener else (other, from_opener)
        self._judge_reply(packet, way, answers)
        return True

    def _ends(self, connection: Connection) -> tuple[Port, Port]:
        """As intent has them now."""
        opener, other = (self._topology.end(end) for end in connection.ends)
        assert opener is not None
        assert other is not None
        return opener, other

    # ---- rules ---------------------------------------------------------------------------

    def _opening(self, connection: Connection) -> tuple[Answer, Answer]:
        """What both ends say to its first packet now."""
        opener, other = self._ends(connection)
        way = connection.direction
        ports = _ids(way)
        return self._ask_both(
            Question(
                Direction.FROM_VM,
                way.source.version,
                way.protocol,
                ports,
                way.destination,
                self._topology.network_of(other),
            ),
            Question(
                Direction.TO_VM,
                way.source.version,
                way.protocol,
                ports,
                way.source,
                self._topology.network_of(opener),
            ),
            opener,
            other,
        )

    def _ask_both(
        self, leaving: Question, entering: Question, sender: Port, receiver: Port
    ) -> tuple[Answer, Answer]:
        return ask(self._topology, sender, leaving), ask(self._topology, receiver, entering)


def _require(answers: tuple[Answer, Answer], sender: Port, receiver: Port) -> None:
    if answers[0] is Answer.NO:
        raise Dropped("POLICY_FROM_VM", port=sender.id)
    if answers[1] is Answer.NO:
        raise Dropped("POLICY_TO_VM", port=receiver.id)


def needs_no_rule(packet: Packet) -> bool:
    """Without which no port could work: ARP, neighbor discovery, multicast
    listener reports, and asking for an address (of which this is about the
    sender alone)."""
    return packet.is_arp or packet.is_nd or packet.is_mld or _asks_for_address(packet)


def _asks_for_address(packet: Packet) -> bool:
    if packet.version == 4:
        return packet.has_ports(wire.UDP, DHCP4_CLIENT, DHCP4_SERVER)
    return packet.version == 6 and packet.has_ports(wire.UDP, DHCP6_CLIENT, DHCP6_SERVER)


def first_questions(
    packet: Packet, receiver: Port, topology: Topology
) -> tuple[Question, Question]:
    """Of the sender's end and the receiver's, about a packet that opens something."""
    there = topology.network_of(receiver)
    return (
        _question(Direction.FROM_VM, packet, packet.destination, there),
        _question(Direction.TO_VM, packet, packet.source, packet.network),
    )


def _question(
    direction: Direction, packet: Packet, peer: wire.IpAddress, network: Network | None
) -> Question:
    return Question(direction, packet.version, packet.protocol, _ports(packet), peer, network)


def _ports(packet: Packet) -> int | tuple[int, int] | None:
    if packet.is_orphan:
        return None
    return (packet.icmp_type, packet.icmp_code) if packet.is_icmp else packet.destination_port


def _ids(direction: Tuple) -> int | tuple[int, int]:
    is_icmp = direction.protocol == (wire.ICMP if direction.source.version == 4 else wire.ICMPV6)
    return (direction.destination_id, 0) if is_icmp else direction.destination_id
