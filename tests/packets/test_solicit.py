"""A router that does not know a neighbor asks foreign hosts, if the network has such."""

from __future__ import annotations

import time

import pytest
from packet_foreign import PRINTER, SCANNER, add_members, to_other_network
from packet_lab import Device
from packet_policy import OWN
from packet_rules import write_group
from packet_shapes import L4_NAMES, l4, to_router
from packet_talk import arrived, between, udp
from packet_tunnel import FOREIGN, NEAR, Tunnel, put_network
from packet_world import DB, DB1, MAIN_DB, MAIN_WEB, WEB, WEB1, Nic, RouterInterface, World, mapped
from scapy.layers.inet6 import (
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    ICMPv6NDOptUnknown,
    IPv6,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw
from test_answer_nd import solicited_node
from test_gso import VirtioHeader, large
from test_icmp_errors import ADDRESS6, HOST, error, unreachable
from test_pairs import BROADCAST

from tests.packets.conftest import Switchboard

VERSIONS = (4, 6)
SECOND = 10**9  # ns
IPV4_BYTES, IPV6_BYTES, TCP_SUM = 20, 40, 16  # of headers; where TCP has its checksum
REST = Raw(bytes(80))  # behind the question, of the packet that it was
ECT_1 = 1  # the kernel takes the frame for the IP packet that it was, and reads its ECN bits


@pytest.fixture
def mixed(tunnel: Tunnel) -> Tunnel:
    add_members(tunnel)
    return tunnel


def question(asker: RouterInterface, target: str) -> Packet:
    """What the router sends (RFC 826; RFC 4861 4.3)."""
    if ":" not in target:
        request = ARP(hwsrc=asker.mac, psrc=asker.ipv4, pdst=target)
        return Ether(src=asker.mac, dst=BROADCAST) / request / REST
    group, mac = solicited_node(target)
    ip = IPv6(src=asker.ipv6, dst=group, hlim=255)
    message = ICMPv6ND_NS(tgt=target) / ICMPv6NDOptSrcLLAddr(lladdr=asker.mac)
    rest = ICMPv6NDOptUnknown(type=253, len=10, data=bytes(78))
    return Ether(src=asker.mac, dst=mac) / ip / message / rest


def answer(nic: Nic, asker: RouterInterface, version: int) -> Packet:
    ethernet = Ether(src=nic.mac, dst=asker.mac)
    if version == 4:
        return ethernet / ARP(op=2, hwsrc=nic.mac, psrc=nic.ipv4, hwdst=asker.mac, pdst=asker.ipv4)
    ip = IPv6(src=nic.ipv6, dst=asker.ipv6, hlim=255)
    message = ICMPv6ND_NA(tgt=nic.ipv6, R=0, S=1, O=1)
    return ethernet / ip / message / ICMPv6NDOptDstLLAddr(lladdr=nic.mac)


def is_asked(tunnel: Tunnel, nic: Nic, asker: RouterInterface, version: int) -> None:
    """The foreign host is, and nobody else."""
    expected = question(asker, nic.address(version))
    tunnel.carries(FOREIGN, nic.network.vni, expected, tos=ECT_1 if version == 4 else 0)
    assert tunnel.read_all() == []
    assert not any(device.read_all() for device in tunnel.board.devices.values())


@pytest.mark.parametrize("kind", L4_NAMES)
@pytest.mark.parametrize("version", VERSIONS)
def test_on_behalf_of_a_guest(mixed: Tunnel, version: int, kind: str) -> None:
    """The answer is learned, and goes to nobody; then packets flow."""
    board, frame = mixed.board, between(DB1, PRINTER, version, l4(kind, version))
    mixed.from_vm(frame, "db1")
    is_asked(mixed, PRINTER, MAIN_WEB, version)
    assert board.drop_count("db1", "DROP_NEIGHBOR_ASKED")["packets"] == 1
    mixed.write(FOREIGN, WEB.vni, answer(PRINTER, MAIN_WEB, version))
    assert not any(device.read_all() for device in board.devices.values())
    mixed.from_vm(frame, "db1")
    mixed.carries(FOREIGN, WEB.vni, arrived(frame, DB1, PRINTER))


@pytest.mark.parametrize("version", VERSIONS)
def test_on_behalf_of_a_foreign_machine(mixed: Tunnel, version: int) -> None:
    to_other_network(mixed, SCANNER, PRINTER, version, udp())
    is_asked(mixed, PRINTER, MAIN_WEB, version)
    assert mixed.dropped("DROP_NEIGHBOR_ASKED") == 1
    mixed.write(FOREIGN, WEB.vni, answer(PRINTER, MAIN_WEB, version))
    frame = to_other_network(mixed, SCANNER, PRINTER, version, udp())
    mixed.carries(FOREIGN, WEB.vni, arrived(frame, SCANNER, PRINTER))


@pytest.mark.parametrize("size", [0, 1, 60, 1300])
@pytest.mark.parametrize("version", VERSIONS)
def test_whatever_the_size_of_the_packet(mixed: Tunnel, version: int, size: int) -> None:
    mixed.from_vm(between(DB1, PRINTER, version, Raw(bytes(size))), "db1")
    is_asked(mixed, PRINTER, MAIN_WEB, version)


@pytest.fixture(scope="module")
def offloading(session_board: Switchboard) -> Device:
    """A TAP as QEMU opens it."""
    with session_board.lab.entered():
        device = session_board.lab.tap(vnet_header=True)
        session_board.lab.attach(device.name, session_board.pin)
    return device


@pytest.mark.parametrize("version", VERSIONS)
def test_a_packet_that_its_guest_left_uncut(
    mixed: Tunnel, offloading: Device, version: int
) -> None:
    """The sum of what was left of it is the only trace of it."""
    ifindexes = {name: device.ifindex for name, device in mixed.board.devices.items()}
    world = World(mixed.board.datapath, ifindexes | {DB1.name: offloading.ifindex})
    world.write()
    add_members(mixed)
    frame = large(DB1, MAIN_DB.mac, PRINTER.address(version), 20000)
    offloading.write(VirtioHeader.of(frame, gso_size=1300).pack() + bytes(frame))
    sent = bytes(question(MAIN_WEB, PRINTER.address(version)))
    place = len(sent) - len(REST) + (IPV4_BYTES if version == 4 else IPV6_BYTES) + TCP_SUM
    expected = sent[:place] + b"\xff\xff" + sent[place + 2 :]
    tos = ECT_1 if version == 4 else 0
    mixed.carries(FOREIGN, WEB.vni, expected, tos=tos)


@pytest.mark.parametrize("version", VERSIONS)
def test_for_a_next_hop(mixed: Tunnel, version: int) -> None:
    """10.67.0.0/24 leads via an address that nobody is known to have."""
    target, hop = {4: ("10.67.0.1", "192.168.0.77"), 6: ("fd00:67::1", "fd00:db::77")}[version]
    mixed.from_vm(to_router(WEB1, MAIN_WEB, target))
    is_asked(mixed, Nic("hop", DB, "", hop, hop, 0), MAIN_DB, version)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_trace_asks_nobody(mixed: Tunnel, version: int) -> None:
    """But tells whether a packet would make the router ask."""
    frame = between(DB1, PRINTER, version, udp())
    told = mixed.board.trace("db1", frame)
    assert told.drop_reason == mixed.board.world.value("DROP_NEIGHBOR_ASKED")
    assert told.decision("STAGE_ROUTE") == "DECISION_DROP"
    assert mixed.read_all() == []


# ---- how often ----------------------------------------------------------------------------


def asked(tunnel: Tunnel, version: int, questions: int, ago: int) -> None:
    """As if the router had asked for the printer already."""
    key = {"network": WEB.vni, "address": mapped(PRINTER.address(version))}
    at = time.clock_gettime_ns(time.CLOCK_MONOTONIC) - ago
    tunnel.board.world.put("asked_neighbors", key, {"asked_at": at, "questions": questions})


@pytest.mark.parametrize("version", VERSIONS)
def test_once_in_a_second(mixed: Tunnel, version: int) -> None:
    frame = between(DB1, PRINTER, version, udp())
    for _ in range(5):
        mixed.from_vm(frame, "db1")
    is_asked(mixed, PRINTER, MAIN_WEB, version)
    assert mixed.board.drop_count("db1", "DROP_NEIGHBOR_ASKED")["packets"] == 5
    asked(mixed, version, questions=1, ago=SECOND)
    mixed.from_vm(frame, "db1")
    is_asked(mixed, PRINTER, MAIN_WEB, version)


@pytest.mark.parametrize("version", VERSIONS)
def test_nobody_answers(mixed: Tunnel, version: int) -> None:
    """Then the sender is told, and after some seconds it starts anew."""
    frame = between(DB1, PRINTER, version, udp())
    asked(mixed, version, questions=3, ago=2 * SECOND)
    sent = mixed.board.send("db1", frame)
    told = unreachable(version, HOST, ADDRESS6)
    sent.answers("db1", error(frame, DB1, MAIN_DB.address(version), told))
    assert sent.reason == "DROP_NO_NEIGHBOR"
    assert mixed.read_all() == []
    asked(mixed, version, questions=3, ago=6 * SECOND)
    mixed.from_vm(frame, "db1")
    is_asked(mixed, PRINTER, MAIN_WEB, version)


def test_a_port_pays_as_for_a_flood(mixed: Tunnel) -> None:
    mixed.from_vm(between(DB1, PRINTER, 4, udp()), "db1")
    is_asked(mixed, PRINTER, MAIN_WEB, 4)
    until = time.clock_gettime_ns(time.CLOCK_MONOTONIC) + 3600 * SECOND
    (pace,) = [row for slot, row in mixed.board.rows("paces") if slot == DB1.slot]
    assert pace["flood"]
    mixed.board.world.put("paces", DB1.slot, {"flood": until})
    other = Nic("other", WEB, PRINTER.mac, "172.17.17.60", "fd00:17::60", 0)
    mixed.from_vm(between(DB1, other, 4, udp()), "db1")
    assert mixed.board.drop_count("db1", "DROP_FLOOD_LIMIT")["packets"] == 1
    assert mixed.read_all() == []


def test_a_foreign_host_pays_of_its_own(mixed: Tunnel) -> None:
    key = {"host": FOREIGN.number, "expense": mixed.board.world.value("FOREIGN_QUESTIONS")}
    later = time.clock_gettime_ns(time.CLOCK_MONOTONIC) + 3600 * SECOND
    mixed.board.world.put("foreign_budgets", key, {"refilled_at": later, "tokens": 1})
    to_other_network(mixed, SCANNER, PRINTER, 4, udp())
    is_asked(mixed, PRINTER, MAIN_WEB, 4)
    other = Nic("other", WEB, PRINTER.mac, "172.17.17.60", "fd00:17::60", 0)
    to_other_network(mixed, SCANNER, other, 4, udp())
    assert mixed.dropped("DROP_FLOOD_LIMIT") == 1
    assert mixed.read_all() == []


# ---- when not -----------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_who_may_not_send_makes_nobody_ask(mixed: Tunnel, version: int) -> None:
    write_group(mixed.board.world, OWN, [])
    mixed.board.world.write_port(DB1, groups=[OWN])
    assert mixed.board.send("db1", between(DB1, PRINTER, version, udp())).reason == (
        "DROP_POLICY_FROM_VM"
    )
    assert mixed.read_all() == []


@pytest.mark.parametrize("version", VERSIONS)
def test_no_network_without_foreign_members(mixed: Tunnel, version: int) -> None:
    put_network(mixed.board.world, WEB, (NEAR,), mixed.board.devices["web1"].ifindex)
    sent = mixed.board.send("db1", between(DB1, PRINTER, version, udp()))
    assert (sent.to, sent.reason) == ("db1", "DROP_NO_NEIGHBOR")
    assert mixed.read_all() == []


# ---- what teaches -------------------------------------------------------------------------


def test_a_solicitation_teaches_the_address(mixed: Tunnel) -> None:
    """As ARP requests do: a machine that asks for its gateway needs not be asked for."""
    group, mac = solicited_node(MAIN_WEB.ipv6)
    ip = IPv6(src=PRINTER.ipv6, dst=group, hlim=255)
    message = ICMPv6ND_NS(tgt=MAIN_WEB.ipv6) / ICMPv6NDOptSrcLLAddr(lladdr=PRINTER.mac)
    mixed.write(FOREIGN, WEB.vni, Ether(src=PRINTER.mac, dst=mac) / ip / message)
    assert mixed.read()
    frame = between(DB1, PRINTER, 6, udp())
    mixed.from_vm(frame, "db1")
    mixed.carries(FOREIGN, WEB.vni, arrived(frame, DB1, PRINTER))


def test_one_that_speaks_for_another_mac_does_not(mixed: Tunnel) -> None:
    group, mac = solicited_node(MAIN_WEB.ipv6)
    ip = IPv6(src=PRINTER.ipv6, dst=group, hlim=255)
    message = ICMPv6ND_NS(tgt=MAIN_WEB.ipv6) / ICMPv6NDOptSrcLLAddr(lladdr=WEB1.mac)
    mixed.write(FOREIGN, WEB.vni, Ether(src=PRINTER.mac, dst=mac) / ip / message)
    assert mixed.board.rows("learned_addresses") == []
