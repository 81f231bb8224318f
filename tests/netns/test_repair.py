"""What is deleted or altered behind the agent's back is repaired and reported.
How soon is a figure of the benchmarks."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from lab import Lab, eventually

from heddle.compiler.state import TABLE_ORDER
from heddle.datapath.tables import Table

TAPS = """
version: 1
networks: {net: {cidr: 10.5.0.0/24}}
machines:
  vm0: {kind: vm, nics: [{network: net, address: 10.5.0.5}]}
"""

Damage = Callable[[Lab], None]


@pytest.fixture
def routed(routed_lab: Lab) -> Lab:
    """Two containers that talk, and an agent that has nothing to do."""
    eventually(lambda: works(routed_lab), "the containers to talk")
    return routed_lab


def rows(table: Table) -> list[tuple[bytes, bytes]]:
    found = sorted(table.items())
    assert found
    return [(key, value) for key, value in found if isinstance(value, bytes)]


def delete_row(name: str) -> Damage:
    def damage(lab: Lab) -> None:
        with lab.datapath() as datapath:
            table = datapath.table(name)
            assert table.delete(rows(table)[0][0])

    return damage


def alter_row(name: str) -> Damage:
    def damage(lab: Lab) -> None:
        with lab.datapath() as datapath:
            table = datapath.table(name)
            key, value = rows(table)[0]
            table.put(key, bytes(byte ^ 0xFF for byte in value))

    return damage


def add_row(lab: Lab) -> None:
    """A MAC that belongs to nobody."""
    with lab.datapath() as datapath:
        table = datapath.table("macs")
        key, value = rows(table)[0]
        table.put(bytes(byte ^ 0x55 for byte in key[:-2]) + key[-2:], value)


def on_device(command: str) -> Damage:
    def damage(lab: Lab) -> None:
        lab.run(*command.format(dev=lab.device("c0:0")).split())

    return damage


def delete_filter(lab: Lab) -> None:
    """That of all links: it stands in the block that their qdiscs share."""
    shown = lab.run("tc", "qdisc", "show", "dev", lab.device("c0:0")).stdout
    (block,) = re.findall(r"ingress_block (\d+)", shown)
    lab.run("tc", "filter", "delete", "block", block)


DAMAGES: dict[str, Damage] = {
    **{
        f"{name} row deleted": delete_row(name) for name in ("ports", "macs", "addresses", "routes")
    },
    "router interface deleted": delete_row("router_interfaces"),
    "template deleted": delete_row("dhcp4_templates"),
    "ports row altered": alter_row("ports"),
    "addresses row altered": alter_row("addresses"),
    "template altered": alter_row("dhcp6_templates"),
    "foreign row added": add_row,
    "filter deleted": delete_filter,
    "qdisc deleted": on_device("tc qdisc delete dev {dev} ingress"),
    "veth deleted": on_device("ip link delete {dev}"),
    "link down": on_device("ip link set {dev} down"),
    "MTU altered": on_device("ip link set {dev} mtu 1300"),
    "mark removed": on_device("ip link set {dev} alias somebody"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damage_is_repaired_and_reported(routed: Lab, damage: Damage) -> None:
    before = condition(routed)
    reported = repaired(routed)
    damage(routed)
    eventually(lambda: repaired(routed) > reported, "a report")
    eventually(lambda: condition(routed) == before, "the repair")
    eventually(lambda: routed.show("agent")["pending"] == {}, "nothing pending")
    eventually(lambda: works(routed), "the container to be plugged in again")


def test_a_tap_is_made_anew(lab: Lab) -> None:
    lab.heddle("agent", "--detach")
    lab.heddle("apply", lab.write(TAPS))
    before = condition(lab)
    lab.run("ip", "link", "delete", lab.device("vm0:0"))
    eventually(lambda: repaired(lab), "a report")
    eventually(lambda: condition(lab) == before, "the repair")


def test_a_namespace_is_made_anew(routed: Lab) -> None:
    before, reported = condition(routed), repaired(routed)
    routed.run("ip", "netns", "delete", "heddle-c0")
    eventually(lambda: repaired(routed) > reported, "a report")
    eventually(lambda: condition(routed) == before, "the repair")
    eventually(lambda: works(routed), "the container to be plugged in again")


def works(lab: Lab) -> bool:
    done = lab.exec("c0", "ping", "-c", "1", "-W", "1", "10.2.0.10", check=False)
    return done.returncode == 0


def repaired(lab: Lab) -> int:
    """How many repairs the agent has reported."""
    fact = lab.show("agent")
    assert len(fact["repairs"]) == min(fact["repaired"], 20)
    return int(fact["repaired"])


def condition(lab: Lab) -> dict[str, Any]:
    """What must be as it was. Rows name devices by ifindex, which a link made
    anew has another of: it is replaced by the device's name."""
    links = lab.links()
    names = {link["ifindex"]: link["ifname"] for link in links}
    state: dict[str, Any] = {
        link["ifname"]: (link.get("ifalias"), link["mtu"], "UP" in link["flags"]) for link in links
    }
    state["filters"] = {
        device: "from_vm" in lab.run("tc", "filter", "show", "dev", device, "ingress").stdout
        for device in names.values()
    }
    with lab.datapath() as datapath:
        for name in TABLE_ORDER:
            codecs = datapath.abi.table_types(name)
            entries = (zip(codecs, entry, strict=True) for entry in datapath.table(name).items())
            state[name] = sorted(
                str([named(codec.unpack(raw), names, name) for codec, raw in entry])
                for entry in entries
            )
    return state


def named(row: Any, names: dict[int, str], table: str) -> Any:  # noqa: ANN401 (any row)
    """A row with names in place of ifindexes; slots of counters left out."""
    if isinstance(row, int):
        return names.get(row, row) if table in ("ports", "source_prefixes") else row
    fields = dict(row)
    fields.pop("counter_slot", None)
    for field in ("target", "flood_next", "ifindex"):
        if field in fields:
            fields[field] = names.get(fields[field], fields[field])
    return fields
