"""connections: what was begun with leave goes on in both directions.

A connection is known by the ports of both ends (of a machine behind a foreign VTEP by
the network of the port that it talks to), addresses, protocol, and L4 ports
or echo identifier. States of TCP are those of RFC 9293 3.3.2 as somebody between
the ends sees them; windows are not checked, so any ACK acknowledges a FIN.
Timeouts are the defaults of Linux' conntrack.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto

from heddle.intent.model import Port
from reference import wire
from reference.fragments import is_echo
from reference.packet import Fragment, Packet

FIN, SYN, RST, ACK = 1, 2, 4, 16
ECHO_REPLY4, ECHO_REPLY6 = 0, 129
COUNTERPART = {0: 8, 8: 0, 128: 129, 129: 128}  # echo request and reply
BEHIND = "behind"  # instead of a machine: behind a foreign VTEP
CAPACITY = 524288 // 2  # connections of all ports


class State(Enum):
    NEW = auto()  # not TCP, no reply yet
    ASSURED = auto()  # not TCP, replied
    SYN_SENT = auto()
    SYN_RECEIVED = auto()
    ESTABLISHED = auto()
    FIN_WAIT = auto()  # one side has sent FIN,
    CLOSE_WAIT = auto()  # the other acknowledged it
    LAST_ACK = auto()  # both have sent FIN
    TIME_WAIT = auto()
    CLOSED = auto()  # RST


TCP_TIMEOUTS = {
    State.SYN_SENT: 120,
    State.SYN_RECEIVED: 60,
    State.ESTABLISHED: 432000,
    State.FIN_WAIT: 120,
    State.CLOSE_WAIT: 60,
    State.LAST_ACK: 30,
    State.TIME_WAIT: 120,
    State.CLOSED: 10,
}
UNACKNOWLEDGED = 300  # picked up in its midst, and not answered yet
ENDED = (State.TIME_WAIT, State.CLOSED)
# In which both sides may send a SYN (RFC 9293 3.5, simultaneous open).
OPENING = (State.NEW, State.SYN_SENT, State.SYN_RECEIVED)


def is_elsewhere(port: Port) -> bool:
    """Is it a machine behind a foreign VTEP?"""
    return port.machine_id == BEHIND


def place_of(end: Port, other: Port | None) -> str:
    """What one end of a connection is known by."""
    return f"elsewhere of {other.network_id}" if is_elsewhere(end) and other else end.id


@dataclass(frozen=True)
class Tuple:
    """One direction. ``source_id`` and ``destination_id`` are ports; of an echo
    the identifier and the type; of other protocols both are 0."""

    protocol: int
    source: wire.IpAddress
    destination: wire.IpAddress
    source_id: int = 0
    destination_id: int = 0

    def reversed(self) -> Tuple:
        back = Tuple(self.protocol, self.destination, self.source)
        if self.protocol == (wire.ICMP if self.source.version == 4 else wire.ICMPV6):
            ids = (self.source_id, COUNTERPART[self.destination_id])
        else:
            ids = (self.destination_id, self.source_id)
        return Tuple(back.protocol, back.source, back.destination, *ids)


def tuple_of(packet: Packet) -> Tuple | None:
    """None: this kind of packet belongs to no connection of its own."""
    if packet.is_orphan or packet.is_dhcp or wire.is_group(packet.destination_mac):
        return None
    ids = (packet.source_port, packet.destination_port)
    if packet.is_icmp:
        if not is_echo(packet):
            return None
        ids = (packet.icmp_id, packet.icmp_type)
    return Tuple(packet.protocol, packet.source, packet.destination, *ids)


@dataclass
class Connection:
    """``tracked``: False where all that allowed it is stateless. It then only
    takes up its place."""

    opener: Port
    other: Port
    direction: Tuple  # of the opener's packets
    tracked: bool
    state: State
    used_at: float
    closer: str | None = field(default=None)  # who sent the first FIN
    replied: bool = False

    @property
    def timeout(self) -> float:
        if self.state is State.ESTABLISHED and not self.replied:
            return UNACKNOWLEDGED
        if self.state in TCP_TIMEOUTS:
            return TCP_TIMEOUTS[self.state]
        if self.direction.protocol in (wire.UDP, wire.UDPLITE):
            return 30 if self.state is State.NEW else 120
        return 30 if self.direction.protocol in (wire.ICMP, wire.ICMPV6) else 600

    def is_reply(self, packet: Packet) -> bool:
        return tuple_of(packet) != self.direction

    @property
    def ends(self) -> tuple[str, str]:
        return self.opener.id, self.other.id

    @property
    def payer(self) -> str:
        """The port that opened it, or that has it with a machine elsewhere."""
        return (self.other if is_elsewhere(self.opener) else self.opener).id

    def advance(self, packet: Packet, now: float) -> None:
        self.used_at = now
        if not self.tracked:
            return
        is_reply = self.is_reply(packet)
        self.replied |= is_reply
        if self.direction.protocol != wire.TCP:
            if is_reply:
                self.state = State.ASSURED
        elif packet.fragment is not Fragment.LATER:
            self._advance_tcp(packet.port.id, packet.tcp_flags, is_reply=is_reply)

    def _advance_tcp(self, sender: str, flags: int, *, is_reply: bool) -> None:
        state = self.state
        if flags & RST:
            self.state = State.CLOSED
        elif flags & SYN:
            if state is State.SYN_SENT and is_reply:
                self.state = State.SYN_RECEIVED
        elif state in (State.SYN_RECEIVED, State.ESTABLISHED):
            if flags & FIN:
                self.state, self.closer = State.FIN_WAIT, sender
            elif flags & ACK and not is_reply:
                self.state = State.ESTABLISHED
        elif state in (State.FIN_WAIT, State.CLOSE_WAIT) and sender != self.closer:
            if flags & FIN:
                self.state = State.LAST_ACK
            elif flags & ACK:
                self.state = State.CLOSE_WAIT
        elif state is State.LAST_ACK and sender == self.closer and flags & ACK:
            self.state = State.TIME_WAIT


def may_open(packet: Packet) -> bool:
    """An ACK may: the connection can be older than our memory (as with Linux'
    nf_conntrack_tcp_loose). What answers or ends something may not."""
    if packet.is_icmp:
        return packet.icmp_type not in (
            (ECHO_REPLY4,) if packet.version == 4 else (ECHO_REPLY6,)
        ) and not is_icmp_error(packet)
    if packet.protocol != wire.TCP or packet.fragment is Fragment.LATER:
        return True
    if packet.tcp_flags & (FIN | RST):
        return False
    return bool(packet.tcp_flags & SYN) != bool(packet.tcp_flags & ACK)


def begins(packet: Packet) -> bool:
    """Is it a SYN that acknowledges none?"""
    return packet.tcp_flags & (SYN | ACK) == SYN


def has_odd_flags(packet: Packet) -> bool:
    """SYN with FIN or RST, or FIN without ACK: no TCP sends that (RFC 9293 3.10.7)."""
    flags = packet.tcp_flags & (FIN | SYN | RST | ACK)
    return flags == FIN or bool(flags & SYN and flags & (FIN | RST))


def is_icmp_error(packet: Packet) -> bool:
    """Destination unreachable, redirect, time exceeded, parameter problem
    (RFC 792); all whose type has no highest bit (RFC 4443 2.1)."""
    errors = (3, 5, 11, 12) if packet.version == 4 else range(128)
    return packet.is_icmp and packet.fragment is not Fragment.LATER and packet.icmp_type in errors


class Connections:
    """All connections, found from either direction."""

    def __init__(self) -> None:
        self._by_end: dict[tuple[str, Tuple], Connection] = {}

    def find(
        self, sender: Port, receiver: Port | None, direction: Tuple, now: float
    ) -> Connection | None:
        """``receiver``: who gets the packet, None: nobody."""
        found = self._by_end.get((place_of(sender, receiver), direction))
        if found is not None and now - found.used_at >= found.timeout:
            self.end(found)
            return None
        return found

    def open(self, packet: Packet, receiver: Port, now: float, *, tracked: bool) -> None:
        direction = tuple_of(packet)
        assert direction is not None
        opened = Connection(
            packet.port, receiver, direction, tracked, _first_state(packet, tracked), now
        )
        self._put((place_of(packet.port, receiver), direction), opened)
        if tracked:
            self._put((place_of(receiver, packet.port), direction.reversed()), opened)

    def _put(self, end: tuple[str, Tuple], opened: Connection) -> None:
        """In place of whatever had the same addresses there."""
        if end in self._by_end:
            self.end(self._by_end[end])
        self._by_end[end] = opened

    def end(self, connection: Connection) -> None:
        ends = [
            (place_of(connection.opener, connection.other), connection.direction),
            (place_of(connection.other, connection.opener), connection.direction.reversed()),
        ]
        for end in ends:
            if self._by_end.get(end) is connection:
                del self._by_end[end]

    def may_open_another(self, port: str, most: int, now: float) -> bool:
        """As many as are left free (Choudhury and Hahne 1998), and no more than
        ``most`` unless that is 0."""
        own = total = 0
        for connection in list(self._all()):
            if now - connection.used_at < connection.timeout:
                total += 1
                own += connection.payer == port
        left = max(0, CAPACITY - total)
        return own < (min(most, left) if most else left)

    def _all(self) -> Iterator[Connection]:
        return iter({id(c): c for c in self._by_end.values()}.values())


def _first_state(packet: Packet, tracked: bool) -> State:
    if packet.protocol != wire.TCP or not tracked:
        return State.NEW
    return State.SYN_SENT if packet.tcp_flags & SYN else State.ESTABLISHED
