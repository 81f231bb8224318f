"""Connections of a machine that moves to another host, or comes from one.

On their way they are a string of ``struct connection_record`` (bpf/shared/abi.h)
in which nothing belongs to a host: in place of ifindexes stand numbers of ends,
n for the n-th port of the machine and 0 for an end elsewhere, and in place of
times their ages. Departure makes such strings, Arrival takes them in. What ports of
this host have with one that has left is made anew by ``follow_machine``.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from heddle.datapath.abi import Abi
from heddle.datapath.addresses import address_text, with_port
from heddle.datapath.codec import partial_layout
from heddle.datapath.flows import ICMP_PROTOCOLS, KEY_FIELDS, reply_ports
from heddle.datapath.loader import Datapath
from heddle.datapath.testrun import run
from heddle.errors import KernelError
from heddle.intent.protocols import protocol_name

OBJECT = Path(__file__).parent / "objects" / "adopt_connections.bpf.o"
PROGRAM = "adopt_connections"

_ELSEWHERE = 0  # number of an end that is no port of the machine
_ETHERNET_HEADER = bytes(12) + b"\x88\xb5"  # local experimental, IEEE 802
_FRAME_BYTES = 3500  # what BPF_PROG_TEST_RUN takes in a page
_LOOPBACK = 1  # a device that every network namespace has

_FLOW_FIELDS = (
    "used_at",
    "packets",
    "bytes",
    "other_ifindex",
    "role",
    "state",
    "connection_flags",
    "from_rule",
    "to_rule",
    "opened_at",
)
_RECORD_FIELDS = (
    "other_ifindex",
    "from_rule",
    "to_rule",
    "role",
    "state",
    "connection_flags",
    "has_ended",
    "is_awaited_no_more",
    "opened_at",
    "used_at",
    "packets",
    "bytes",
    "reply_packets",
    "reply_bytes",
)


class End(NamedTuple):
    """A port of the moving machine as one host sees it."""

    ifindex: int
    elsewhere: int  # what stands in flow keys for ends on other hosts, seen from this port


def ends_of(datapath: Datapath, ifindexes: Iterable[int | None]) -> list[End]:
    """Of a machine's ports, in the order of its NICs. Those without link or row are
    left out, which both hosts see alike or not at all."""
    table, abi = datapath.table("ports"), datapath.abi
    key, value = abi.table_types("ports")
    zone = abi.value("TUNNEL_ZONE")
    ends = []
    for ifindex in ifindexes:
        raw = table.get(key.pack(ifindex)) if ifindex else None
        if ifindex and raw is not None:
            ends.append(End(ifindex, zone | value.unpack(raw)["network"]))
    return ends


class _Flow(NamedTuple):
    used_at: int
    packets: int
    bytes: int
    other_ifindex: int
    role: int
    state: int
    connection_flags: int
    from_rule: int
    to_rule: int
    opened_at: int


class _Layouts:
    """Structs of the object, packed and unpacked as tuples: there may be many."""

    def __init__(self, abi: Abi) -> None:
        record = abi.codec("connection_record")
        self.key = partial_layout(abi.codec("flow_key"), KEY_FIELDS)
        self.flow = partial_layout(abi.codec("flow"), _FLOW_FIELDS)
        self.record = partial_layout(record, _RECORD_FIELDS)
        offsets = {field.name: field.offset for field in record.members}
        self.content = slice(offsets["from_rule"], offsets["has_ended"])
        self.ended = offsets["has_ended"]
        self.awaited = offsets["is_awaited_no_more"]
        self.key_bytes = offsets["other_ifindex"]

    def ends_of(self, name: bytes) -> tuple[int, int]:
        """The numbers of both ends in what names a record."""
        other = name[self.key_bytes : self.key_bytes + 4]
        return int.from_bytes(name[:4], "little"), int.from_bytes(other, "little")

    def describe(self, record: bytes) -> str:
        """``tcp 10.0.0.2:40000 to 10.0.0.3:80``; ports only where there are any."""
        _, *ports, protocol, source, destination = self.key.unpack(record[: self.key.size])
        words = [address_text(source), address_text(destination)]
        if protocol not in ICMP_PROTOCOLS:
            words = [with_port(*end) for end in zip(words, map(socket.ntohs, ports), strict=True)]
        return f"{protocol_name(protocol)} {words[0]} to {words[1]}"

    def pack(self, key: bytes, *values: int) -> bytes:
        """A record; its key is its first member."""
        return key + self.record.pack(*values)[len(key) :]

    def pack_flow(
        self,
        key: bytes,
        ends: tuple[int, int],
        flow: _Flow,
        times: tuple[int, int],
        reply: tuple[int, int] = (0, 0),
    ) -> bytes:
        """The record of a connection between these ends, under the key that it has
        here. ``times``: opened and used; ``reply``: packets and bytes."""
        opener, other = ends
        decided = (flow.from_rule, flow.to_rule, flow.role, flow.state, flow.connection_flags)
        counts = (flow.packets, flow.bytes, *reply)
        name = opener.to_bytes(4, "little") + key[4:]
        return self.pack(name, other, *decided, False, False, *times, *counts)


class Departure:
    """The connections of a machine's ports on the host that it leaves."""

    def __init__(self, datapath: Datapath, ends: Sequence[End]) -> None:
        self._datapath = datapath
        self._numbers = {end.ifindex: number for number, end in enumerate(ends, start=1)}
        self._layouts = _Layouts(datapath.abi)
        self._reply = datapath.abi.value("FLOW_REPLY")
        self._zone = datapath.abi.value("TUNNEL_ZONE")
        self._told: dict[bytes, bytes] = {}  # what the other host knows

    @property
    def record_bytes(self) -> int:
        return self._layouts.record.size

    def bulk(self) -> bytes:
        """Records of all connections."""
        self._told.clear()
        return self.delta()

    def delta(self) -> bytes:
        """Records of what has changed since the last call, for ``Arrival.adopt``."""
        told, changed = {}, []
        entries, now = dict(self._datapath.table("flows").items()), time.monotonic_ns()
        for record in chain(self._records(entries, now), self._followed(entries, now)):
            name, content = self._split(record)
            told[name] = content
            if self._told.get(name) != content:
                changed.append(record)
        ended = [self._ended(name) for name in self._told.keys() - told.keys()]
        self._told = told
        return b"".join(ended + changed)

    def _split(self, record: bytes) -> tuple[bytes, bytes]:
        """What names a connection, and what of it the other host must know."""
        content = self._layouts.content
        return record[: content.start], record[content]

    def _ended(self, name: bytes) -> bytes:
        record = bytearray(name.ljust(self._layouts.record.size, b"\0"))
        record[self._layouts.ended] = 1
        return bytes(record)

    def _records(self, entries: Mapping[bytes, bytes], now: int) -> Iterator[bytes]:
        """Of connections that have an end at one of the ports."""
        for key, flow in self._openers(entries):
            ends = self._numbers_of(key, flow)
            if any(ends):
                yield self._record(key, ends, flow, self._reply_to(entries, key, flow), now)

    def _followed(self, entries: Mapping[bytes, bytes], now: int) -> Iterator[bytes]:
        """Of those that had, and whose packets have shown by now that it is elsewhere:
        they have not ended. What the other host knows them by stays."""
        there = {
            key[4:]: (key, flow)
            for key, flow in self._openers(entries)
            if not any(self._numbers_of(key, flow))
            and self._zone & (int.from_bytes(key[:4], "little") | flow.other_ifindex)
        }
        for name in self._told:
            if (found := there.get(name[4 : self._layouts.key_bytes])) is not None:
                key, flow = found
                ends = self._layouts.ends_of(name)
                yield self._record(key, ends, flow, self._reply_to(entries, key, flow), now)

    def _openers(self, entries: Mapping[bytes, bytes]) -> Iterator[tuple[bytes, _Flow]]:
        unpack = self._layouts.flow.unpack
        for key, raw in entries.items():
            flow = _Flow._make(unpack(raw))
            if flow.role != self._reply:
                yield key, flow

    def _numbers_of(self, key: bytes, flow: _Flow) -> tuple[int, int]:
        opener = self._numbers.get(int.from_bytes(key[:4], "little"), _ELSEWHERE)
        return opener, self._numbers.get(flow.other_ifindex, _ELSEWHERE)

    def _record(
        self, key: bytes, ends: tuple[int, int], flow: _Flow, reply: _Flow | None, now: int
    ) -> bytes:
        used_at = max(flow.used_at, reply.used_at if reply else 0)
        ages = max(now - flow.opened_at, 0), max(now - used_at, 0)
        counts = (reply.packets, reply.bytes) if reply else (0, 0)
        return self._layouts.pack_flow(key, ends, flow, ages, counts)

    def _reply_to(self, entries: Mapping[bytes, bytes], key: bytes, flow: _Flow) -> _Flow | None:
        _, source_port, destination_port, protocol, source, destination = self._layouts.key.unpack(
            key
        )
        ports = reply_ports(protocol, source_port, destination_port)
        reverse = self._layouts.key.pack(flow.other_ifindex, *ports, protocol, destination, source)
        raw = entries.get(reverse)
        return _Flow._make(self._layouts.flow.unpack(raw)) if raw else None


class Arrival:
    """Takes in connections on the host that a machine comes to.

    Loads a program, which ``close`` lets go of; what it made stays.
    """

    def __init__(self, datapath: Datapath, ends: Sequence[End]) -> None:
        """``ends`` are the same ports in the same order as on the other host."""
        self._datapath = datapath
        self._ends = tuple(ends)
        self._layouts = _Layouts(datapath.abi)
        self._adopter = _Adopter(datapath)
        self._awaited: list[bytes] = []  # made, and kept although none of their packets come

    def adopt(
        self, records: bytes, *, keep_seconds: float = 0.0, away_seconds: float = 0.0
    ) -> list[str]:
        """Make, change or end what the records say; returns those for which the table has
        no room, in words. For ``keep_seconds`` a connection counts as used
        even if none of its packets are seen here yet, or until ``has_come``. Of records that are
        ``away_seconds`` old, those that have timed out meanwhile are not made.

        KernelError when the records are those of another version of heddle.
        """
        size = self._layouts.record.size
        if len(records) % size:
            raise KernelError(
                "connections come from a host with another version of heddle: "
                "upgrade both, or migrate without them"
            )
        now = time.monotonic_ns()
        keep_until = now + int(keep_seconds * 1e9) if keep_seconds else 0
        then = now - int(max(away_seconds, 0.0) * 1e9)
        own = [
            self._own(records[start : start + size], then, keep_until)
            for start in range(0, len(records), size)
        ]
        if keep_until:
            self._awaited += own
        return [self._layouts.describe(record) for record in self._adopter.adopt(own)]

    @property
    def record_bytes(self) -> int:
        return self._layouts.record.size

    def has_come(self) -> None:
        """The machine is here: its connections last as long as they do without a
        migration, from now on."""
        at = self._layouts.awaited
        awaited, self._awaited = self._awaited, []
        self._adopter.adopt([record[:at] + b"\1" + record[at + 1 :] for record in awaited])

    def close(self) -> None:
        self._adopter.close()

    def _own(self, record: bytes, then: int, keep_until: int) -> bytes:
        """The record with this host's ifindexes and times; its ages are those of
        ``then``."""
        opener = int.from_bytes(record[:4], "little")
        other, *rest = self._layouts.record.unpack(record)
        age, idle = rest[7:9]
        ends = self._ifindexes(opener, other)
        rest[7:9] = max(then - age, 1), max(then - idle, keep_until, 1)
        key = ends[0].to_bytes(4, "little") + record[4 : self._layouts.key_bytes]
        return self._layouts.pack(key, ends[1], *rest)

    def _ifindexes(self, opener: int, other: int) -> tuple[int, int]:
        if not 0 < max(opener, other) <= len(self._ends):
            raise KernelError("connections name other ports than the machine has: migrate it again")
        near = self._ends[max(opener, other) - 1]

        def ifindex(number: int) -> int:
            return near.elsewhere if number == _ELSEWHERE else self._ends[number - 1].ifindex

        return ifindex(opener), ifindex(other)


class _Adopter:
    """The program that makes entries, of records with ifindexes and times of this host."""

    def __init__(self, datapath: Datapath) -> None:
        self._program = datapath.load_beside(OBJECT, PROGRAM)
        self._flows = datapath.table("flows")
        record_bytes = datapath.abi.codec("connection_record").size
        self._per_run = (_FRAME_BYTES - len(_ETHERNET_HEADER)) // record_bytes

    def adopt(self, records: Sequence[bytes]) -> list[bytes]:
        """Returns those that it could not make."""
        failed = []
        for at in range(0, len(records), self._per_run):
            batch = records[at : at + self._per_run]
            if self._run(batch) < len(batch):
                failed += [record for record in batch if self._is_missing(record)]
        return failed

    def close(self) -> None:
        self._program.close()

    def _is_missing(self, record: bytes) -> bool:
        return self._flows.get(record[: self._flows.key_size]) is None

    def _run(self, records: Sequence[bytes]) -> int:
        frame = _ETHERNET_HEADER + b"".join(records)
        return run(self._program.fd, frame, ifindex=_LOOPBACK).verdict


def follow_machine(datapath: Datapath, ifindexes: Iterable[int]) -> int:
    """Ports at these devices have left for another host, and their rows are about to
    go: make their connections with ports that stay anew as connections with that
    host, as packets would do, for those that have no packets just now. Returns how
    many connections there were."""
    left, layouts = frozenset(ifindexes), _Layouts(datapath.abi)
    reply = datapath.abi.value("FLOW_REPLY")
    found: dict[bytes, tuple[_Flow, int]] = {}  # of perhaps very many: the others are let go
    for key, raw in datapath.table("flows").items():
        flow = _Flow._make(layouts.flow.unpack(raw))
        ends = (int.from_bytes(key[:4], "little"), flow.other_ifindex)
        if flow.role != reply and len(left.intersection(ends)) == 1:
            (staying,) = (end for end in ends if end not in left)
            found[key] = flow, staying
    # An end that is at a third host already is no port.
    ports = {end.ifindex: end for end in ends_of(datapath, {end for _, end in found.values()})}
    records = [
        _moved(layouts, key, flow, left, ports[staying])
        for key, (flow, staying) in found.items()
        if staying in ports
    ]
    if records:
        with closing(_Adopter(datapath)) as adopter:
            adopter.adopt(records)
    return len(records)


def _moved(layouts: _Layouts, key: bytes, flow: _Flow, left: frozenset[int], staying: End) -> bytes:
    """The record of a connection of which one end has left."""
    opener = int.from_bytes(key[:4], "little")
    opener, other = (
        staying.elsewhere if end in left else end for end in (opener, flow.other_ifindex)
    )
    return layouts.pack_flow(key, (opener, other), flow, (flow.opened_at, flow.used_at))
