"""The flow table as it is read from outside: connections, and how full it is."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from typing import NamedTuple

from heddle.datapath.abi import Abi
from heddle.datapath.codec import partial_layout
from heddle.datapath.loader import Datapath

_ENTRIES_PER_CONNECTION = 2  # one for each direction

# ICMP and ICMPv6 echo: the type of the answer by that of the question, and back.
_ECHO_COUNTERPART = {8: 0, 0: 8, 128: 129, 129: 128}
ICMP_PROTOCOLS = (1, 58)


class Connection(NamedTuple):
    """One connection, or one direction of traffic that has none (``tracked``
    is False then). Addresses are 16 bytes; of ICMP the source port is the
    identifier and the destination port type and code. Times are in ns of
    CLOCK_MONOTONIC."""

    tracked: bool
    state: str  # an enumerator of connection_state without CONNECTION_
    protocol: int
    from_ifindex: int  # of the port that opened it
    to_ifindex: int
    source: bytes
    destination: bytes
    source_port: int
    destination_port: int
    opened_at: int
    used_at: int
    packets: int  # from the opener
    bytes: int
    reply_packets: int
    reply_bytes: int
    from_rule: int  # number of the rule at the opener's end; 0: none was needed
    to_rule: int


class Usage(NamedTuple):
    """How much of the flow table is in use."""

    connections: int
    capacity: int
    by_ifindex: dict[int, int]  # connections, by the port that opened them

    @property
    def is_full(self) -> bool:
        return self.connections >= self.capacity

    def limit(self, connections_max: int) -> int:
        """Connections that a port may have now: as many as the table has left
        free (a dynamic threshold), and ``connections_max`` if that is not 0."""
        free = max(self.capacity - self.connections, 0)
        return min(free, connections_max) if connections_max else free


def read_usage(datapath: Datapath) -> Usage:
    """How full the flow table is, and by whom."""
    _, value = datapath.abi.table_types("usage")
    unused = bytes(value.size)
    total = datapath.table("total_usage").get(bytes(4)) or unused
    rows = [value.unpack(raw) for _, raw in datapath.table("usage").items() if raw != unused]
    by_ifindex = {row["ifindex"]: row["connections"] for row in rows}
    capacity = datapath.abi.value("FLOWS_MAX") // _ENTRIES_PER_CONNECTION
    return Usage(value.unpack(total)["connections"], capacity, by_ifindex)


def read_connections(
    datapath: Datapath, ifindexes: Container[int] | None = None
) -> Iterator[Connection]:
    """All connections, or those with an end at one of these devices."""
    entries = dict(datapath.table("flows").items())
    decoder = _Decoder(datapath.abi)
    for connection in decoder.connections(entries):
        if (
            ifindexes is None
            or connection.from_ifindex in ifindexes
            or connection.to_ifindex in ifindexes
        ):
            yield connection


# In the order of the structs. As tuples: a hundred thousand dicts are slow.
KEY_FIELDS = (
    "ifindex",
    "source_port_be",
    "destination_port_be",
    "l4_protocol",
    "source",
    "destination",
)
_FLOW_FIELDS = (
    "ifindex",
    "used_at",
    "packets",
    "bytes",
    "other_ifindex",
    "role",
    "state",
    "from_rule",
    "to_rule",
    "opened_at",
)


class _Entry(NamedTuple):
    """What is read of a struct flow."""

    ifindex: int
    used_at: int
    packets: int
    bytes: int
    other_ifindex: int
    role: int
    state: int
    from_rule: int
    to_rule: int
    opened_at: int

    @property
    def to_ifindex(self) -> int:
        return self.other_ifindex or self.ifindex


class _Decoder:
    """Puts the entries of both directions together."""

    def __init__(self, abi: Abi) -> None:
        self._key = partial_layout(abi.codec("flow_key"), KEY_FIELDS)
        self._flow = partial_layout(abi.codec("flow"), _FLOW_FIELDS)
        self._reply = abi.value("FLOW_REPLY")
        self._untracked = abi.value("FLOW_UNTRACKED")
        states = abi.enum("connection_state")
        self._states = {int(state): state.name.removeprefix("CONNECTION_") for state in states}

    def connections(self, entries: Mapping[bytes, bytes]) -> Iterator[Connection]:
        """The entry of a reply is part of another's connection."""
        for raw_key, raw in entries.items():
            entry = _Entry._make(self._flow.unpack(raw))
            if entry.role != self._reply:
                yield self._connection(entries, raw_key, entry)

    def _connection(
        self, entries: Mapping[bytes, bytes], raw_key: bytes, entry: _Entry
    ) -> Connection:
        ifindex, source_port, destination_port, protocol, source, destination = self._key.unpack(
            raw_key
        )
        reply = self._reply_to(entries, raw_key, entry)
        return Connection(
            tracked=entry.role != self._untracked,
            state=self._states.get(entry.state, str(entry.state)),
            protocol=protocol,
            from_ifindex=ifindex,
            to_ifindex=entry.to_ifindex,
            source=source,
            destination=destination,
            source_port=_swapped(source_port),
            destination_port=_swapped(destination_port),
            opened_at=entry.opened_at,
            used_at=max(entry.used_at, reply.used_at if reply else 0),
            packets=entry.packets,
            bytes=entry.bytes,
            reply_packets=reply.packets if reply else 0,
            reply_bytes=reply.bytes if reply else 0,
            from_rule=entry.from_rule,
            to_rule=entry.to_rule,
        )

    def _reply_to(
        self, entries: Mapping[bytes, bytes], raw_key: bytes, entry: _Entry
    ) -> _Entry | None:
        """The entry of the other direction."""
        if entry.role == self._untracked:
            return None
        _, source_port, destination_port, protocol, source, destination = self._key.unpack(raw_key)
        ports = reply_ports(protocol, source_port, destination_port)
        reverse = self._key.pack(entry.to_ifindex, *ports, protocol, destination, source)
        raw = entries.get(reverse)
        return _Entry._make(self._flow.unpack(raw)) if raw else None


def reply_ports(protocol: int, source_port: int, destination_port: int) -> tuple[int, int]:
    """The ports of a packet's answer, all in network order. Echo keeps its identifier."""
    if protocol not in ICMP_PROTOCOLS:
        return destination_port, source_port
    question = _swapped(destination_port) >> 8
    return source_port, _swapped(_ECHO_COUNTERPART.get(question, 0) << 8)


def _swapped(port: int) -> int:
    """From network order to host order, or back."""
    return (port & 0xFF) << 8 | port >> 8
