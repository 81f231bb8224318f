"""Allowed address pairs: what else a port may send from, and to whom such an
address belongs, which several ports may have: to the one that last announced it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from packet_shapes import l3
from packet_talk import talk, udp
from packet_world import DB1, MAIN_DB, MAIN_WEB, WEB, WEB1, WEB2, WEB3, Nic, mac_bytes, mapped
from scapy.layers.inet6 import (
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet

from heddle.datapath.learned import read_learned
from tests.packets.conftest import Sent, Switchboard

VERSIONS = (4, 6)
BROADCAST, ALL_NODES = "ff:ff:ff:ff:ff:ff", "33:33:00:00:00:01"
VRRP_MAC = "00:00:5e:00:01:01"  # RFC 9568 7.3
SHARED = {4: "172.17.17.100", 6: "fd00:17::100"}
PREFIX = {4: "172.17.17.96/28", 6: "fd00:17::100/124"}  # holds the shared address
FOREIGN = {4: "172.17.17.112", 6: "fd00:17::110"}  # the first address behind it
Send = Callable[..., Sent]


def from_address(source: str, mac: str, version: int) -> Packet:
    """To db1, by way of the gateway."""
    header = l3(version, source, DB1.address(version))
    return Ether(src=mac, dst=MAIN_WEB.mac) / header / udp()


# ---- what a port may send --------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("mac", [WEB1.mac, VRRP_MAC], ids=["own MAC", "other MAC"])
def test_a_pair_is_a_mac_and_a_prefix(board: Switchboard, mac: str, version: int) -> None:
    """Only together, and at that port alone."""
    board.world.put_pair(WEB1, PREFIX[version], mac)

    def reason(source: str, source_mac: str, device: str = "web1") -> str | None:
        return board.send(device, from_address(source, source_mac, version)).reason

    other = VRRP_MAC if mac == WEB1.mac else WEB1.mac
    assert reason(SHARED[version], mac) is None
    assert reason(WEB1.address(version), WEB1.mac) is None
    is_own = mac == WEB1.mac
    assert reason(FOREIGN[version], mac) == ("DROP_SOURCE_IP" if is_own else "DROP_SOURCE_MAC")
    assert reason(SHARED[version], other) == ("DROP_SOURCE_MAC" if is_own else "DROP_SOURCE_IP")
    assert reason(WEB1.address(version), VRRP_MAC) == "DROP_SOURCE_MAC"
    assert reason(SHARED[version], WEB2.mac, "web2") == "DROP_SOURCE_IP"
    assert reason(SHARED[version], VRRP_MAC, "web2") == "DROP_SOURCE_MAC"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_pair_is_of_one_family(board: Switchboard, version: int) -> None:
    """::/0 holds IPv4-mapped addresses, and yet says nothing of IPv4."""
    board.world.put_pair(WEB1, {4: "0.0.0.0/0", 6: "::/0"}[10 - version], VRRP_MAC)
    frame = from_address(SHARED[version], VRRP_MAC, version)
    assert board.send("web1", frame).reason == "DROP_SOURCE_MAC"
    board.world.put_pair(WEB1, {4: "0.0.0.0/0", 6: "::/0"}[version], VRRP_MAC)
    assert board.send("web1", frame).to == "db1"


def arp(mac: str, sender: str, target: str, **fields: object) -> Packet:
    message = {"hwsrc": mac, "psrc": sender, "pdst": target, **fields}
    return Ether(src=mac, dst=BROADCAST) / ARP(**message)


def advertisement(mac: str, address: str) -> Packet:
    """Unsolicited, to all nodes (RFC 4861 7.2.6)."""
    message = ICMPv6ND_NA(tgt=address, R=0, S=0, O=1) / ICMPv6NDOptDstLLAddr(lladdr=mac)
    return Ether(src=mac, dst=ALL_NODES) / IPv6(src=address, dst="ff02::1", hlim=255) / message


def announcement(mac: str, version: int) -> Packet:
    if version == 4:
        return arp(mac, SHARED[4], SHARED[4])
    return advertisement(mac, SHARED[6])


def solicitation(nic: Nic, target: str) -> Packet:
    message = ICMPv6ND_NS(tgt=target) / ICMPv6NDOptSrcLLAddr(lladdr=nic.mac)
    return Ether(src=nic.mac, dst=ALL_NODES) / IPv6(src=nic.ipv6, dst="ff02::1", hlim=255) / message


def ask(nic: Nic, version: int) -> Packet:
    if version == 4:
        return arp(nic.mac, nic.ipv4, SHARED[4])
    return solicitation(nic, SHARED[6])


def test_arp_from_a_pair(board: Switchboard) -> None:
    board.world.put_pair(WEB1, PREFIX[4], VRRP_MAC)
    sent = board.send_once("web1", arp(VRRP_MAC, SHARED[4], MAIN_WEB.ipv4))
    assert (sent.to, Ether(sent.frame)[ARP].hwdst) == ("web1", VRRP_MAC)
    for frame, reason in (
        (arp(VRRP_MAC, WEB1.ipv4, MAIN_WEB.ipv4), "DROP_SOURCE_MAC"),
        (arp(VRRP_MAC, FOREIGN[4], MAIN_WEB.ipv4), "DROP_SOURCE_MAC"),
        (arp(WEB1.mac, SHARED[4], MAIN_WEB.ipv4), "DROP_ARP_SPOOF"),
        (arp(VRRP_MAC, SHARED[4], MAIN_WEB.ipv4, hwsrc=WEB1.mac), "DROP_SOURCE_MAC"),
        (arp(VRRP_MAC, "0.0.0.0", SHARED[4]), "DROP_SOURCE_MAC"),  # noqa: S104
    ):
        assert board.send("web1", frame).reason == reason


def test_neighbor_discovery_from_a_pair(board: Switchboard) -> None:
    board.world.put_pair(WEB1, PREFIX[6], VRRP_MAC)
    assert board.send_once("web1", advertisement(VRRP_MAC, SHARED[6])).reason is None
    own = advertisement(VRRP_MAC, SHARED[6])
    own[ICMPv6ND_NA].tgt = WEB1.ipv6
    assert board.send("web1", own).reason == "DROP_ND_SPOOF"
    other_mac = advertisement(VRRP_MAC, SHARED[6])
    other_mac[ICMPv6NDOptDstLLAddr].lladdr = WEB1.mac
    assert board.send("web1", other_mac).reason == "DROP_ND_SPOOF"
    assert board.send("web1", advertisement(WEB1.mac, SHARED[6])).reason == "DROP_SOURCE_IP"


# ---- whose it is -------------------------------------------------------------------------


@pytest.fixture
def shared(board: Switchboard) -> Switchboard:
    """web1 and web2 may both have the address, with their own MACs."""
    for nic in (WEB1, WEB2):
        for cidr in PREFIX.values():
            board.world.put_pair(nic, cidr, nic.mac)
    return board


def owner(board: Switchboard, version: int) -> str | None:
    """The MAC that web3 is told when it asks for the address."""
    sent = board.send("web3", ask(WEB3, version))
    if sent.to is None:
        assert sent.reason == {4: "DROP_ARP_UNKNOWN", 6: "DROP_ND_UNKNOWN"}[version]
        return None
    answer = Ether(sent.frame)
    return str(answer[ARP].hwsrc if version == 4 else answer[ICMPv6NDOptDstLLAddr].lladdr)


def routed(version: int) -> Packet:
    header = l3(version, DB1.address(version), SHARED[version])
    return Ether(src=DB1.mac, dst=MAIN_DB.mac) / header / udp()


@pytest.mark.parametrize("version", VERSIONS)
def test_the_address_belongs_to_who_announced_it(shared: Switchboard, version: int) -> None:
    assert owner(shared, version) is None
    assert shared.send("db1", routed(version)).reason == "DROP_NO_NEIGHBOR"
    for nic in (WEB1, WEB2, WEB1):
        shared.run(nic.name, announcement(nic.mac, version))
        assert owner(shared, version) == nic.mac
        sent = shared.send("db1", routed(version))
        assert (sent.to, Ether(sent.frame).dst) == (nic.name, nic.mac)


@pytest.mark.parametrize("version", VERSIONS)
def test_it_moves_without_a_new_epoch(shared: Switchboard, version: int) -> None:
    """The flow is known, and nobody but the ports has a part in it."""
    shared.run("web1", announcement(WEB1.mac, version))
    for _ in range(3):
        assert shared.send_once("db1", routed(version)).to == "web1"
    shared.run("web2", announcement(WEB2.mac, version))
    assert shared.send("db1", routed(version)).to == "web2"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_shared_mac_moves_too(board: Switchboard, version: int) -> None:
    for nic in (WEB1, WEB2):
        board.world.put_pair(nic, PREFIX[version], VRRP_MAC)
    frame = Ether(src=WEB3.mac, dst=VRRP_MAC) / l3(version, WEB3.address(version), SHARED[version])
    frame /= udp()
    assert board.send("web3", frame).reason == "DROP_UNKNOWN_MAC"
    for nic in (WEB1, WEB2):
        board.run(nic.name, announcement(VRRP_MAC, version))
        assert owner(board, version) == VRRP_MAC
        board.send("web3", frame).arrives(nic.name, frame)


@pytest.mark.parametrize("version", VERSIONS)
def test_all_ports_hear_of_it(shared: Switchboard, version: int) -> None:
    """Whose caches name the old MAC. The second time as the first."""
    frame = announcement(WEB1.mac, version)
    for _ in range(2):
        told = shared.trace("web1", frame)
        assert (told.copies, told.drop_reason) == (2, None)
        shared.run("web1", frame)
        for name in ("web2", "web3"):
            assert shared.devices[name].read() == bytes(frame)


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_no_longer_allowed_is_not_believed(shared: Switchboard, version: int) -> None:
    shared.run("web1", announcement(WEB1.mac, version))
    shared.world.delete_pair(WEB1, PREFIX[version], WEB1.mac)
    assert owner(shared, version) is None
    assert shared.send("db1", routed(version)).reason == "DROP_NO_NEIGHBOR"


@pytest.mark.parametrize("version", VERSIONS)
def test_who_has_no_pair_can_not_announce_it(shared: Switchboard, version: int) -> None:
    shared.run("web1", announcement(WEB1.mac, version))
    sent = shared.send("web3", announcement(WEB3.mac, version))
    assert sent.reason == {4: "DROP_ARP_SPOOF", 6: "DROP_SOURCE_IP"}[version]
    assert owner(shared, version) == WEB1.mac


@pytest.mark.parametrize("version", VERSIONS)
def test_nobody_can_take_an_assigned_address(board: Switchboard, version: int) -> None:
    """Though web1 may send from it: web2 has it, and web2 alone gets it."""
    board.world.put_pair(WEB1, {4: WEB.cidr4, 6: WEB.cidr6}[version], WEB1.mac)
    taken = WEB2.address(version)
    frame = arp(WEB1.mac, taken, taken) if version == 4 else advertisement(WEB1.mac, taken)
    board.run("web1", frame)
    question = arp(WEB3.mac, WEB3.ipv4, taken) if version == 4 else solicitation(WEB3, taken)
    answer = Ether(board.send("web3", question).frame)
    assert (answer[ARP].hwsrc if version == 4 else answer.src) == WEB2.mac
    assert board.rows("learned_addresses") == []


def test_nobody_can_take_an_assigned_mac(board: Switchboard) -> None:
    board.world.put_pair(WEB1, PREFIX[4], WEB2.mac)
    board.run("web1", announcement(WEB2.mac, 4))
    frame = Ether(src=WEB3.mac, dst=WEB2.mac) / l3(4, WEB3.ipv4, WEB2.ipv4) / udp()
    assert talk(board, frame, WEB3, WEB2) == "ALLOWED"
    assert board.rows("learned_macs") == []


def test_an_address_counts_in_its_own_network(shared: Switchboard) -> None:
    shared.run("web1", announcement(WEB1.mac, 4))
    ((key, value),) = shared.rows("learned_addresses")
    assert key["network"] == WEB.vni
    assert (value["target"], value["mac"]) == (shared.devices["web1"].ifindex, mac_bytes(WEB1.mac))
    question = arp(DB1.mac, DB1.ipv4, SHARED[4])
    assert shared.send("db1", question).reason == "DROP_ARP_UNKNOWN"


# ---- limits ----------------------------------------------------------------------------


def test_announcements_push_out_ones_own_alone(board: Switchboard) -> None:
    """web1 may have any address, web2 one that it has told before."""
    most = board.world.value("PAIRS_PORT_MAX")
    board.world.put_pair(WEB1, "172.16.0.0/12", WEB1.mac)
    board.world.put_pair(WEB2, SHARED[4], WEB2.mac)
    board.run("web2", announcement(WEB2.mac, 4))
    for number in range(most + 3):
        address = f"172.{18 + (number >> 8)}.0.{number & 255}"
        board.run("web1", arp(WEB1.mac, address, MAIN_WEB.ipv4))
        board.run("web1", arp(WEB1.mac, address, MAIN_WEB.ipv4))
    web1, web2 = (board.devices[name].ifindex for name in ("web1", "web2"))
    rows = board.rows("learned_addresses")
    keys = [key["address"] for key, row in rows if row["target"] == web1]
    assert len(keys) == most
    assert mapped("172.18.0.2") not in keys
    assert mapped("172.18.0.3") in keys
    assert Ether(board.send("web3", ask(WEB3, 4)).frame)[ARP].hwsrc == WEB2.mac
    learned = read_learned(board.datapath)
    assert learned.announced == {web1: (most, most), web2: (1, most)}
    assert (learned.guests, learned.full) == ({}, ())


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("learned_addresses", "addresses of address pairs and foreign hosts"),
        ("drops", "counters of drops, by port and reason"),
    ],
)
def test_a_full_table_is_known(board: Switchboard, name: str, what: str) -> None:
    """Its oldest rows make room, which otherwise nobody would see."""
    table = board.datapath.table(name)
    rows = [
        (number.to_bytes(table.key_size, "little"), bytes(table.value_size))
        for number in range(table.max_entries)
    ]
    table.put_many(rows[: len(rows) * 3 // 4])
    assert read_learned(board.datapath).full == ()
    table.put_many(rows)
    assert read_learned(board.datapath).full == (what,)
