"""The tables of `heddle show`: for each kind the headers, and the cells of an object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from heddle.cli.policy import connections_of, groups_of, is_guarded, qos_of, qos_words
from heddle.cli.view import Item, View, addresses
from heddle.paths import host_name


class Columns(NamedTuple):
    """How a kind is shown: the headers, and the cells of an object."""

    headers: Sequence[str]
    cells: Callable[[View, Item], Sequence[object]]


def _host(view: View, item: Item) -> Sequence[object]:
    kind = "foreign" if item["foreign"] else "agent"
    machines = sum(machine["host"] == item["name"] for machine in view.of_kind("machine"))
    agent = view.statuses.get(("agent", host_name()), {})
    return (
        item["name"],
        item["number"],
        item["vtep"],
        item["udp_port"],
        kind,
        machines,
        envelope_words(view, item),
        life_words(view, item),
        agent.get("hosts", {}).get(item["id"]),
    )


def envelope_words(view: View, host: Item) -> str:
    """Who makes the envelopes that a host sends, as its agent last said."""
    told: str = view.statuses.get(("agent", host["name"]), {}).get("envelopes", "")
    return told


def life_words(view: View, host: Item) -> str:
    """Whether a host is up, and since when; empty when nobody can tell."""
    life = view.lives.get(host["name"])
    return f"{'up' if life.up else 'down'} since {life.since}" if life else ""


def _detour(view: View, item: Item) -> Sequence[object]:
    return item["host"], item["relay"]


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


def _address_group(view: View, item: Item) -> Sequence[object]:
    return item["name"], len(view.entries_of(item)), len(view.rules_naming(item))


def _security_group(view: View, item: Item) -> Sequence[object]:
    return item["name"], item["stateful"], len(view.rules_of(item)), len(view.members(item))


def _qos_policy(view: View, item: Item) -> Sequence[object]:
    words = qos_words(item)
    ports = [view.names.by_id[port["id"]].label for port in view.ports_with_qos(item)]
    limits = ("from_vm", "to_vm", "packets_from_vm", "packets_to_vm", "minimum", "dscp")
    return item["name"], *(words.get(name) for name in limits), ports


def _machine(view: View, item: Item) -> Sequence[object]:
    status = view.status(item)
    ports = view.ports_of(item)
    all_addresses = [address for port in ports for address in addresses(port)]
    state = status.get("state", "stopped" if not item["running"] else "unknown")
    return (
        item["name"],
        item["machine_kind"],
        item["host"],
        state,
        bool(status.get("ready")),
        all_addresses,
        status.get("error"),
    )


def _port(view: View, item: Item) -> Sequence[object]:
    status = view.status(item)
    name = view.names.by_id[item["id"]]
    connections, qos = connections_of(view, item), qos_of(view, item)
    return (
        name.label,
        name.network,
        item["mac"],
        addresses(item),
        name.device,
        ",".join(groups_of(view, item)) if is_guarded(item) else "off",
        f"{connections['used']}/{connections['limit']}" if connections else None,
        qos["name"] if qos else None,
        status.get("state", "unknown"),
        status.get("error"),
    )


COLUMNS = {
    "host": Columns(
        (
            *("host", "number", "vtep", "udp port", "kind", "machines"),
            *("envelopes", "agent", "error"),
        ),
        _host,
    ),
    "detour": Columns(("host", "relay"), _detour),
    "network": Columns(("network", "vni", "mtu", "subnets", "ports"), _network),
    "subnet": Columns(("subnet", "network", "gateway", "dhcp", "ipv6 mode", "dns"), _subnet),
    "router": Columns(("router", "interfaces", "static routes"), _router),
    "address_group": Columns(("address group", "prefixes", "rules"), _address_group),
    "security_group": Columns(("security group", "stateful", "rules", "members"), _security_group),
    "qos_policy": Columns(
        (
            "qos policy",
            "from vm",
            "to vm",
            "packets from vm",
            "packets to vm",
            "minimum",
            "dscp",
            "ports",
        ),
        _qos_policy,
    ),
    "machine": Columns(
        ("machine", "kind", "host", "state", "ready", "addresses", "error"), _machine
    ),
    "port": Columns(
        (
            "port",
            "network",
            "mac",
            "addresses",
            "device",
            "groups",
            "connections",
            "qos",
            "state",
            "error",
        ),
        _port,
    ),
}
