"""What the data plane has learned from packets: who is behind ports without port
security, and which addresses of their pairs other ports have announced."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from heddle.datapath.loader import Datapath

_NS = 1_000_000_000
# The kernel makes room in a table before its last rows are taken: it gives each CPU
# some of them in advance (kernel/bpf/bpf_lru_list.c, LOCAL_FREE_TARGET).
_FULL = 15 / 16
# In which the oldest rows make room, and what they are.
_TABLES = {
    "open_macs": "MACs behind ports without port security",
    "open_addresses": "addresses behind ports without port security",
    "learned_macs": "MACs of address pairs and foreign hosts",
    "learned_addresses": "addresses of address pairs and foreign hosts",
    "drops": "counters of drops, by port and reason",
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
    tables = {name: list(datapath.table(name).items()) for name in _TABLES}
    macs, addresses, announced = (
        _by_port(datapath, name, tables[name])
        for name in ("open_macs", "open_addresses", "learned_addresses")
    )
    most = datapath.abi.value("OPEN_PORT_MAX")
    room = datapath.abi.value("PAIRS_PORT_MAX")
    return Learned(
        {ifindex: Behind(macs[ifindex], addresses[ifindex], most) for ifindex in macs | addresses},
        {ifindex: Announced(count, room) for ifindex, count in announced.items()},
        tuple(
            what
            for name, what in _TABLES.items()
            if len(tables[name]) >= _FULL * datapath.table(name).max_entries
        ),
    )


def _by_port(datapath: Datapath, table: str, rows: Iterable[tuple[bytes, Any]]) -> Counter[int]:
    """How many rows there are of each port, of those that still count."""
    _, value = datapath.abi.table_types(table)
    here = datapath.abi.value("ENDPOINT_PORT")
    oldest = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    oldest -= datapath.abi.value("OPEN_SECONDS") * _NS
    found = (value.unpack(raw) for _, raw in rows)
    return Counter(
        row["target"]
        for row in found
        if row["kind"] == here and row.get("heard_at", oldest) >= oldest
    )
