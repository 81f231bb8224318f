"""Switching by destination MAC, within one network."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from packet_diff import assert_same_frame
from packet_shapes import L4_NAMES, l3, l4, switched
from packet_world import DB1, GATE, LONE1, MAIN_WEB, NICS, WEB1, WEB2, WEB3
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from tests.packets.conftest import Sent, Switchboard

Send = Callable[..., Sent]
BROADCAST = "ff:ff:ff:ff:ff:ff"


@pytest.mark.parametrize("kind", L4_NAMES)
@pytest.mark.parametrize("version", [4, 6])
def test_known_unicast_goes_to_its_port_as_it_is(send: Send, version: int, kind: str) -> None:
    frame = switched(WEB1, WEB2, version, kind)
    sent = send("web1", frame)
    sent.arrives("web2", frame)
    assert sent.trace.decision("STAGE_SWITCH") == "DECISION_SWITCH_UNICAST"
    assert sent.trace.decision("STAGE_DELIVER") == "DECISION_DELIVER"
    assert sent.trace.to_network == WEB1.network.vni


@pytest.mark.parametrize("version", [4, 6])
def test_container_gets_it_behind_its_veth(send: Send, version: int) -> None:
    frame = switched(WEB1, WEB3, version)
    sent = send("web1", frame)
    sent.arrives("web3", frame)
    assert sent.trace.decision("STAGE_DELIVER") == "DECISION_DELIVER_PEER"


@pytest.mark.parametrize("ttl", [1, 255])
def test_ttl_is_no_matter_of_a_switch(send: Send, ttl: int) -> None:
    frame = Ether(src=WEB1.mac, dst=WEB2.mac) / l3(4, WEB1.ipv4, WEB2.ipv4, ttl) / l4("udp", 4)
    send("web1", frame).arrives("web2", frame)


def flood_frames(source: str, source4: str, source6: str) -> dict[str, Ether]:
    udp = UDP(sport=9, dport=9) / Raw(b"to all")
    return {
        "broadcast": Ether(src=source, dst=BROADCAST)
        / IP(src=source4, dst="255.255.255.255")
        / udp,
        "multicast4": Ether(src=source, dst="01:00:5e:00:00:fb")
        / IP(src=source4, dst="224.0.0.251", ttl=1)
        / udp,
        "multicast6": Ether(src=source, dst="33:33:00:00:00:fb")
        / IPv6(src=source6, dst="ff02::fb", hlim=1)
        / udp,
    }


@pytest.mark.parametrize("kind", ["broadcast", "multicast4", "multicast6"])
@pytest.mark.parametrize("source", [WEB1, WEB2, WEB3], ids=lambda nic: nic.name)
def test_flood_reaches_each_other_port_of_the_network_once(
    board: Switchboard, source: object, kind: str
) -> None:
    nic = next(each for each in NICS if each is source)
    frame = flood_frames(nic.mac, nic.ipv4, nic.ipv6)[kind]
    others = {other.name for other in (WEB1, WEB2, WEB3)} - {nic.name}

    told = board.trace(nic.name, frame)
    assert told.decision("STAGE_DELIVER") == "DECISION_DELIVER_COPIES"
    assert told.copies == len(others)

    board.run(nic.name, frame)
    for name in others:
        assert_same_frame(board.devices[name].read() or b"", frame)
    for name, device in board.devices.items():
        assert device.read_all() == [], f"{name} got more than one copy of its own network's"


def test_flood_of_a_lone_port_reaches_nobody(board: Switchboard) -> None:
    frame = flood_frames(LONE1.mac, LONE1.ipv4, LONE1.ipv6)["broadcast"]
    assert board.trace("lone1", frame).copies == 0
    board.run("lone1", frame)
    assert all(device.read_all() == [] for device in board.devices.values())


def test_flood_counts_each_copy(board: Switchboard) -> None:
    frame = flood_frames(WEB1.mac, WEB1.ipv4, WEB1.ipv6)["broadcast"]
    board.run("web1", frame)
    size = len(bytes(frame))
    assert board.counters(WEB1.slot)["from_vm_packets"] == 1
    for nic in (WEB2, WEB3):
        counters = board.counters(nic.slot)
        assert (counters["to_vm_packets"], counters["to_vm_bytes"]) == (1, size)


@pytest.mark.parametrize("version", [4, 6])
def test_other_networks_macs_are_unknown(send: Send, version: int) -> None:
    """Isolation: not even with the right MAC does a frame leave its network."""
    frame = Ether(src=WEB1.mac, dst=DB1.mac) / l3(
        version, WEB1.address(version), DB1.address(version)
    )
    sent = send("web1", frame / l4("udp", version))
    assert (sent.to, sent.reason) == (None, "DROP_UNKNOWN_MAC")


def test_equal_macs_in_two_networks_do_not_meet(board: Switchboard, send: Send) -> None:
    """The clone of a MAC in another network leaves the first where it is."""
    target = {"kind": board.world.value("ENDPOINT_PORT"), "target": board.devices["gate"].ifindex}
    mac = bytes.fromhex(WEB2.mac.replace(":", ""))
    board.world.put("macs", {"network": GATE.network.vni, "mac": mac}, target)
    frame = switched(WEB1, WEB2, 4)
    send("web1", frame).arrives("web2", frame)


def test_hairpin_is_dropped(send: Send) -> None:
    sent = send("web1", switched(WEB1, WEB1, 4))
    assert (sent.to, sent.reason) == (None, "DROP_TO_ITSELF")


@pytest.mark.parametrize("last", range(16))
def test_link_reserved_addresses_are_not_forwarded(send: Send, last: int) -> None:
    frame = Ether(src=WEB1.mac, dst=f"01:80:c2:00:00:{last:02x}") / l3(4, WEB1.ipv4, "224.0.0.1")
    assert send("web1", frame / l4("udp", 4)).reason == "DROP_LINK_RESERVED"


def test_address_behind_the_reserved_ones_is_flooded(board: Switchboard) -> None:
    frame = Ether(src=WEB1.mac, dst="01:80:c2:00:00:10") / l3(4, WEB1.ipv4, "224.0.0.1")
    assert board.trace("web1", frame / l4("udp", 4)).copies == 2


def test_gateway_mac_leads_to_the_router(send: Send) -> None:
    frame = Ether(src=WEB1.mac, dst=MAIN_WEB.mac) / l3(4, WEB1.ipv4, DB1.ipv4) / l4("udp", 4)
    decision = send("web1", frame).trace.decision("STAGE_SWITCH")
    assert decision == "DECISION_SWITCH_TO_ROUTER"
