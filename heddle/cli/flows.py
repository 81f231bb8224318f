"""heddle show flows"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterable
from functools import cache
from typing import Any

from heddle.cli.options import require_root
from heddle.cli.policy import allowed_by
from heddle.cli.table import render
from heddle.cli.view import Item, View
from heddle.datapath.addresses import address_text, with_port
from heddle.datapath.flows import Connection, read_connections
from heddle.datapath.loader import Datapath
from heddle.errors import NotFoundError
from heddle.events.naming import PortName
from heddle.intent.protocols import ICMP, ICMPV6, protocol_name
from heddle.paths import host_name

_HEADERS = (
    "from",
    "to",
    "protocol",
    "source",
    "destination",
    "state",
    "age",
    "idle",
    "packets",
    "bytes",
    "allowed from vm by",
    "allowed to vm by",
)
_ROWS_SPARED = 4  # of a terminal: headers, hint, prompt
_NONE_NEEDED = "-"
_OTHER_HOST = "other host"


def show_flows(view: View, port: str | None, *, as_json: bool) -> None:
    """Print the connections of all ports, or of a MACHINE, MACHINE:NIC or port."""
    require_root("heddle show flows")
    ifindexes = ifindexes_of(view, port) if port else None
    datapath = Datapath.open(host_name())
    try:
        connections = list(read_connections(datapath, ifindexes))
        zone = datapath.abi.value("TUNNEL_ZONE")
    finally:
        datapath.close()
    teller = Teller(view, time.clock_gettime_ns(time.CLOCK_MONOTONIC), zone)
    if as_json:
        _print_json(teller.tell(connection) for connection in connections)
    else:
        _print_table(teller, connections)


def ifindexes_of(view: View, name: str) -> set[int]:
    """Devices of the ports that a name stands for."""
    ports = [
        port for port in view.of_kind("port") if _is_called(view.names.by_id[port["id"]], name)
    ]
    ports = ports or [view.find("port", name)]
    known = (view.status(port).get("ifindex") for port in ports)
    found = {ifindex for ifindex in known if ifindex is not None}
    if not found:
        raise NotFoundError(f"{name} has no device yet; `heddle show port` says why")
    return found


def _is_called(port: PortName, name: str) -> bool:
    return name in (port.label, port.machine)


class Teller:
    """Says in words what stands in connections. A hundred thousand of them have
    few ports and rules, so each name is looked up once."""

    def __init__(self, view: View, now: int, zone: int) -> None:
        """``now`` in ns of CLOCK_MONOTONIC; ``zone`` is the bit that marks ends at
        other hosts (TUNNEL_ZONE)."""
        self._view = view
        self._now = now
        self._port = cache(view.names.of_ifindex)
        self._label = cache(lambda end: _OTHER_HOST if end & zone else view.names.label(end))

    def tell(self, connection: Connection) -> Item:
        """All about one connection, for JSON. Times in seconds."""
        return {
            "from": self._label(connection.from_ifindex),
            "to": self._label(connection.to_ifindex),
            "protocol": protocol_name(connection.protocol),
            "source": address_text(connection.source),
            "destination": address_text(connection.destination),
            **_ports(connection),
            "state": connection.state.lower() if connection.tracked else "untracked",
            "age": self._seconds_since(connection.opened_at),
            "idle": self._seconds_since(connection.used_at),
            "packets": connection.packets,
            "bytes": connection.bytes,
            "reply_packets": connection.reply_packets,
            "reply_bytes": connection.reply_bytes,
            "allowed_from_vm_by": self._rule(connection.from_rule, connection.from_ifindex),
            "allowed_to_vm_by": self._rule(connection.to_rule, connection.to_ifindex),
        }

    def row(self, connection: Connection) -> tuple[object, ...]:
        """The cells of one connection, for people."""
        told = self.tell(connection)
        reply = f"+{told['reply_packets']}", f"+{told['reply_bytes']}"
        return (
            told["from"],
            told["to"],
            told["protocol"] + _echo_words(told),
            with_port(told["source"], told.get("source_port")),
            with_port(told["destination"], told.get("destination_port")),
            told["state"],
            _duration(told["age"]),
            _duration(told["idle"]),
            f"{told['packets']}{reply[0]}",
            f"{told['bytes']}{reply[1]}",
            told["allowed_from_vm_by"],
            told["allowed_to_vm_by"],
        )

    def _rule(self, number: int, ifindex: int) -> str:
        """What allowed a connection at one end."""
        return allowed_by(self._view, number, self._port(ifindex)) or _NONE_NEEDED

    def _seconds_since(self, then: int) -> float | None:
        return max(round((self._now - then) / 1e9, 3), 0.0) if then else None


def _ports(connection: Connection) -> dict[str, Any]:
    """Ports, or what an echo has in their place."""
    if connection.protocol in (ICMP, ICMPV6):
        return {
            "identifier": connection.source_port,
            "icmp_type": connection.destination_port >> 8,
            "icmp_code": connection.destination_port & 0xFF,
        }
    return {
        "source_port": connection.source_port,
        "destination_port": connection.destination_port,
    }


def _echo_words(told: Item) -> str:
    return f" type {told['icmp_type']} id {told['identifier']}" if "icmp_type" in told else ""


def _duration(seconds: float | None) -> str | None:
    """``3.2s``, ``4m``, ``5h``, ``6d``."""
    if seconds is None:
        return None
    if seconds < 120:
        return f"{seconds:.1f}s"
    minutes = seconds / 60
    if minutes < 120:
        return f"{minutes:.0f}m"
    hours = minutes / 60
    return f"{hours:.0f}h" if hours < 48 else f"{hours / 24:.0f}d"


# ---- printing ------------------------------------------------------------


def _print_json(items: Iterable[Item]) -> None:
    """One line each, as they come: indenting a hundred thousand takes seconds."""
    print("[", end="")
    separator = "\n"
    for item in items:
        print(f"{separator}{json.dumps(item)}", end="")
        separator = ",\n"
    print("\n]")


def _print_table(teller: Teller, connections: list[Connection]) -> None:
    """The busiest first; on a terminal no more than fit."""
    if not connections:
        print("no connection is known")
        return
    connections.sort(key=lambda connection: -(connection.bytes + connection.reply_bytes))
    shown = connections[: _room()]
    print(render(_HEADERS, map(teller.row, shown)))
    if len(shown) < len(connections):
        print(
            f"{len(connections)} connections; here are the {len(shown)} with most bytes. "
            "`--json` or a pipe has all, `--port` those of a machine",
            file=sys.stderr,
        )


def _room() -> int | None:
    """Rows that fit on the terminal; None where there is none."""
    if not sys.stdout.isatty():
        return None
    return max(shutil.get_terminal_size().lines - _ROWS_SPARED, 1)
