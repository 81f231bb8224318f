"""The flow table: the second packet of a flow fares as the first, cheaper.

That hit and miss give the same frame, every test of this folder checks (see
``Switchboard.send``); here is what is remembered, counted and forgotten.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from packet_shapes import L4_NAMES, forwarded, l3, l4, switched, to_router
from packet_world import (
    DB1,
    EDGE_FAR,
    FAR1,
    GATE,
    MAIN_DB,
    MAIN_WEB,
    WEB,
    WEB1,
    WEB2,
    WEB3,
    mac_bytes,
    mapped,
)
from scapy.layers.inet import ICMP
from scapy.layers.inet6 import ICMPv6ND_NA, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw

from tests.packets.conftest import Sent, Switchboard

Send = Callable[..., Sent]
VERSIONS = (4, 6)
SECOND = 10**9
COARSE_NS = SECOND  # used_at is of a clock that ticks every 10 ms or so


def entry(board: Switchboard, role: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Key and value of the only entry that has the role."""
    number = board.world.value(role)
    ((key, flow),) = [each for each in board.flows() if each[1]["role"] == number]
    return key, flow


def times(flow: dict[str, Any]) -> dict[str, int]:
    return {name: flow.pop(name) for name in ("opened_at", "used_at", "alarm_at")}


@pytest.mark.parametrize("version", VERSIONS)
def test_what_a_routed_flow_remembers(board: Switchboard, version: int) -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    frame = to_router(WEB1, MAIN_WEB, FAR1.address(version))
    board.run("web1", frame)
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    key, flow = entry(board, "FLOW_OPENER")
    assert key == {
        "ifindex": board.devices["web1"].ifindex,
        "source_port_be": 33000,
        "destination_port_be": 53,
        "l4_protocol": 17,
        "source": mapped(WEB1.address(version)),
        "destination": mapped(FAR1.address(version)),
    }
    at = times(flow)
    assert before <= at["opened_at"] <= after
    assert before - COARSE_NS <= at["used_at"] <= after
    assert at["alarm_at"] == at["opened_at"] + 30 * SECOND
    value = board.world.value
    epoch_slot = WEB.vni % value("EPOCH_SLOTS")
    epoch = dict(board.rows("epochs"))[epoch_slot]
    assert flow == {
        "received_macs": mac_bytes(MAIN_WEB.mac) + mac_bytes(WEB1.mac),
        "sent_macs": mac_bytes(FAR1.mac) + mac_bytes(EDGE_FAR.mac),
        "ifindex": board.devices["far1"].ifindex,
        "epoch": epoch,
        "from_slot": WEB1.slot,
        "to_slot": FAR1.slot,
        "shaper": 0,
        "tunnel": 0,
        "host": 0,
        "to_network": FAR1.network.vni,
        "epoch_slot": epoch_slot,
        "mtu": FAR1.network.mtu,
        "flags": value("FLOW_SETTLED"),
        "hops": 2,
        "dscp": 0,
        "packets": 1,
        "bytes": len(bytes(frame)),
        "other_ifindex": board.devices["far1"].ifindex,
        "role": value("FLOW_OPENER"),
        "state": value("CONNECTION_NEW"),
        "connection_flags": 0,
        "policy_epoch": epoch,
        "from_rule": {4: 1, 6: 2}[version],
        "to_rule": {4: 3, 6: 4}[version],
    }


@pytest.mark.parametrize("kind", L4_NAMES)
@pytest.mark.parametrize("version", VERSIONS)
def test_the_other_direction_has_an_entry_from_the_start(
    board: Switchboard, version: int, kind: str
) -> None:
    """It knows to whom it replies; what to do with a reply, the first one tells."""
    board.run("web1", to_router(WEB1, MAIN_WEB, DB1.address(version), kind))
    key, flow = entry(board, "FLOW_REPLY")
    opener_key, _ = entry(board, "FLOW_OPENER")
    reply_type = {4: 0, 6: 129}[version] << 8
    ports = {"source_port_be": opener_key["destination_port_be"], "destination_port_be": 33000}
    echo = {"source_port_be": 7, "destination_port_be": reply_type}
    assert key == {
        "ifindex": board.devices["db1"].ifindex,
        "l4_protocol": opener_key["l4_protocol"],
        "source": mapped(DB1.address(version)),
        "destination": mapped(WEB1.address(version)),
        **(echo if kind == "echo" else ports),
    }
    assert (flow["ifindex"], flow["other_ifindex"]) == (0, board.devices["web1"].ifindex)
    assert (flow["packets"], flow["epoch"]) == (0, 0)


def test_what_a_switched_flow_remembers(board: Switchboard) -> None:
    board.run("web1", switched(WEB1, WEB3, 4))
    _, flow = entry(board, "FLOW_OPENER")
    assert flow["received_macs"] == flow["sent_macs"] == mac_bytes(WEB3.mac) + mac_bytes(WEB1.mac)
    assert (flow["hops"], flow["mtu"]) == (0, WEB.mtu)
    assert flow["flags"] == board.world.value("FLOW_PEER") | board.world.value("FLOW_SETTLED")


def test_ports_without_security_need_one_entry(board: Switchboard) -> None:
    """No connection: each direction is for itself."""
    for nic in (WEB1, WEB2):
        board.world.open_port(nic)
    board.run("web1", switched(WEB1, WEB2, 4))
    ((_, flow),) = board.flows()
    assert flow["role"] == board.world.value("FLOW_UNTRACKED")
    told = board.trace("web1", switched(WEB1, WEB2, 4))
    assert told.decision("STAGE_FLOW") == "DECISION_FLOW_HIT"
    assert told.decision("STAGE_POLICY") == "DECISION_POLICY_OPEN"


@pytest.mark.parametrize("kind", L4_NAMES)
@pytest.mark.parametrize("version", VERSIONS)
def test_miss_then_hit(board: Switchboard, version: int, kind: str) -> None:
    frame = to_router(WEB1, MAIN_WEB, DB1.address(version), kind)
    first = board.trace("web1", frame)
    assert first.decision("STAGE_FLOW") == "DECISION_FLOW_MISS"
    assert first.cached_ifindex == 0
    miss = board.run("web1", frame)
    then = board.trace("web1", frame)
    assert then.decision("STAGE_FLOW") == "DECISION_FLOW_HIT"
    assert then.cached_ifindex == then.to_ifindex == board.devices["db1"].ifindex
    hit = board.run("web1", frame)
    assert (hit.verdict, hit.frame) == (miss.verdict, miss.frame)
    assert hit.frame == bytes(forwarded(frame, MAIN_DB.mac, DB1.mac))


def test_hits_and_misses_are_counted_alike(board: Switchboard) -> None:
    frame = bytes(to_router(WEB1, MAIN_WEB, DB1.ipv4))
    for count in range(1, 6):
        board.run("web1", frame)
        sender, receiver = board.counters(WEB1.slot), board.counters(DB1.slot)
        assert sender["from_vm_packets"] == receiver["to_vm_packets"] == count
        assert sender["from_vm_bytes"] == receiver["to_vm_bytes"] == count * len(frame)
        assert sender["to_vm_packets"] == receiver["from_vm_packets"] == 0


def test_stale_flow_is_decided_again(board: Switchboard, send: Send) -> None:
    """db1's address moves to gate: flows learn of it when the epoch advances."""
    frame = to_router(WEB1, MAIN_WEB, DB1.ipv4)
    send("web1", frame).arrives("db1", forwarded(frame, MAIN_DB.mac, DB1.mac))

    kind, target = board.world.value("ENDPOINT_PORT"), board.devices["gate"].ifindex
    board.world.put_address(DB1.network, DB1.ipv4, kind, target, GATE.mac)
    still = board.run("web1", frame)
    assert still.frame == bytes(forwarded(frame, MAIN_DB.mac, DB1.mac))

    board.world.advance_epoch(WEB)
    told = board.trace("web1", frame)
    assert told.decision("STAGE_FLOW") == "DECISION_FLOW_STALE"
    assert told.cached_ifindex == 0
    send("web1", frame).arrives("gate", forwarded(frame, MAIN_DB.mac, GATE.mac))
    assert board.connection().to_ifindex == target, "the connection with db1 is over"
    assert len(board.flows()) == 2


def test_stale_flow_may_end_in_a_drop(board: Switchboard, send: Send) -> None:
    frame = switched(WEB1, WEB2, 6)
    send("web1", frame).arrives("web2", frame)
    board.world.delete("macs", {"network": WEB.vni, "mac": mac_bytes(WEB2.mac)})
    board.world.advance_epoch(WEB)
    assert send("web1", frame).reason == "DROP_UNKNOWN_MAC"


def test_epoch_of_another_network_leaves_the_flow(board: Switchboard) -> None:
    frame = switched(WEB1, WEB2, 4)
    board.run("web1", frame)
    board.world.advance_epoch(FAR1.network)
    assert board.trace("web1", frame).decision("STAGE_FLOW") == "DECISION_FLOW_HIT"


def test_other_macs_are_no_hit(board: Switchboard, send: Send) -> None:
    """The same addresses to another MAC: routed before, switched now."""
    routed = to_router(WEB1, MAIN_WEB, WEB2.ipv4)
    send("web1", routed).arrives("web2", forwarded(routed, MAIN_WEB.mac, WEB2.mac))
    direct = switched(WEB1, WEB2, 4)
    assert board.trace("web1", direct).decision("STAGE_FLOW") == "DECISION_FLOW_MISS"
    send("web1", direct).arrives("web2", direct)
    assert board.connection().packets == 4, "it is the same connection"


@pytest.mark.parametrize("version", VERSIONS)
def test_last_hop_of_a_known_flow_is_not_forwarded(send: Send, version: int) -> None:
    alive = to_router(WEB1, MAIN_WEB, DB1.address(version), ttl=2)
    assert send("web1", alive).reason is None
    dying = to_router(WEB1, MAIN_WEB, DB1.address(version), ttl=1)
    assert send("web1", dying).reason == "DROP_TTL_EXCEEDED"
    assert send("web1", alive).reason is None


@pytest.mark.parametrize("version", VERSIONS)
def test_large_packet_of_a_known_flow_is_not_forwarded(send: Send, version: int) -> None:
    small = to_router(WEB1, MAIN_WEB, FAR1.address(version))
    assert send("web1", small).reason is None
    large = small / Raw(bytes(FAR1.network.mtu))
    assert send("web1", large).reason == "DROP_TOO_BIG"


def test_pings_are_told_apart_by_identifier(board: Switchboard) -> None:
    for identifier in (1, 2, 2):
        frame = Ether(src=WEB1.mac, dst=WEB2.mac) / l3(4, WEB1.ipv4, WEB2.ipv4)
        board.run("web1", frame / ICMP(id=identifier))
    assert sorted(ping.source_port for ping in board.connections()) == [1, 2]


def test_what_is_answered_flooded_or_dropped_is_not_remembered(board: Switchboard) -> None:
    broadcast = "ff:ff:ff:ff:ff:ff"
    frames = [
        Ether(src=WEB1.mac, dst=broadcast) / ARP(hwsrc=WEB1.mac, psrc=WEB1.ipv4, pdst=WEB2.ipv4),
        Ether(src=WEB1.mac, dst=broadcast) / l3(4, WEB1.ipv4, "255.255.255.255") / l4("udp", 4),
        to_router(WEB1, MAIN_WEB, MAIN_WEB.ipv4, "echo"),
        to_router(WEB1, MAIN_WEB, "8.8.8.8"),
        to_router(WEB1, MAIN_WEB, "10.9.66.1"),
        switched(WEB1, WEB1, 4),
    ]
    for frame in frames:
        board.run("web1", frame)
    assert board.flows() == []


def test_neighbor_messages_between_vms_are_never_remembered(board: Switchboard) -> None:
    """The guard reads each of them."""
    ethernet = Ether(src=WEB1.mac, dst=WEB2.mac)
    arp = ARP(op="is-at", hwsrc=WEB1.mac, psrc=WEB1.ipv4, hwdst=WEB2.mac, pdst=WEB2.ipv4)
    na = IPv6(src=WEB1.ipv6, dst=WEB2.ipv6, hlim=255) / ICMPv6ND_NA(tgt=WEB1.ipv6)
    for frame in (ethernet / arp, ethernet / na):
        board.send("web1", frame).arrives("web2", frame)
        assert board.trace("web1", frame).decision("STAGE_FLOW") == "DECISION_FLOW_NONE"
    assert board.flows() == []
