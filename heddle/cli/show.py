"""heddle show"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from heddle.agent.client import agent_pid
from heddle.cli.options import add_json, describe
from heddle.cli.table import render, render_json
from heddle.cli.view import Item, View, addresses
from heddle.errors import NotFoundError
from heddle.paths import host_name

KINDS = ("agent", "network", "subnet", "router", "machine", "port")


class Columns(NamedTuple):
    """How a kind is shown: the headers, and the cells of an object."""

    headers: Sequence[str]
    cells: Callable[[View, Item], Sequence[object]]


def configure(parser: argparse.ArgumentParser) -> None:
    describe(
        parser,
        "List objects with their state. Without arguments: everything, briefly. Works with the\n"
        "agent dead, and then says so: the states are the last that it knew.",
        ("heddle show", "machines, networks, routers, and the agent"),
        ("heddle show port", "all ports"),
        ("heddle show machine vm0", "all there is to know about vm0"),
        ("heddle show agent --json", "repairs and errors of the agent, for programs"),
    )
    kinds = [*KINDS, *(kind + "s" for kind in KINDS)]
    parser.add_argument(
        "kind", nargs="?", choices=kinds, metavar="KIND", help=", ".join(KINDS) + " (or plural)"
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="name, id or beginning of the id")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    view = View()
    kind = (arguments.kind or "").removesuffix("s")
    if not kind:
        print(_overview_json(view) if arguments.json else _overview(view))
    elif kind == "agent":
        _show_agent(view, arguments.name, as_json=arguments.json)
    elif arguments.name:
        details = _with_status(view, view.find(kind, arguments.name))
        print(render_json(details) if arguments.json else _details(details))
    elif arguments.json:
        print(render_json([_with_status(view, item) for item in view.of_kind(kind)]))
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
    return "\n".join([line, *(f"  pending: {trouble}" for trouble in troubles)])


# ---- objects -------------------------------------------------------------


def _overview(view: View) -> str:
    if not view.objects:
        return "nothing is wanted on this host; `heddle up FILE` begins"
    parts = [_table(view, kind) for kind in ("network", "router", "machine") if view.of_kind(kind)]
    return "\n\n".join([*parts, _agent_line(_agent_fact(view))])


def _overview_json(view: View) -> str:
    overview: dict[str, Any] = {"agent": _agent_fact(view)}
    for kind in KINDS[1:]:
        overview[kind + "s"] = [_with_status(view, item) for item in view.of_kind(kind)]
    return render_json(overview)


def _table(view: View, kind: str) -> str:
    columns = _COLUMNS[kind]
    return render(columns.headers, [columns.cells(view, item) for item in view.of_kind(kind)])


def _with_status(view: View, item: Item) -> Item:
    return {**item, "status": view.status(item)}


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
        return ", ".join(f"{name} {_flat(part)}" for name, part in value.items())
    if isinstance(value, list):
        return " ".join(map(_flat, value)) or "-"
    return "-" if value in (None, "", {}) else str(value)


def _network(view: View, item: Item) -> Sequence[object]:
    subnets = [s["cidr"] for s in view.of_kind("subnet") if s["network_id"] == item["id"]]
    return item["name"], item["vni"], item["mtu"], subnets, len(view.ports_in(item["id"]))


def _subnet(view: View, item: Item) -> Sequence[object]:
    network = view.name_of(item["network_id"])
    return (
        item["cidr"],
        network,
        item["gateway_ip"],
        item["enable_dhcp"],
        item["ipv6_mode"],
        item["dns"],
    )


def _router(view: View, item: Item) -> Sequence[object]:
    interfaces = [
        f"{view.name_of(interface['network_id'])}={','.join(interface['addresses'])}"
        for interface in item["interfaces"]
    ]
    routes = [f"{r['destination']}->{r['nexthop'] or 'nowhere'}" for r in item["routes"]]
    return item["name"], interfaces, routes


def _machine(view: View, item: Item) -> Sequence[object]:
    status = view.status(item)
    ports = view.ports_of(item)
    all_addresses = [address for port in ports for address in addresses(port)]
    state = status.get("state", "stopped" if not item["running"] else "unknown")
    return (
        item["name"],
        item["machine_kind"],
        state,
        bool(status.get("ready")),
        all_addresses,
        status.get("error"),
    )


def _port(view: View, item: Item) -> Sequence[object]:
    status = view.status(item)
    name = view.names.by_id[item["id"]]
    return (
        name.label,
        name.network,
        item["mac"],
        addresses(item),
        name.device,
        status.get("state", "unknown"),
        status.get("error"),
    )


_COLUMNS = {
    "network": Columns(("network", "vni", "mtu", "subnets", "ports"), _network),
    "subnet": Columns(("subnet", "network", "gateway", "dhcp", "ipv6 mode", "dns"), _subnet),
    "router": Columns(("router", "interfaces", "static routes"), _router),
    "machine": Columns(("machine", "kind", "state", "ready", "addresses", "error"), _machine),
    "port": Columns(("port", "network", "mac", "addresses", "device", "state", "error"), _port),
}
