"""heddle show"""

from __future__ import annotations

import argparse
from typing import Any

from heddle.agent.client import agent_pid
from heddle.cli.columns import COLUMNS, envelope_words, life_words
from heddle.cli.options import add_json, describe
from heddle.cli.paths import path_lines, path_problems, paths_of, show_paths
from heddle.cli.policy import (
    address_group_details,
    announced,
    behind,
    brief,
    connections_of,
    crowds,
    group_details,
    groups_of,
    port_details,
    qos_details,
    qos_of,
    qos_words,
    troubles,
)
from heddle.cli.table import render, render_json
from heddle.cli.view import Item, View
from heddle.errors import NotFoundError, RequestError
from heddle.paths import host_name

# What a kind is called here, in the singular and the plural, and in the store.
_STORED = {
    "host": "host",
    "detour": "detour",
    "network": "network",
    "subnet": "subnet",
    "router": "router",
    "address-group": "address_group",
    "security-group": "security_group",
    "qos": "qos_policy",
    "machine": "machine",
    "port": "port",
}
KINDS = ("agent", *_STORED, "flow", "path")
_WORDS = {word: kind for kind in KINDS for word in (kind, kind if kind == "qos" else kind + "s")}
_DETAILS = {
    "address-group": address_group_details,
    "security-group": group_details,
    "qos": qos_details,
    "port": port_details,
}


def configure(parser: argparse.ArgumentParser) -> None:
    describe(
        parser,
        "List objects with their state. Without arguments: everything, briefly. Works with the\n"
        "agent dead, and then says so: the states are the last that it knew.",
        ("heddle show", "machines, networks, routers, and the agent"),
        ("heddle show port", "all ports"),
        ("heddle show machine vm0", "all there is to know about vm0"),
        ("heddle show security-group web", "its rules and members"),
        ("heddle show flows vm0", "the connections of vm0, and the rules that allow them"),
        ("heddle show flows --port vm0:1 --json", "those of its second NIC, for programs"),
        ("heddle show paths", "how this host reaches the others"),
        ("heddle show agent --json", "repairs and errors of the agent, for programs"),
    )
    parser.add_argument(
        "kind", nargs="?", choices=_WORDS, metavar="KIND", help=", ".join(KINDS) + " (or plural)"
    )
    parser.add_argument(
        "name",
        nargs="?",
        metavar="NAME",
        help="name, id or beginning of the id; of flows the port, of paths the host",
    )
    parser.add_argument("--port", metavar="PORT", help="of flows: those of MACHINE or MACHINE:NIC")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    kind, name = _WORDS.get(arguments.kind), arguments.name
    if kind != "flow" and arguments.port:
        raise RequestError("--port is for `heddle show flows`")
    if kind == "path":
        show_paths(name, as_json=arguments.json)
        return 0
    view = View()
    if kind is None:
        print(_overview_json(view) if arguments.json else _overview(view))
    elif kind == "agent":
        _show_agent(view, name, as_json=arguments.json)
    elif kind == "flow":
        from heddle.cli.flows import show_flows  # the rest works without libbpf

        show_flows(view, arguments.port or name, as_json=arguments.json)
    elif name:
        details = _told(view, kind, view.find(_STORED[kind], name))
        print(render_json(details) if arguments.json else _details(brief(details)))
    elif arguments.json:
        print(render_json(_all(view, kind)))
    else:
        print(_table(view, kind))
    return 0


# ---- the agent -----------------------------------------------------------


def _show_agent(view: View, name: str | None, *, as_json: bool) -> None:
    host = host_name()
    if name not in (None, host):
        raise NotFoundError(f"no agent {name!r}; this host is {host}")
    fact = _agent_fact(view)
    print(render_json(fact) if as_json else _details(fact))


def _agent_fact(view: View) -> Item:
    """The agent's last word about itself, and whether it lives."""
    host = host_name()
    fact = {"host": host, "state": "stopped", **view.statuses.get(("agent", host), {})}
    if fact["state"] == "running" and agent_pid() is None:
        fact["state"] = "dead"
    return fact


def _agent_line(fact: Item) -> str:
    if fact["state"] != "running":
        return (
            f"agent on {fact['host']}: {fact['state']}. States are the last it knew, traffic flows "
            "on; `heddle agent --detach` starts it."
        )
    troubles = [f"{name}: {error}" for name, error in fact["errors"].items()]
    troubles += [f"{name}: {error}" for name, error in fact["pending"].items()]
    line = f"agent on {fact['host']}: running, revision {fact['revision']}"
    line += f", {fact['repaired']} repairs" if fact["repaired"] else ""
    hosts = fact.get("hosts", {}).values()
    return "\n".join([line, *(f"  pending: {trouble}" for trouble in (*troubles, *hosts))])


# ---- objects -------------------------------------------------------------


def _overview(view: View) -> str:
    kinds = ("host", "network", "router", "machine")
    parts = [_table(view, kind) for kind in kinds if view.of_kind(kind)]
    agent = _agent_fact(view)
    if not parts and agent["state"] == "stopped":
        return "nothing is wanted on this host; `heddle up FILE` begins"
    lines = [_agent_line(agent), *path_lines(view), *_flow_lines(view)]
    return "\n\n".join([*parts, "\n".join(lines)])


def _flow_lines(view: View) -> list[str]:
    """How full the flow table is, and what comes of that."""
    if view.usage is None:
        return []
    line = f"flow table: {view.usage.connections} of {view.usage.capacity} connections in use"
    return [line, *(f"  {trouble}" for trouble in troubles(view)), *crowds(view)]


def _overview_json(view: View) -> str:
    overview: dict[str, Any] = {
        "agent": _agent_fact(view),
        "flow_table": _flow_table(view),
        "crowded_ports": crowds(view),
        "paths": paths_of(view),
        "path_problems": path_problems(view),
    }
    for kind, stored in _STORED.items():
        plural = "qos_policies" if kind == "qos" else stored + "s"
        overview[plural] = _all(view, kind)
    return render_json(overview)


def _flow_table(view: View) -> Item | None:
    if view.usage is None:
        return None
    usage = view.usage
    in_use = {"connections": usage.connections, "capacity": usage.capacity}
    return {**in_use, "troubles": troubles(view)}


def _table(view: View, kind: str) -> str:
    stored = _STORED[kind]
    columns = COLUMNS[stored]
    return render(columns.headers, [columns.cells(view, item) for item in view.of_kind(stored)])


def _all(view: View, kind: str) -> list[Item]:
    """Without what only details have: groups can have ten thousand rules each."""
    return [_with_status(view, item) for item in view.of_kind(_STORED[kind])]


def _told(view: View, kind: str, item: Item) -> Item:
    """All there is to say about one object."""
    item = _DETAILS[kind](view, item) if kind in _DETAILS else item
    return _with_status(view, item)


def _with_status(view: View, item: Item) -> Item:
    shown = {**item, "status": view.status(item)}
    if item["kind"] == "host":
        shown["agent"] = life_words(view, item)
        shown["envelopes_now"] = envelope_words(view, item)
    if item["kind"] == "port":
        qos = qos_of(view, item)
        shown["security_groups"] = groups_of(view, item)
        shown["qos"] = qos_words(qos) if qos else None
        shown["connections"] = connections_of(view, item)
        shown["behind"] = behind(view, item)
        shown["announced"] = announced(view, item)
    return shown


def _details(item: Item, indent: str = "") -> str:
    """One line per field; nested ones below their name."""
    width = max(map(len, item), default=0)
    lines = []
    for name, value in item.items():
        if isinstance(value, dict) and value:
            lines += [f"{indent}{name}:", _details(value, indent + "  ")]
        elif isinstance(value, list) and value:
            lines += [f"{indent}{name}:", *(f"{indent}  {_flat(entry)}" for entry in value)]
        else:
            lines.append(f"{indent}{name:<{width}}  {_flat(value)}")
    return "\n".join(lines)


def _flat(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_flat(part)}" for name, part in value.items()) or "-"
    if isinstance(value, list):
        return " ".join(map(_flat, value)) or "-"
    return "-" if value in (None, "") else str(value)
