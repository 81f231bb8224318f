"""Limits of bandwidth as the applier makes them in the running kernel."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
from applier_host import ApplierHost, Intent, run

from heddle.applier.applier import Action, Applier
from heddle.applier.netlink import split
from heddle.compiler.state import Device, HostDelta, HostState, PortRow, Rate, RowKey, Shaping
from heddle.intent.names import SHAPED, SHAPER

MEGABIT = 1_000_000
LIMIT = Rate(100 * MEGABIT, 125_000)
OTHER = Rate(20 * MEGABIT, 80_000)
HUGE = Rate(100_000 * MEGABIT, 125_000_000)  # above what 32 bits of bytes per second hold
MACHINES = ("v1", "c1")
RTMGRP_TC = 1 << 3
RTM_NEWQDISC, RTM_NEWTCLASS = 36, 40


def limited(intent: Intent, **shapings: Shaping) -> HostState:
    """The machines, some with limits."""
    state = deepcopy(intent.state(*MACHINES))
    for machine, shaping in shapings.items():
        device = Device(intent.device(machine))
        state.links[device] = replace(state.links[device], shaping=shaping)
        row = state.rows[RowKey("ports", device)]
        assert isinstance(row, PortRow)
        shaper = Device(SHAPER) if shaping.from_vm or shaping.minimum else 0
        state.rows[RowKey("ports", device)] = row._replace(shaper=shaper)
    return state


def change(before: HostState, after: HostState) -> HostDelta:
    """Of limits alone."""
    delta = HostDelta(touched={7})
    delta.links |= {n: link for n, link in after.links.items() if before.links[n] != link}
    delta.rows |= {row: value for row, value in after.rows.items() if before.rows[row] != value}
    return delta


def classes(device: str) -> dict[str, tuple[str, str]]:
    """Rate and ceiling of HTB's classes, by handle."""
    told = run("tc", "class", "show", "dev", device)
    found = re.findall(r"class htb (\S+) .*rate (\S+) ceil (\S+)", told)
    return {handle: (rate, ceil) for handle, rate, ceil in found}


def queues(device: str) -> list[str]:
    """What stands in front of a device."""
    found = json.loads(run("tc", "-json", "qdisc", "show", "dev", device))
    return [entry["kind"] for entry in found if entry["kind"] not in ("ingress", "noqueue")]


def of_ports() -> dict[str, tuple[str, str]]:
    return {handle: rates for handle, rates in classes(SHAPER).items() if handle != "1:ffff"}


def snapshot(*devices: str) -> str:
    return "".join(
        run("tc", "-details", kind, "show", "dev", device)
        for device in devices
        for kind in ("qdisc", "class")
    )


@contextmanager
def watching() -> Iterator[Callable[[], set[int]]]:
    """What kinds of messages tell of qdiscs, classes and filters meanwhile."""
    with socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
    ) as listener:
        listener.bind((0, RTMGRP_TC))

        def told() -> set[int]:
            kinds: set[int] = set()
            with suppress(BlockingIOError):
                while True:
                    kinds |= {message.kind for message in split(listener.recv(1 << 16))}
            return kinds

        yield told


def settled(applier: Applier) -> bool:
    """Whether audits find nothing to do. The first looks at what we did ourselves."""
    return not applier.audit() and not applier.audit()


# ---- limits appear, change, go ---------------------------------------------


def test_limits_of_both_directions_appear(host: ApplierHost, intent: Intent) -> None:
    applier = host.start()
    state = limited(intent, v1=Shaping(LIMIT, OTHER), c1=Shaping(HUGE, HUGE))
    assert not applier.synchronize(state).failures
    assert list(classes(intent.device("v1")).values()) == [("20Mbit", "20Mbit")]
    assert list(classes(intent.device("c1")).values()) == [("100Gbit", "100Gbit")]
    slots = {row["counter_slot"]: index for index, row in host.rows("ports").items()}
    index = {name: link["ifindex"] for name, link in host.links().items()}
    expected = {
        index[intent.device("v1")]: ("100Mbit", "100Mbit"),
        index[intent.device("c1")]: ("100Gbit", "100Gbit"),
    }
    assert of_ports() == {f"1:{slot + 1:x}": expected[slots[slot]] for slot in slots}
    assert {row["shaper"] for row in host.rows("ports").values()} == {index[SHAPER]}
    assert settled(applier)


def test_the_shaper_is_marked_filtered_and_silent(host: ApplierHost, intent: Intent) -> None:
    host.start().synchronize(limited(intent, v1=Shaping(LIMIT)))
    for name in (SHAPER, SHAPED):
        link = host.links()[name]
        assert link["ifalias"] == "heddle:shaper"
        assert link["mtu"] >= 9216
        assert "UP" in link["flags"]
        assert Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").read_text() == "1\n"
    (entry,) = host.filters(SHAPED)
    assert entry["prog"]["id"] == host.datapath.from_vm.id


def test_a_minimum_is_a_class_below_the_host(host: ApplierHost, intent: Intent) -> None:
    state = limited(intent, v1=Shaping(minimum=50 * MEGABIT), c1=Shaping(LIMIT))
    Applier(host.kernel, 1000 * MEGABIT).synchronize(state)
    assert classes(SHAPER)["1:ffff"] == ("1Gbit", "1Gbit")
    assert sorted(of_ports().values()) == [("50Mbit", "1Gbit"), ("8Kbit", "100Mbit")]


@pytest.mark.parametrize("machine", MACHINES)
def test_a_changed_limit_is_changed_in_place(
    host: ApplierHost, intent: Intent, machine: str
) -> None:
    applier = host.start()
    before = limited(intent, **{machine: Shaping(LIMIT, LIMIT)})
    after = limited(intent, **{machine: Shaping(OTHER, OTHER)})
    applier.synchronize(before)
    with watching() as told:
        report = applier.apply(change(before, after))
        assert told() == {RTM_NEWQDISC, RTM_NEWTCLASS}
    assert not report.failures
    assert list(classes(intent.device(machine)).values()) == [("20Mbit", "20Mbit")]
    assert list(of_ports().values()) == [("20Mbit", "20Mbit")]
    assert settled(applier)


def test_nothing_is_left_of_a_limit_that_is_gone(host: ApplierHost, intent: Intent) -> None:
    applier = host.start()
    before = limited(intent, v1=Shaping(LIMIT, LIMIT), c1=Shaping(LIMIT, LIMIT))
    after = limited(intent)
    applier.synchronize(before)
    assert not applier.apply(change(before, after)).failures
    assert [queues(intent.device(machine)) for machine in MACHINES] == [[], []]
    host.assert_has(after)
    assert settled(applier)


def test_a_class_goes_with_its_port(host: ApplierHost, intent: Intent) -> None:
    before = limited(intent, v1=Shaping(LIMIT), c1=Shaping(OTHER))
    host.start().synchronize(before)
    only = intent.state("c1")
    device = intent.device("c1")
    only.links[device] = before.links[device]
    row = only.rows[RowKey("ports", Device(device))]
    assert isinstance(row, PortRow)
    only.rows[RowKey("ports", Device(device))] = row._replace(shaper=Device(SHAPER))
    host.start().synchronize(only)
    assert list(of_ports().values()) == [("20Mbit", "20Mbit")]


def test_a_restart_rewrites_nothing(host: ApplierHost, intent: Intent) -> None:
    state = limited(intent, v1=Shaping(LIMIT, OTHER), c1=Shaping(OTHER, HUGE, 5 * MEGABIT))
    host.start().synchronize(state)
    devices = [intent.device(machine) for machine in MACHINES] + [SHAPER, SHAPED]
    before = snapshot(*devices), host.rows("ports")
    with watching() as told:
        assert not host.start().synchronize(state)
        assert told() == set()
    assert (snapshot(*devices), host.rows("ports")) == before


# ---- repair ----------------------------------------------------------------

DAMAGES = {
    "root of a device deleted": "tc qdisc delete dev {device} root",
    "root of a device replaced": "tc qdisc replace dev {device} root handle 9: tbf "
    "rate 1gbit burst 100kb limit 100kb",
    "class of a device altered": "tc class change dev {device} classid 6864:1 htb rate 1gbit",
    "queue of a device replaced": "tc qdisc replace dev {device} parent 6864:1 handle 77: pfifo",
    "queue of a device altered": "tc qdisc change dev {device} handle 5001: bfifo limit 3000",
    "shaper deleted": "ip link delete {shaper}",
    "shaper down": "ip link set {shaper} down",
    "shaped down": "ip link set {shaped} down",
    "filter of shaped deleted": "tc qdisc delete dev {shaped} ingress",
    "root of the shaper deleted": "tc qdisc delete dev {shaper} root",
    "class of a port altered": "tc class change dev {shaper} classid 1:1 htb rate 1gbit",
    "class of a port deleted": "tc class delete dev {shaper} classid 1:1",
    "class of nobody added": "tc class add dev {shaper} parent 1:ffff classid 1:99 htb rate 1gbit",
    "class of the host altered": "tc class change dev {shaper} classid 1:ffff htb rate 1mbit",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damage_is_repaired_and_reported(host: ApplierHost, intent: Intent, damage: str) -> None:
    applier = host.start()
    state = limited(intent, v1=Shaping(LIMIT, LIMIT), c1=Shaping(OTHER, OTHER))
    applier.synchronize(state)
    assert settled(applier)
    device = intent.device("v1")
    before = classes(device), of_ports()
    run(*damage.format(device=device, shaper=SHAPER, shaped=SHAPED).split())
    report = applier.audit()
    assert not report.failures
    assert report.changes or "1:99" in damage
    assert (classes(device), of_ports()) == before
    assert not host.start().synchronize(state)
    assert settled(applier)


def test_a_link_of_the_name_that_is_not_ours_is_left_alone(
    host: ApplierHost, intent: Intent
) -> None:
    run("ip", "link", "add", SHAPER, "type", "veth", "peer", "name", "other")
    applier = host.start()
    state = limited(intent, v1=Shaping(LIMIT), c1=Shaping(to_vm=LIMIT))
    failures = applier.synchronize(state).failures
    assert f"link {SHAPER} exists and is not heddle's" in failures[SHAPER]
    assert queues(intent.device("c1")) != []
    run("ip", "link", "delete", SHAPER)
    assert not applier.audit().failures
    assert Action("+", f"link {SHAPER}") not in applier.audit().changes
    assert not host.start().synchronize(state)
