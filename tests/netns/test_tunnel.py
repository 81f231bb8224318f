"""The tunnel of a host in the running kernel: made, kept, and taken away."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from applier_host import ApplierHost, applier_host, run

from heddle.applier.applier import Action, Applier
from heddle.compiler.addresses import mapped
from heddle.compiler.state import (
    Device,
    HostState,
    RowKey,
    RowValue,
    ThisHostRow,
    Tunnel,
    TunnelSenderKey,
)
from heddle.intent.names import TUNNEL, tunnel_alias
from heddle.paths import pin_dir

IPV4 = Tunnel(4789, "198.18.0.1", tunnel_alias("h1"))
IPV6 = Tunnel(4789, "fd00:18::1", tunnel_alias("h1"))
GROUPS = {"198.18.0.1": "239.0.0.7", "fd00:18::1": "ff05::7"}
PEER = {"198.18.0.1": "198.18.0.2", "fd00:18::1": "fd00:18::2"}
OTHER_PORT = 5000


@pytest.fixture
def host(tmp_path: Path) -> Iterator[ApplierHost]:
    """A host whose underlay is a cable that leads nowhere."""
    with applier_host(tmp_path) as made:
        run("ip", "link", "add", "underlay", "type", "veth", "peer", "name", "far")
        run("ip", "link", "set", "far", "up")
        run("ip", "link", "set", "underlay", "up")
        for address in (f"{IPV4.vtep}/24", f"{IPV6.vtep}/64"):
            run("ip", "address", "add", address, "dev", "underlay", "nodad")
        yield made


def state(tunnel: Tunnel | None) -> HostState:
    return HostState(tunnel=tunnel)


def started(host: ApplierHost, tunnel: Tunnel = IPV4) -> Applier:
    applier = host.start()
    assert not applier.synchronize(state(tunnel)).failures
    return applier


def device(host: ApplierHost) -> dict[str, Any]:
    return host.links()[TUNNEL]


# ---- what is made ------------------------------------------------------------


@pytest.mark.parametrize("udp_port", [4789, 8472])
def test_one_external_device_serves_all_networks(host: ApplierHost, udp_port: int) -> None:
    started(host, replace(IPV4, udp_port=udp_port))
    link = device(host)
    data = link["linkinfo"]["info_data"]
    assert link["linkinfo"]["info_kind"] == "vxlan"
    assert (data["external"], data["gbp"], data["learning"]) == (True, True, False)
    assert (data["port"], data["udp_zero_csum6_rx"]) == (udp_port, True)
    assert (link["ifalias"], link["qdisc"]) == ("heddle:tunnel:h1", "noqueue")
    assert link["inet6_addr_gen_mode"] == "none"
    assert link["mtu"] > 65000
    assert "UP" in link["flags"]


def test_it_takes_envelopes_in_ipv4_and_ipv6(host: ApplierHost) -> None:
    started(host)
    listening = run("ss", "-Hlun", "sport", "=", ":4789").split()
    assert {"0.0.0.0:4789", "[::]:4789"} <= set(listening)


def test_our_program_is_the_only_one_at_its_ingress(host: ApplierHost) -> None:
    started(host)
    (entry,) = host.filters(TUNNEL)
    assert (entry["pref"], entry["protocol"], entry["kind"]) == (1, "all", "bpf")
    assert entry["direct-action"]
    assert entry["prog"]["id"] == host.datapath.from_tunnel.id


@pytest.mark.parametrize("tunnel", [IPV4, IPV6], ids=["IPv4", "IPv6"])
def test_envelopes_are_not_tracked_and_others_are(host: ApplierHost, tunnel: Tunnel) -> None:
    run("nft", "add", "table", "inet", "firewall")
    run("nft", "add", "chain", "inet", "firewall", "out", "{ type filter hook output priority 0; }")
    run("nft", "add", "rule", "inet", "firewall", "out", "ct", "state", "new", "accept")
    started(host, tunnel)
    family = socket.AF_INET if "." in tunnel.vtep else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        for port in (tunnel.udp_port, OTHER_PORT):
            sender.sendto(b"datagram", (PEER[tunnel.vtep], port))
    tracked = Path("/proc/thread-self/net/nf_conntrack").read_text()
    assert f"dport={OTHER_PORT} " in tracked
    assert f"dport={tunnel.udp_port} " not in tracked
    assert "table inet firewall" in run("nft", "list", "tables")


@pytest.mark.parametrize("tunnel", [IPV4, IPV6], ids=["IPv4", "IPv6"])
def test_it_is_in_the_multicast_groups_that_are_wanted(host: ApplierHost, tunnel: Tunnel) -> None:
    group = GROUPS[tunnel.vtep]
    applier = started(host, replace(tunnel, groups=(group,)))
    assert group in run("ip", "maddress", "show", "dev", "underlay").split()
    assert "dev underlay" in run("ip", "route", "get", group, "from", tunnel.vtep)
    applier.synchronize(state(tunnel))
    assert group not in run("ip", "maddress", "show", "dev", "underlay").split()


def test_a_restart_touches_nothing(host: ApplierHost) -> None:
    started(host, replace(IPV4, groups=("239.0.0.7",)))
    index = device(host)["ifindex"]
    assert not host.start().synchronize(state(replace(IPV4, groups=("239.0.0.7",))))
    assert device(host)["ifindex"] == index


@pytest.mark.parametrize("tunnel", [IPV4, IPV6], ids=["IPv4", "IPv6"])
def test_nothing_is_left_of_it(host: ApplierHost, tunnel: Tunnel) -> None:
    shown = ("ip address show dev underlay", "ip -6 route show table all")
    before = [run(*command.split()) for command in shown]
    applier = started(host, replace(tunnel, groups=(GROUPS[tunnel.vtep],)))
    report = applier.synchronize(state(None))
    assert report.changes == [Action("-", f"link {TUNNEL}")]
    assert TUNNEL not in host.links()
    assert run("nft", "list", "ruleset") == ""
    assert [run(*command.split()) for command in shown] == before
    assert not applier.audit()
    assert not (pin_dir(host.datapath.host) / "underlay_link").exists()


# ---- repair ------------------------------------------------------------------

OF_DEVICE = f"dev {TUNNEL}"
DAMAGES = {
    "down": f"ip link set {TUNNEL} down",
    "filter": f"tc filter delete {OF_DEVICE} ingress",
    "alias": f"ip link set {TUNNEL} alias mine",
    "mtu": f"ip link set {TUNNEL} mtu 1400",
    "gro": f"ethtool -K {TUNNEL} gro on",
    "connection tracking": "nft delete table inet heddle",
    "groups": "ip address delete 239.0.0.7/32 dev underlay",
}


def test_a_way_out_that_is_lost_is_opened_again(host: ApplierHost) -> None:
    wanted = replace(IPV6, groups=("ff05::7",))
    applier = started(host, wanted)
    run(
        *[
            "ip",
            "-6",
            "route",
            "delete",
            "multicast",
            "ff05::7",
            "dev",
            "underlay",
            "table",
            "local",
        ]
    )
    run(*["ip", "-6", "route", "add", "local", "ff05::7", "dev", "underlay", "table", "local"])
    assert applier.audit().changes == [Action("~", f"link {TUNNEL}: groups")]
    assert not host.start().synchronize(state(wanted))


@pytest.mark.parametrize("what", DAMAGES)
def test_damage_is_repaired_and_told(host: ApplierHost, what: str) -> None:
    wanted = replace(IPV4, groups=("239.0.0.7",))
    applier = started(host, wanted)
    run(*DAMAGES[what].split())
    report = applier.audit()
    assert report.changes == [Action("~", f"link {TUNNEL}: {what}")]
    assert not report.failures
    assert not host.start().synchronize(state(wanted))


@pytest.mark.parametrize(
    "commands",
    [
        [f"tc qdisc delete {OF_DEVICE} ingress"],
        [f"tc qdisc delete {OF_DEVICE} ingress", f"tc qdisc add {OF_DEVICE} clsact"],
        [
            f"tc qdisc delete {OF_DEVICE} ingress",
            f"tc qdisc add {OF_DEVICE} ingress_block 9 ingress",
        ],
    ],
    ids=["no qdisc", "clsact", "a block of others"],
)
def test_the_filter_comes_back_whatever_its_qdisc(host: ApplierHost, commands: list[str]) -> None:
    applier = started(host)
    for command in commands:
        run(*command.split())
    assert applier.audit().changes == [Action("~", f"link {TUNNEL}: filter")]
    assert not host.start().synchronize(state(IPV4))


@pytest.mark.parametrize("restarted", [False, True])
def test_a_deleted_device_is_made_anew(host: ApplierHost, restarted: bool) -> None:
    applier = started(host)
    run("ip", "link", "delete", TUNNEL)
    report = host.start().synchronize(state(IPV4)) if restarted else applier.audit()
    assert report.changes == [Action("+", f"link {TUNNEL}")]
    assert "UP" in device(host)["flags"]


def test_one_of_other_settings_is_replaced(host: ApplierHost) -> None:
    applier = started(host)
    run("ip", "link", "delete", TUNNEL)
    run(*f"ip link add {TUNNEL} type vxlan external dstport 4790".split())
    run("ip", "link", "set", TUNNEL, "alias", IPV4.alias)
    assert applier.audit().changes[0].what.startswith(f"link {TUNNEL}: settings")
    assert device(host)["linkinfo"]["info_data"]["port"] == 4789


# ---- the watch of the underlay ---------------------------------------------------

PEER_MAC = "02:00:00:00:99:02"


def seen_ways(host: ApplierHost) -> list[tuple[Any, Any]]:
    table = host.datapath.table("seen_ways")
    key, value = host.datapath.abi.table_types("seen_ways")
    return [(key.unpack(k), value.unpack(v)) for k, v in table.items()]


def send_like_the_stack(host: ApplierHost, udp_port: int) -> None:
    """What has a UDP checksum, for a host that is known."""
    peer = PEER[IPV4.vtep]
    run("ip", "neigh", "replace", peer, "lladdr", PEER_MAC, "dev", "underlay")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"envelope", (peer, udp_port))


@pytest.mark.parametrize("udp_port", [4789, 8472])
def test_how_the_stack_sends_is_seen(host: ApplierHost, udp_port: int) -> None:
    applier = host.start()
    rows: dict[RowKey, RowValue] = {
        RowKey("this_host", 0): ThisHostRow(1, Device(TUNNEL), udp_port),
        RowKey("tunnel_senders", TunnelSenderKey(mapped(PEER[IPV4.vtep]))): 2,
    }
    wanted = HostState(rows=rows, tunnel=replace(IPV4, udp_port=udp_port))
    assert not applier.synchronize(wanted).failures
    send_like_the_stack(host, OTHER_PORT)
    assert seen_ways(host) == []
    send_like_the_stack(host, udp_port)
    ((key, way),) = seen_ways(host)
    assert key["address"] == mapped(PEER[IPV4.vtep])
    (underlay,) = [link for name, link in host.links().items() if name == "underlay"]
    assert way["ifindex"] == underlay["ifindex"]
    assert way["macs"].hex(":") == f"{PEER_MAC}:{underlay['address']}"


def test_a_lost_watch_comes_back(host: ApplierHost) -> None:
    applier = started(host)
    (pin_dir(host.datapath.host) / "underlay_link").unlink()
    assert applier.audit().changes == [Action("~", f"link {TUNNEL}: watch of the underlay")]
    assert not host.start().synchronize(state(IPV4))


def test_the_watch_follows_the_address(host: ApplierHost) -> None:
    applier = started(host)
    run("ip", "address", "delete", f"{IPV4.vtep}/24", "dev", "underlay")
    run("ip", "address", "add", f"{IPV4.vtep}/24", "dev", "far")
    assert applier.audit().changes == [Action("~", f"link {TUNNEL}: watch of the underlay")]
    run("ip", "link", "delete", "underlay")


def test_a_loopback_is_not_watched(host: ApplierHost) -> None:
    """Where an address is announced by a routing protocol, no link has it."""
    run("ip", "address", "delete", f"{IPV4.vtep}/24", "dev", "underlay")
    run("ip", "address", "add", f"{IPV4.vtep}/32", "dev", "lo")
    applier = started(host)
    assert not (pin_dir(host.datapath.host) / "underlay_link").exists()
    assert applier.envelopes == "stack (no Ethernet)"


def test_the_stack_may_be_left_to_make_all_envelopes(host: ApplierHost) -> None:
    """By the settings of the host, and back: then nothing watches."""
    applier, pin = started(host), pin_dir(host.datapath.host) / "underlay_link"
    assert (applier.envelopes, pin.exists()) == ("direct", True)
    watch = Action("~", f"link {TUNNEL}: watch of the underlay")
    assert applier.synchronize(state(replace(IPV4, is_direct=False))).changes == [watch]
    assert (applier.envelopes, pin.exists()) == ("stack (settings)", False)
    assert not applier.audit()
    assert applier.synchronize(state(IPV4)).changes == [watch]
    assert (applier.envelopes, pin.exists()) == ("direct", True)


def test_who_makes_envelopes_in_ipv6(host: ApplierHost) -> None:
    assert started(host, IPV6).envelopes == "stack (IPv6 underlay)"


# ---- what stands in the way --------------------------------------------------


def test_a_program_that_holds_the_udp_port_is_named_until_it_has_gone(host: ApplierHost) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("", 4789))
        applier = host.start()
        report = applier.synchronize(state(IPV4))
        assert "UDP port 4789 is taken by another program" in report.failures[TUNNEL]
        assert TUNNEL in applier.pending
    assert not applier.audit().failures
    assert not applier.pending
    assert "UP" in device(host)["flags"]


def test_another_vxlan_device_is_named_and_left_alone(host: ApplierHost) -> None:
    run("ip", "link", "add", "other", "up", "type", "vxlan", "id", "5", "dstport", "4789")
    applier = host.start()
    assert "VXLAN device" in applier.synchronize(state(IPV4)).failures[TUNNEL]
    assert "UP" in host.links()["other"]["flags"]
    run("ip", "link", "delete", "other")
    assert not applier.audit().failures


def test_a_foreign_link_of_the_name_is_left_alone(host: ApplierHost) -> None:
    run(*f"ip link add {TUNNEL} type vxlan id 5 dstport 4800".split())
    applier = host.start()
    report = applier.synchronize(state(IPV4))
    assert "is not heddle's: remove it" in report.failures[TUNNEL]
    assert device(host)["linkinfo"]["info_data"]["id"] == 5


def test_a_missing_underlay_address_is_named(host: ApplierHost) -> None:
    applier = started(host)
    run("ip", "address", "delete", f"{IPV4.vtep}/24", "dev", "underlay")
    failure = applier.audit().failures[TUNNEL]
    assert failure.startswith(f"no link of this host has the underlay address {IPV4.vtep}: add it")
    run("ip", "address", "add", f"{IPV4.vtep}/24", "dev", "underlay")
    assert not applier.audit().failures
