"""heddle top"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Mapping
from typing import Any

from heddle.cli.options import add_json, describe, require_root
from heddle.cli.table import render, render_json
from heddle.cli.view import View
from heddle.datapath.flows import Usage, read_usage
from heddle.datapath.loader import Datapath
from heddle.events.counters import Rates, read_ports
from heddle.events.counters import rates as rates_between
from heddle.events.naming import PortNames
from heddle.paths import host_name

_ONCE_SECONDS = 0.1  # measured over, so that the command answers early
_CLEAR_SCREEN = "\x1b[H\x1b[2J"
_HEADERS = (
    "port",
    "network",
    "from vm pkt/s",
    "from vm bit/s",
    "to vm pkt/s",
    "to vm bit/s",
    "connections",
)


def configure(parser: argparse.ArgumentParser) -> None:
    describe(
        parser,
        "Show live traffic rates by port, the busiest first, and the connections that each has\n"
        "opened and may have open. Works with the agent dead.",
        ("heddle top", "refresh every second until Ctrl-C"),
        ("heddle top --interval 5", "over five seconds each"),
        ("heddle top --once --json", "one reading, for programs"),
    )
    parser.add_argument("--once", action="store_true", help="one reading, and end")
    parser.add_argument(
        "--interval", type=float, metavar="SECONDS", help="measure over this long (default: 1)"
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    require_root("heddle top")
    once = arguments.once or arguments.json
    interval = max(arguments.interval or (_ONCE_SECONDS if once else 1.0), 0.05)
    datapath = Datapath.open(host_name())
    try:
        while True:
            before = read_ports(datapath)
            time.sleep(interval)
            rates = rates_between(before, read_ports(datapath))
            reading = Reading(View(), rates, read_usage(datapath))
            _print(reading, as_json=arguments.json, once=once)
            if once:
                return 0
    finally:
        datapath.close()


class Reading:
    """What one table shows."""

    def __init__(self, view: View, rates: Mapping[int, Rates], usage: Usage) -> None:
        self.names: PortNames = view.names
        self.rates = rates
        self.usage = usage
        self._wanted = {
            view.status(port).get("ifindex"): port.get("connections_max", 0)
            for port in view.of_kind("port")
        }

    def busiest(self) -> list[tuple[int, Rates]]:
        """Devices and their rates."""
        return sorted(
            self.rates.items(), key=lambda entry: -(entry[1].from_vm_bits + entry[1].to_vm_bits)
        )

    def connections(self, ifindex: int) -> tuple[int, int]:
        """How many a port has opened, and how many it may have now."""
        limit = self.usage.limit(self._wanted.get(ifindex, 0))
        return self.usage.by_ifindex.get(ifindex, 0), limit


def _print(reading: Reading, *, as_json: bool, once: bool) -> None:
    busiest = reading.busiest()
    if as_json:
        print(render_json([_as_json(reading, ifindex, rate) for ifindex, rate in busiest]))
        return
    text = render(_HEADERS, [_row(reading, ifindex, rate) for ifindex, rate in busiest])
    text += _full(reading.usage)
    if not once and sys.stdout.isatty():
        text = _CLEAR_SCREEN + "\n".join(text.split("\n")[: shutil.get_terminal_size().lines - 1])
    print(text, flush=True)


def _row(reading: Reading, ifindex: int, rate: Rates) -> tuple[object, ...]:
    port = reading.names.of_ifindex(ifindex)
    network = port.network if port else None
    scaled = (_scaled(value) for value in rate)
    used, limit = reading.connections(ifindex)
    return reading.names.label(ifindex), network, *scaled, f"{used}/{limit}"


def _as_json(reading: Reading, ifindex: int, rate: Rates) -> dict[str, Any]:
    fields = {name: round(value, 1) for name, value in rate._asdict().items()}
    used, limit = reading.connections(ifindex)
    connections = {"connections": used, "connections_limit": limit}
    return {"port": reading.names.label(ifindex), "ifindex": ifindex, **fields, **connections}


def _scaled(value: float) -> str:
    """With a decimal prefix: 1234567 is ``1.2M``."""
    for prefix in ("", "k", "M"):
        if value < 1000:
            return f"{value:.1f}{prefix}" if prefix else f"{value:.0f}"
        value /= 1000
    return f"{value:.1f}G"


def _full(usage: Usage) -> str:
    """A line about a flow table that lets in no new connection."""
    return f"\nthe flow table is full: {usage.capacity} connections" if usage.is_full else ""
