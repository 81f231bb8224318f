"""heddle drops"""

from __future__ import annotations

import argparse
import json
from typing import Any

from heddle.agent.client import AgentClient
from heddle.cli.flows import ifindexes_of
from heddle.cli.options import add_json, describe, require_root
from heddle.cli.table import render, render_json
from heddle.cli.view import View
from heddle.datapath.loader import Datapath
from heddle.events.counters import DropCount, read_drops
from heddle.events.naming import PortNames
from heddle.events.reasons import direction_of, explain, explain_at
from heddle.paths import host_name


def configure(parser: argparse.ArgumentParser) -> None:
    describe(
        parser,
        "Say why packets were dropped, counted by the port whose rules or limits they broke\n"
        "(mostly the one that sent them) and by reason, most first. docs/drops.md has what to do\n"
        "about each. Works with the agent dead; only --follow needs it.",
        ("heddle drops", "the counters, with what each reason means"),
        ("heddle drops --port vm0", "those of one machine (or of vm0:1, its second NIC)"),
        ("heddle drops --follow", "dropped frames as they come (sampled), until Ctrl-C"),
    )
    parser.add_argument("--port", metavar="PORT", help="MACHINE or MACHINE:NIC")
    parser.add_argument("--follow", action="store_true", help="show events as they come")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    require_root("heddle drops")
    view = View()
    names = view.names
    wanted = ifindexes_of(view, arguments.port) if arguments.port else None
    if arguments.follow:
        _follow(names, wanted, as_json=arguments.json)
    datapath = Datapath.open(host_name())
    try:
        counts = [c for c in read_drops(datapath) if wanted is None or c.ifindex in wanted]
    finally:
        datapath.close()
    if arguments.json:
        print(render_json([_as_json(names, count) for count in counts]))
    elif counts:
        print(_table(names, counts))
    else:
        print("no packet was dropped")
    return 0


def _table(names: PortNames, counts: list[DropCount]) -> str:
    rows = [
        (names.label(c.ifindex), c.packets, c.bytes, c.reason, _meaning(names, c)) for c in counts
    ]
    return render(("port", "packets", "bytes", "reason", "meaning"), rows)


def _meaning(names: PortNames, count: DropCount) -> str:
    return explain_at(count.reason, names.groups(count.ifindex)).meaning


def _as_json(names: PortNames, count: DropCount) -> dict[str, Any]:
    return {
        "port": names.label(count.ifindex),
        **count._asdict(),
        "direction": direction_of(count.reason),
        "security_groups": names.groups(count.ifindex),
        "meaning": _meaning(names, count),
        "remedy": explain(count.reason).remedy,
    }


def _follow(names: PortNames, wanted: set[int] | None, *, as_json: bool) -> None:
    """Print events until interrupted, of all devices or of those."""
    with AgentClient() as client:
        for event in client.stream("events"):
            if wanted is None or event["ifindex"] in wanted:
                told = _told(names, event)
                print(json.dumps(told) if as_json else _line(told), flush=True)


def _told(names: PortNames, event: dict[str, Any]) -> dict[str, Any]:
    """An event with what it means at its port."""
    groups = names.groups(event["ifindex"])
    return {
        "port": names.label(event["ifindex"]),
        "from": names.label(event["from_ifindex"]),
        **event,
        "security_groups": groups,
        "meaning": explain_at(event["reason"], groups).meaning,
    }


def _line(told: dict[str, Any]) -> str:
    time = told["at"].split("T")[1][:12]
    line = f"{time}  {told['port']}  {told['reason']}  {told['summary']}"
    if "vtep" in told:
        line += f", from host {told['vtep']}, VNI {told['vni']}"
    elif told["direction"] == "to_vm":
        line += f", from {told['from']}"
    return f"{line}: {told['meaning']}" if told["reason"].startswith("POLICY_") else line
