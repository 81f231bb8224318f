"""The flow table: the second packet of a flow fares as the first, cheaper.

That hit and miss give the same frame, every test of this folder checks (see
``Switchboard.send``); here is what is remembered, counted and forgotten.
"""

from __future__ import annotations

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
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import ICMPv6ND_NA, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw

from tests.packets.conftest import Sent, Switchboard

Send = Callable[..., Sent]
VERSIONS = (4, 6)


def only_flow(board: Switchboard) -> tuple[dict[str, Any], dict[str, Any]]:
    (flow,) = board.flows()
    return flow


@pytest.mark.parametrize("version", VERSIONS)
def test_what_a_routed_flow_remembers(board: Switchboard, version: int) -> None:
    board.run("web1", to_router(WEB1, MAIN_WEB, FAR1.address(version)))
    key, flow = only_flow(board)
    assert key == {
        "ifindex": board.devices["web1"].ifindex,
        "source_port_be": 33000,
        "destination_port_be": 53,
        "l4_protocol": 17,
        "fragment": board.world.value("FRAGMENT_NONE"),
        "source": mapped(WEB1.address(version)),
        "destination": mapped(FAR1.address(version)),
    }
    epoch_slot = WEB.vni % board.world.value("EPOCH_SLOTS")
    assert flow == {
        "received_macs": mac_bytes(MAIN_WEB.mac) + mac_bytes(WEB1.mac),
        "sent_macs": mac_bytes(FAR1.mac) + mac_bytes(EDGE_FAR.mac),
        "ifindex": board.devices["far1"].ifindex,
        "epoch": dict(board.rows("epochs"))[epoch_slot],
        "from_slot": WEB1.slot,
        "to_slot": FAR1.slot,
        "epoch_slot": epoch_slot,
        "mtu": FAR1.network.mtu,
        "flags": 0,
        "hops": 2,
    }


def test_what_a_switched_flow_remembers(board: Switchboard) -> None:
    board.run("web1", switched(WEB1, WEB3, 4))
    _, flow = only_flow(board)
    assert flow["received_macs"] == flow["sent_macs"] == mac_bytes(WEB3.mac) + mac_bytes(WEB1.mac)
    assert (flow["hops"], flow["mtu"]) == (0, WEB.mtu)
    assert flow["flags"] == board.world.value("FLOW_PEER")


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
    assert len(board.flows()) == 1


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
    assert len(board.flows()) == 1


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


def test_each_fragment_kind_is_a_flow_of_its_own(board: Switchboard, send: Send) -> None:
    def fragment(**fields: object) -> Ether:
        ip = IP(src=WEB1.ipv4, dst=WEB2.ipv4, proto=17, id=3, **fields)
        return Ether(src=WEB1.mac, dst=WEB2.mac) / ip / Raw(b"\x00\x07\x00\x08" + bytes(20))

    for frame in (fragment(flags="MF"), fragment(flags="MF", frag=3), fragment(frag=6)):
        send("web1", frame).arrives("web2", frame)
    kinds = {(key["fragment"], key["destination_port_be"]) for key, _ in board.flows()}
    value = board.world.value
    assert kinds == {(value("FRAGMENT_FIRST"), 8), (value("FRAGMENT_LATER"), 0)}


def test_pings_are_told_apart_by_identifier(board: Switchboard) -> None:
    for identifier in (1, 2, 2):
        frame = Ether(src=WEB1.mac, dst=WEB2.mac) / l3(4, WEB1.ipv4, WEB2.ipv4)
        board.run("web1", frame / ICMP(id=identifier))
    assert sorted(key["source_port_be"] for key, _ in board.flows()) == [1, 2]


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


def test_full_table_lets_old_flows_go(board: Switchboard, send: Send) -> None:
    """LRU: a table full of strangers neither stops nor slows a new flow."""
    table = board.datapath.table("flows")
    key_codec, value_codec = board.datapath.abi.table_types("flows")
    value = value_codec.pack({"ifindex": 1})
    table.put_many(
        (key_codec.pack({"ifindex": 1, "source": number.to_bytes(16, "big")}), value)
        for number in range(table.max_entries + table.max_entries // 8)
    )
    frame = to_router(WEB1, MAIN_WEB, DB1.ipv4)
    board.run("web1", frame)
    assert board.trace("web1", frame).decision("STAGE_FLOW") == "DECISION_FLOW_HIT"
    send("web1", frame).arrives("db1", forwarded(frame, MAIN_DB.mac, DB1.mac))
