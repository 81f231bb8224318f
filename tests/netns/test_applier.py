"""The applier against the running kernel, in a network namespace of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from applier_host import ApplierHost, Intent, run
from lab import eventually

from heddle.applier import links, namespaces, tap
from heddle.applier.applier import Action
from heddle.applier.netlink import Netlink
from heddle.applier.notifications import Notifications
from heddle.compiler.state import QUEUE, HostDelta, HostState
from heddle.datapath.loader import FROM_VM, Datapath
from heddle.intent.names import port_alias
from heddle.paths import pin_dir

VIRTIO_HEADER_BYTES = 10


def delta_between(before: HostState, after: HostState) -> HostDelta:
    delta = HostDelta(touched={7})
    for name in before.links.keys() | after.links.keys():
        if before.links.get(name) != after.links.get(name):
            delta.links[name] = after.links.get(name)
    for row in before.rows.keys() | after.rows.keys():
        if before.rows.get(row) != after.rows.get(row):
            delta.rows[row] = after.rows.get(row)
    for name in before.namespaces ^ after.namespaces:
        delta.namespaces[name] = name in after.namespaces
    return delta


# ---- what is made --------------------------------------------------------


def test_a_vm_gets_a_tap_that_qemu_can_open(host: ApplierHost, intent: Intent) -> None:
    host.start().synchronize(intent.state("v1"))
    link = host.links()[intent.device("v1")]
    assert link["ifalias"] == port_alias(intent.port_id("v1"))
    assert (link["mtu"], link["inet6_addr_gen_mode"]) == (1450, "none")
    assert "UP" in link["flags"]
    tun = link["linkinfo"]["info_data"]
    assert (tun["type"], tun["pi"], tun["vnet_hdr"], tun["persist"]) == ("tap", False, True, True)
    assert not tun.get("multi_queue")
    os.close(tap.attach(intent.device("v1")))


def test_a_vm_with_many_cpus_gets_a_multiqueue_tap(host: ApplierHost) -> None:
    intent = Intent(cpus=2)
    host.start().synchronize(intent.state("v1"))
    queues = [tap.attach(intent.device("v1"), multiqueue=True) for _ in range(2)]
    for queue in queues:
        os.close(queue)


def test_a_container_gets_a_namespace_and_a_veth_into_it(host: ApplierHost, intent: Intent) -> None:
    host.start().synchronize(intent.state("c1"))
    with namespaces.netlink_in(intent.namespace("c1")) as inside:
        found = {info.name: info for info in map(links.parse, inside.dump(links.get_all()))}
    assert set(found) == {"lo", "eth0"}
    assert found["lo"].up
    assert (found["eth0"].mac, found["eth0"].mtu) == (intent.mac("c1"), 1450)
    assert host.links()[intent.device("c1")]["linkinfo"]["info_kind"] == "veth"
    assert intent.namespace("c1") in run("ip", "netns", "list")


def test_our_filter_is_the_first_and_only_one(host: ApplierHost, intent: Intent) -> None:
    host.start().synchronize(intent.state("v1", "c1"))
    for machine in ("v1", "c1"):
        (entry,) = host.filters(intent.device(machine))
        assert (entry["pref"], entry["protocol"], entry["kind"]) == (1, "all", "bpf")
        assert entry["direct-action"]
        assert entry["prog"]["id"] == host.datapath.from_vm.id


def test_references_in_rows_become_indexes_and_slots(host: ApplierHost, intent: Intent) -> None:
    host.start().synchronize(intent.state("v1", "v2", "c1"))
    index = {name: link["ifindex"] for name, link in host.links().items()}
    ports = host.rows("ports")
    assert set(ports) == set(index.values())
    assert sorted(row["flood_next"] for row in ports.values()) == sorted(ports)
    assert sorted(row["counter_slot"] for row in ports.values()) == [0, 1, 2]
    macs = host.rows("macs")
    mac = bytes.fromhex(intent.mac("v2").replace(":", ""))
    assert macs[7, mac]["target"] == index[intent.device("v2")]


@pytest.mark.parametrize("mtu", [576, 1280, 9216])
def test_any_mtu_of_a_network_is_set_and_changed(host: ApplierHost, mtu: int) -> None:
    intent = Intent()
    applier = host.start()
    before = intent.state("v1", "c1")
    applier.synchronize(before)
    intent.mtu = mtu
    after = intent.state("v1", "c1")
    assert not applier.apply(delta_between(before, after)).failures
    host.assert_has(after)
    host.start().synchronize(HostState())
    host.start().synchronize(after)
    host.assert_has(after)


def test_a_link_may_hold_more_frames_for_a_while(host: ApplierHost, intent: Intent) -> None:
    """Those that wait there when it shall hold fewer again stay."""
    usual, device = intent.state("v1"), intent.device("v1")
    longer = intent.state("v1")
    longer.links[device] = dataclasses.replace(usual.links[device], queue=4 * QUEUE)
    applier = host.start()
    applier.synchronize(longer)
    guest = tap.attach(device)
    try:
        eventually(lambda: host.links()[device]["operstate"] == "UP", "carrier")
        assert fill(device) == 4 * QUEUE
        assert not applier.apply(delta_between(longer, usual)).failures
        assert host.links()[device]["txqlen"] == QUEUE
        assert all(os.read(guest, 100) for _ in range(QUEUE))
    finally:
        os.close(guest)


def fill(device: str) -> int:
    """Send frames until there is no room for more; how many there was room for."""
    count = 0
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.bind((device, 0))
        with contextlib.suppress(OSError):  # ENOBUFS
            while sender.send(b"\xff" * 60):
                count += 1
    return count


# ---- changes and restarts ------------------------------------------------


def test_a_delta_adds_and_removes(host: ApplierHost, intent: Intent) -> None:
    applier = host.start()
    states = [
        intent.state("v1", "c1"),
        intent.state("v1", "v2", "c1", "c2"),
        intent.state("v2"),
        intent.state(),
        intent.state("c1", "v3"),
    ]
    applier.synchronize(states[0])
    for before, after in pairwise(states):
        assert not applier.apply(delta_between(before, after)).failures
        host.assert_has(after)
    assert not applier.audit()


def test_a_tap_whose_queues_change_is_replaced(host: ApplierHost, intent: Intent) -> None:
    applier = host.start()
    before = intent.state("v1")
    applier.synchronize(before)
    intent.cpus = 4
    after = intent.state("v1")
    report = applier.apply(delta_between(before, after))
    assert Action("~", f"link {intent.device('v1')}") in report.changes
    host.assert_has(after)


def test_a_restart_writes_nothing(host: ApplierHost, intent: Intent) -> None:
    state = intent.state("v1", "v2", "c1")
    host.start().synchronize(state)
    # The kernel tells later that nobody is at the other end.
    eventually(
        lambda: all("NO-CARRIER" in link["flags"] for link in host.links().values()), "no carrier"
    )
    before = host.everything()
    notifications = Notifications(block=7)
    assert not host.start().synchronize(state)
    assert notifications.indexes() == set()
    notifications.close()
    assert host.everything() == before


@pytest.mark.parametrize("cpus", [1, 2])
def test_a_tap_in_use_stays_in_use(host: ApplierHost, cpus: int) -> None:
    intent = Intent(cpus=cpus)
    state = intent.state("v1")
    applier = host.start()
    applier.synchronize(state)
    queue = tap.attach(intent.device("v1"), multiqueue=cpus > 1)
    try:
        assert not applier.audit()
        assert not host.start().synchronize(state)
    finally:
        os.close(queue)


def test_many_links_go_at_once(host: ApplierHost, intent: Intent) -> None:
    host.start().synchronize(intent.state(*[f"v{n}" for n in range(300)], "c1"))
    assert len(host.links()) == 301
    report = host.start().synchronize(intent.state("v7"))
    assert Action("-", "link: 300") in report.changes
    host.assert_has(intent.state("v7"))


def test_a_removal_cut_short_is_finished_at_the_next_start(
    host: ApplierHost, intent: Intent
) -> None:
    state = intent.state("v1", "v2", "c1")
    host.start().synchronize(state)
    with Netlink() as netlink:
        for machine in ("v1", "c1"):
            index = host.links()[intent.device(machine)]["ifindex"]
            assert netlink.batch([links.doom(index)]) == [None]
    report = host.start().synchronize(state)
    assert {Action("+", f"link {intent.device(m)}") for m in ("v1", "c1")} <= set(report.changes)
    host.assert_has(state)


def test_a_guest_hears_nothing_from_a_host_that_forwards_ipv6(
    host: ApplierHost, intent: Intent
) -> None:
    forwarding = Path("/proc/sys/net/ipv6/conf/all/forwarding")
    forwarding.write_text("1")
    applier = host.start()
    applier.synchronize(intent.state("v1"))
    intent.mtu = 600  # without IPv6, and with it again
    applier.synchronize(intent.state("v1"))
    intent.mtu = 1400
    applier.synchronize(intent.state("v1"))
    device = intent.device("v1")
    guest = tap.attach(device)
    try:
        eventually(lambda: host.links()[device]["operstate"] == "UP", "carrier")
        # The host's reports, if there were any, would come before this frame.
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
            sender.bind((device, 0))
            sender.send(b"\xff" * 14 + b"last".ljust(50))
        assert os.read(guest, 2000)[VIRTIO_HEADER_BYTES + 14 :].startswith(b"last")
    finally:
        os.close(guest)


_SYNCHRONIZE = """
import sys
sys.path.insert(0, sys.argv[1])
from applier_host import Intent
from heddle.applier.applier import Applier
from heddle.applier.linux import LinuxKernel
from heddle.datapath.loader import Datapath
kernel = LinuxKernel(Datapath.load(sys.argv[2]))
state = Intent(salt=sys.argv[3]).state(*sys.argv[4:])
print("go", flush=True)
Applier(kernel).synchronize(state)
print("done", flush=True)
"""


@pytest.mark.parametrize("attempt", range(6))
def test_kill_9_at_any_moment_is_made_good_by_the_next_start(
    host: ApplierHost, intent: Intent, attempt: int
) -> None:
    machines = [f"v{n}" for n in range(120)] + [f"c{n}" for n in range(6)]
    arguments = [str(Path(__file__).parent), host.name, intent.salt, *machines]
    process = subprocess.Popen(
        [sys.executable, "-c", _SYNCHRONIZE, *arguments], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"go\n"
    moment = random.randint(0, 2 * len(machines))  # noqa: S311  # not for secrets
    eventually(lambda: len(host.links()) + len(host.rows("macs")) >= moment, f"moment {moment}")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = intent.state(*machines[: 20 * attempt], "c1")
    assert not host.start().synchronize(kept).failures
    host.assert_has(kept)


# ---- repair --------------------------------------------------------------


def _alter_row(host: ApplierHost, _: str) -> None:
    table = host.datapath.table("ports")
    key, value = next(iter(table.items()))
    table.put(key, bytes(len(value)))


def _delete_row(host: ApplierHost, _: str) -> None:
    table = host.datapath.table("macs")
    table.delete(next(iter(table.items()))[0])


def _add_row(host: ApplierHost, _: str) -> None:
    table = host.datapath.table("routes")
    table.put(bytes([32, 0, 0, 0]).ljust(table.key_size, b"\0"), bytes(table.value_size))


@contextmanager
def _other_program() -> Iterator[Path]:
    """Where a program like ours, but not ours, is pinned."""
    other = f"other-{secrets.token_hex(4)}"
    datapath = Datapath.load(other)
    try:
        yield pin_dir(other) / FROM_VM
    finally:
        datapath.close()
        Datapath.unpin(other)


_PLACE = ("pref", "1", "handle", "0x6864646c")


def _replace_filter(host: ApplierHost, device: str) -> None:
    with _other_program() as program:
        at_block = ("block", host.block(device), *_PLACE)
        run("tc", "filter", "replace", *at_block, "bpf", "da", "object-pinned", str(program))


def _delete_filter(host: ApplierHost, device: str) -> None:
    run("tc", "filter", "delete", "block", host.block(device))


def _replace_qdisc(*kind: str) -> Callable[[ApplierHost, str], None]:
    def damage(_: ApplierHost, device: str) -> None:
        run("tc", "qdisc", "delete", "dev", device, "ingress")
        run("tc", "qdisc", "add", "dev", device, *kind)

    return damage


def _as_before_blocks(_: ApplierHost, device: str) -> None:
    """A qdisc and a filter of its own, with a program that is not current."""
    run("tc", "qdisc", "delete", "dev", device, "ingress")
    run("tc", "qdisc", "add", "dev", device, "ingress")
    with _other_program() as program:
        at_link = ("dev", device, "ingress", *_PLACE)
        run("tc", "filter", "add", *at_link, "bpf", "da", "object-pinned", str(program))


def _rename(_: ApplierHost, device: str) -> None:
    run("ip", "link", "set", device, "down")  # else Linux 6.1 refuses
    run("ip", "link", "set", device, "name", "stolen")
    run("ip", "link", "set", "stolen", "up")


def _let_ipv6_on(_: ApplierHost, device: str) -> None:
    Path(f"/proc/sys/net/ipv6/conf/{device}/disable_ipv6").write_text("0")


def _command(*words: str) -> Callable[[ApplierHost, str], None]:
    def damage(_: ApplierHost, device: str) -> None:
        run(*[device if word == "DEVICE" else word for word in words])

    return damage


ROW_DAMAGES: dict[str, tuple[Callable[[ApplierHost, str], None], str]] = {
    "altered row": (_alter_row, "~ ports "),
    "deleted row": (_delete_row, "+ macs "),
    "added row": (_add_row, "- routes "),
}
LINK_DAMAGES: dict[str, tuple[Callable[[ApplierHost, str], None], str]] = {
    "deleted filter": (_delete_filter, "~ link DEVICE: filter"),
    "deleted qdisc": (
        _command("tc", "qdisc", "delete", "dev", "DEVICE", "ingress"),
        "~ link DEVICE: filter",
    ),
    "replaced filter": (_replace_filter, "~ link DEVICE: filter"),
    "no block": (_replace_qdisc("ingress"), "~ link DEVICE: filter"),
    "other block": (_replace_qdisc("ingress_block", "7", "ingress"), "~ link DEVICE: filter"),
    "earlier release": (_as_before_blocks, "~ link DEVICE: filter"),
    "deleted link": (_command("ip", "link", "delete", "DEVICE"), "+ link DEVICE"),
    "mtu": (_command("ip", "link", "set", "DEVICE", "mtu", "900"), "~ link DEVICE: mtu"),
    "alias": (_command("ip", "link", "set", "DEVICE", "alias", "mine"), "~ link DEVICE: alias"),
    "no alias": (_command("ip", "link", "set", "DEVICE", "alias", ""), "~ link DEVICE: alias"),
    "down": (_command("ip", "link", "set", "DEVICE", "down"), "~ link DEVICE: up"),
    "renamed": (_rename, "~ link DEVICE: name"),
    "IPv6": (_let_ipv6_on, "~ link DEVICE: IPv6 off"),
    "queue": (
        _command("tc", "qdisc", "replace", "dev", "DEVICE", "root", "pfifo", "limit", "1"),
        "~ link DEVICE: bandwidth",
    ),
    "other limit": (
        _command("tc", "qdisc", "replace", "dev", "DEVICE", "root", "handle", "7:", "htb"),
        "~ link DEVICE: bandwidth",
    ),
}


@pytest.mark.parametrize("restarted", [False, True], ids=["audit", "restart"])
@pytest.mark.parametrize("machine", ["v1", "c1"])
@pytest.mark.parametrize("kind", LINK_DAMAGES)
def test_a_damaged_link_is_repaired_and_told(
    host: ApplierHost, intent: Intent, kind: str, machine: str, restarted: bool
) -> None:
    _damage_and_repair(host, intent, LINK_DAMAGES[kind], machine, restarted)


@pytest.mark.parametrize("restarted", [False, True], ids=["audit", "restart"])
@pytest.mark.parametrize("kind", ROW_DAMAGES)
def test_a_damaged_row_is_repaired_and_told(
    host: ApplierHost, intent: Intent, kind: str, restarted: bool
) -> None:
    _damage_and_repair(host, intent, ROW_DAMAGES[kind], "v1", restarted)


def _damage_and_repair(
    host: ApplierHost,
    intent: Intent,
    kind: tuple[Callable[[ApplierHost, str], None], str],
    machine: str,
    restarted: bool,
) -> None:
    damage, told = kind
    state = intent.state("v1", "v2", "c1")
    applier = host.start()
    applier.synchronize(state)
    assert not applier.audit()
    device = intent.device(machine)
    damage(host, device)
    report = host.start().synchronize(state) if restarted else applier.audit()
    lines = [f"{action.verb} {action.what}" for action in report.changes]
    assert any(line.startswith(told.replace("DEVICE", device)) for line in lines), lines
    assert not report.failures
    host.assert_has(state)


@pytest.mark.parametrize("machine", ["v1", "c1"])
def test_a_link_is_taken_out_of_a_bridge(host: ApplierHost, intent: Intent, machine: str) -> None:
    """It would bring the machine what others send, unguarded."""
    state = intent.state("v1", "v2", "c1")
    applier = host.start()
    applier.synchronize(state)
    device = intent.device(machine)
    run("ip", "link", "add", "lan", "type", "bridge")
    run("ip", "link", "set", device, "master", "lan")
    (action,) = applier.audit().changes
    assert f"{action.verb} {action.what}" == f"~ link {device}: no bridge"
    run("ip", "link", "delete", "lan")
    host.assert_has(state)
    assert not applier.audit()


def test_a_program_is_replaced_for_all_links_at_one_stroke(
    host: ApplierHost, intent: Intent
) -> None:
    """Those that an earlier release made keep their own qdisc: its filter can
    be replaced, but there would be a moment between two qdiscs."""
    state = intent.state("v1", "v2", "c1")
    host.start().synchronize(state)
    early = intent.device("v2")
    _as_before_blocks(host, early)
    _replace_filter(host, intent.device("v1"))
    report = host.start().synchronize(state)
    assert report.changes == [Action("~", f"link {device}: filter") for device in state.links]
    assert host.block(early) == ""
    host.assert_has(state)


def test_the_block_goes_with_the_last_link(host: ApplierHost, intent: Intent) -> None:
    applier = host.start()
    applier.synchronize(intent.state("v1", "c1"))
    block = host.block(intent.device("v1"))
    run("tc", "filter", "show", "block", block)
    applier.synchronize(HostState())
    with pytest.raises(subprocess.CalledProcessError):
        run("tc", "filter", "show", "block", block)


def test_damage_in_between_two_audits_of_many_ports_is_found(
    host: ApplierHost, intent: Intent
) -> None:
    state = intent.state(*[f"v{n}" for n in range(400)])
    applier = host.start()
    applier.synchronize(state)
    applier.audit()
    device = intent.device("v399")
    run("tc", "qdisc", "delete", "dev", device, "ingress")
    assert applier.audit().changes == [Action("~", f"link {device}: filter")]
    assert host.block(device) == host.block(intent.device("v0")) != ""
    _delete_filter(host, device)
    assert applier.audit().changes == [Action("~", "link: 400")]
    assert not applier.audit()


def test_a_deleted_namespace_is_made_anew(host: ApplierHost, intent: Intent) -> None:
    state = intent.state("v1", "c1")
    applier = host.start()
    applier.synchronize(state)
    run("ip", "netns", "delete", intent.namespace("c1"))
    report = applier.audit()
    assert Action("+", f"namespace {intent.namespace('c1')}") in report.changes
    host.assert_has(state)
    with namespaces.netlink_in(intent.namespace("c1")) as inside:
        assert len(inside.dump(links.get_all())) == 2


def test_a_repair_keeps_the_counters_of_the_port(host: ApplierHost, intent: Intent) -> None:
    state = intent.state("v1", "v2")
    applier = host.start()
    applier.synchronize(state)

    def slot() -> int:
        found: int = host.rows("ports")[host.links()[intent.device("v2")]["ifindex"]][
            "counter_slot"
        ]
        return found

    before = slot()
    run("ip", "link", "delete", intent.device("v2"))
    applier.audit()
    assert slot() == before


# ---- what is not ours ----------------------------------------------------


def test_what_is_not_ours_is_left_alone(host: ApplierHost, intent: Intent) -> None:
    device = intent.device("v1")
    run("ip", "tuntap", "add", "mode", "tap", "name", "tapforeign")
    run("ip", "link", "set", "tapforeign", "alias", "somebody:port:else")
    applier = host.start()
    applier.synchronize(intent.state("v1"))
    run(
        "tc",
        "filter",
        "add",
        "block",
        host.block(device),
        "pref",
        "7",
        "u32",
        "match",
        "u32",
        "0",
        "0",
    )
    assert not applier.audit()
    assert {entry["pref"] for entry in host.filters(device)} == {1, 7}
    host.start().synchronize(intent.state("v1"))
    assert {entry["pref"] for entry in host.filters(device)} == {1, 7}
    host.start().synchronize(HostState())
    assert list(host.links()) == ["tapforeign"]
    assert host.links()["tapforeign"]["ifalias"] == "somebody:port:else"


def test_a_link_whose_place_for_the_filter_is_taken_is_closed(
    host: ApplierHost, intent: Intent
) -> None:
    state = intent.state("v1")
    applier = host.start()
    applier.synchronize(state)
    device = intent.device("v1")
    block = host.block(device)
    # Without somebody else in our block it would be made anew, and be ours alone.
    run("ip", "tuntap", "add", "mode", "tap", "name", "tapforeign")
    run("tc", "qdisc", "add", "dev", "tapforeign", "ingress_block", block, "ingress")
    run("tc", "filter", "delete", "block", block)
    match = ("u32", "match", "u32", "0", "0")
    run("tc", "filter", "add", "block", block, "pref", "1", *match)
    applier.audit()
    assert device in applier.pending
    assert "UP" not in host.links()[device]["flags"]
    run("ip", "link", "delete", "tapforeign")
    assert not applier.audit().failures
    host.assert_has(state)


def test_a_clsact_qdisc_is_as_good_as_ours(host: ApplierHost, intent: Intent) -> None:
    state = intent.state("v1")
    applier = host.start()
    applier.synchronize(state)
    device = intent.device("v1")
    run("tc", "qdisc", "delete", "dev", device, "ingress")
    run("tc", "qdisc", "add", "dev", device, "clsact")
    assert applier.audit().changes == [Action("~", f"link {device}: filter")]
    assert not applier.audit()
    assert "clsact" in run("tc", "qdisc", "show", "dev", device)


@pytest.mark.parametrize("machine", ["v1", "c1"])
def test_a_foreign_link_of_the_name_keeps_the_port_pending(
    host: ApplierHost, intent: Intent, machine: str
) -> None:
    device = intent.device(machine)
    run("ip", "tuntap", "add", "mode", "tap", "name", device)
    applier = host.start()
    applier.synchronize(intent.state("v2", machine))
    assert "is not heddle's" in applier.pending[device]
    assert "ifalias" not in host.links()[device]
    assert host.filters(device) == []
    applier.audit()
    assert device in applier.pending
    run("ip", "link", "delete", device)
    assert not applier.audit().failures
    host.assert_has(intent.state("v2", machine))


def test_a_foreign_namespace_of_the_name_keeps_the_container_pending(
    host: ApplierHost, intent: Intent
) -> None:
    name = intent.namespace("c1")
    run("ip", "netns", "add", name)
    try:
        applier = host.start()
        applier.synchronize(intent.state("c1"))
        assert "is not heddle's" in applier.pending[f"namespace {name}"]
        host.start().synchronize(HostState())
        assert name in run("ip", "netns", "list")
    finally:
        run("ip", "netns", "delete", name)


def test_a_table_that_is_full_keeps_the_rest_going(host: ApplierHost, intent: Intent) -> None:
    table = host.datapath.table("dhcp4_templates")
    applier = host.start()
    applier.synchronize(HostState())
    filling = range(1000, 1000 + table.max_entries)
    table.put_many((n.to_bytes(4, "little"), bytes(table.value_size)) for n in filling)
    applier.apply(delta_between(HostState(), intent.state("v1")))
    assert list(applier.pending) == ["dhcp4_templates 1"]
    assert "UP" in host.links()[intent.device("v1")]["flags"]
    table.delete_many([n.to_bytes(4, "little") for n in filling])
    applier.audit()
    assert applier.pending == {}
    host.assert_has(intent.state("v1"))


# ---- netlink -------------------------------------------------------------


def test_a_batch_tells_which_requests_failed_and_why(host: ApplierHost, intent: Intent) -> None:
    host.start().synchronize(intent.state("v1"))
    index = host.links()[intent.device("v1")]["ifindex"]
    with Netlink() as netlink:
        requests = [links.change(index, mtu=1000), links.change(index, mtu=1), links.delete(9999)]
        good, bad, missing = netlink.batch(requests)
        assert good is None
        assert bad is not None
        assert "mtu less than device minimum" in str(bad.strerror)
        assert missing is not None
        results = netlink.batch(requests * 400)
    assert [error is None for error in results] == [True, False, False] * 400


def test_without_tun_the_remedy_is_named() -> None:
    """As where its module is not loaded."""
    script = "from heddle.applier import tap; tap.create('tap0', multiqueue=False)"
    hidden = 'mount -t tmpfs none /dev/net; exec "$@"'
    argv = ("unshare", "--mount", "--net", "sh", "-ec", hidden, "sh", sys.executable, "-c", script)
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    assert "/dev/net/tun: No such file or directory: `modprobe tun`" in done.stderr
