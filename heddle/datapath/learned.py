"""What the data plane has learned from packets: who is behind ports without port
security, and which addresses of their pairs other ports have announced."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from heddle.datapath.codec import Row
from heddle.datapath.loader import Datapath

_NS = 1_000_000_000
# The kernel makes room in a table before its last rows are taken: it gives each CPU
# some of them in advance (kernel/bpf/bpf_lru_list.c, LOCAL_FREE_TARGET).
_FULL = 15 / 16
_TABLES = {
    "open_macs": "MACs behind ports without port security",
    "open_addresses": "addresses behind ports without port security",
    "learned_macs": "MACs of address pairs and foreign hosts",
    "learned_addresses": "addresses of address pairs and foreign hosts",
}


class Behind(NamedTuple):
    """How many MACs and addresses are known behind a port, and how many of each can
    be: the oldest makes room for one more."""

    macs: int
    addresses: int
    limit: int

    @property
    def is_full(self) -> bool:
        return max(self.macs, self.addresses) >= self.limit


class Announced(NamedTuple):
    """The same of addresses that a port has announced, as its address pairs allow."""

    addresses: int
    limit: int

    @property
    def is_full(self) -> bool:
        return self.addresses >= self.limit


class Learned(NamedTuple):
    """By the device of the port; of whom nothing is known is not in it. ``full``: what
    there is no more room for, of all ports together."""

    guests: dict[int, Behind]
    announced: dict[int, Announced]
    full: tuple[str, ...]


def read_learned(datapath: Datapath) -> Learned:
    tables = {name: list(_rows(datapath, name)) for name in _TABLES}
    macs, addresses = (_fresh(datapath, tables[name]) for name in ("open_macs", "open_addresses"))
    most = datapath.abi.value("OPEN_PORT_MAX")
    room = datapath.abi.value("PAIRS_PORT_MAX")
    announced = _by_port(datapath, tables["learned_addresses"])
    return Learned(
        {ifindex: Behind(macs[ifindex], addresses[ifindex], most) for ifindex in macs | addresses},
        {ifindex: Announced(count, room) for ifindex, count in announced.items()},
        tuple(
            what
            for name, what in _TABLES.items()
            if len(tables[name]) >= _FULL * datapath.table(name).max_entries
        ),
    )


def _rows(datapath: Datapath, table: str) -> Iterator[Row]:
    _, value = datapath.abi.table_types(table)
    return (value.unpack(raw) for _, raw in datapath.table(table).items())


def _fresh(datapath: Datapath, rows: list[Row]) -> Counter[int]:
    """By port, those that still count."""
    oldest = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    oldest -= datapath.abi.value("OPEN_SECONDS") * _NS
    return _by_port(datapath, [row for row in rows if row["heard_at"] >= oldest])


def _by_port(datapath: Datapath, rows: list[Row]) -> Counter[int]:
    here = datapath.abi.value("ENDPOINT_PORT")
    return Counter(row["target"] for row in rows if row["kind"] == here)
