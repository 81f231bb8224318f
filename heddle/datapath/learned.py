"""Who is behind ports without port security, as the data plane has learned it."""

from __future__ import annotations

import time
from collections import Counter
from typing import NamedTuple

from heddle.datapath.loader import Datapath

_NS = 1_000_000_000


class Behind(NamedTuple):
    """How many MACs and addresses are known behind a port, and how many of each can
    be: the oldest makes room for one more."""

    macs: int
    addresses: int
    limit: int

    @property
    def is_full(self) -> bool:
        return max(self.macs, self.addresses) >= self.limit


def read_learned(datapath: Datapath) -> dict[int, Behind]:
    """By the device of the port; ports behind which nobody is known are not in it."""
    macs, addresses = (_count(datapath, table) for table in ("open_macs", "open_addresses"))
    limit = datapath.abi.value("OPEN_PORT_MAX")
    return {
        ifindex: Behind(macs[ifindex], addresses[ifindex], limit) for ifindex in macs | addresses
    }


def _count(datapath: Datapath, table: str) -> Counter[int]:
    """Rows by port, of those that still count."""
    _, value = datapath.abi.table_types(table)
    here = datapath.abi.value("ENDPOINT_PORT")
    oldest = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    oldest -= datapath.abi.value("OPEN_SECONDS") * _NS
    rows = (value.unpack(raw) for _, raw in datapath.table(table).items())
    return Counter(
        row["target"] for row in rows if row["kind"] == here and row["heard_at"] >= oldest
    )
