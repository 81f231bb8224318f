"""Ports without port security may have others behind them: bridges and routers of
guests of their own. Who is there is learned, within limits, and never over what
intent says."""

from __future__ import annotations

import socket
import time

import pytest
from packet_talk import between, udp
from packet_tunnel import (
    BEHIND,
    FORWARDED_ONCE,
    HERE,
    NEAR,
    OPEN,
    SIX,
    WEB4,
    WEB8,
    Tunnel,
)
from packet_world import DB1, MAIN_DB, MAIN_WEB, WEB, WEB1, WEB2, WEB3, Nic
from scapy.layers.inet6 import ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet
from test_pairs import PREFIX, advertisement, announcement, arp, owner, solicitation

from heddle.compiler.addresses import mapped
from heddle.datapath.learned import read_learned
from tests.packets.conftest import Switchboard

VERSIONS = (4, 6)
GUEST = Nic("guest", WEB, "02:00:00:00:17:60", "172.17.17.60", "fd00:17::60", 0)


def question(nic: Nic, target: Nic, version: int) -> Packet:
    if version == 4:
        return arp(nic.mac, nic.ipv4, target.ipv4)
    return solicitation(nic, target.ipv6)


def told(board: Switchboard, nic: Nic, target: Nic, version: int) -> str | None:
    """The MAC that a port is told when it asks for an address."""
    sent = board.send_once(nic.name, question(nic, target, version))
    if sent.to is None:
        return None
    answer = Ether(sent.frame)
    return str(answer[ARP].hwsrc if version == 4 else answer[ICMPv6NDOptDstLLAddr].lladdr)


def claim(mac: str, nic: Nic, version: int) -> Packet:
    """An announcement of the address of somebody."""
    if version == 4:
        return arp(mac, nic.ipv4, nic.ipv4)
    return advertisement(mac, nic.ipv6)


def drain(board: Switchboard) -> dict[str, list[bytes]]:
    """Frames that the ports of web have got."""
    return {name: board.devices[name].read_all() for name in ("web1", "web2", "web3")}


@pytest.fixture
def opened(board: Switchboard) -> Switchboard:
    """web1 has no port security."""
    board.world.open_port(WEB1)
    return board


# ---- who is behind it ------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_a_guest_behind_an_open_port(opened: Switchboard, version: int) -> None:
    """It asks, is answered, and thereby known: frames for it come to its bridge."""
    assert told(opened, WEB2, GUEST, version) is None
    sent = opened.send_once("web1", question(GUEST, WEB2, version))
    assert (sent.to, Ether(sent.frame).dst) == ("web1", GUEST.mac)
    assert told(opened, WEB2, GUEST, version) == GUEST.mac
    to, back = between(WEB2, GUEST, version, udp()), between(GUEST, WEB2, version, udp(53, 40000))
    opened.send("web2", to).arrives("web1", to)
    opened.send("web1", back).arrives("web2", back)


@pytest.mark.parametrize("version", VERSIONS)
def test_routed_to_a_guest(opened: Switchboard, version: int) -> None:
    frame = between(DB1, GUEST, version, udp())
    assert frame.dst == MAIN_DB.mac
    assert opened.send("db1", frame).reason == "DROP_NO_NEIGHBOR"
    opened.run("web1", question(GUEST, WEB2, version))
    sent = opened.send("db1", frame)
    arrived = Ether(sent.frame)
    assert (sent.to, arrived.dst, arrived.src) == ("web1", GUEST.mac, MAIN_WEB.mac)


@pytest.mark.parametrize("version", VERSIONS)
def test_another_address_of_the_machine_itself(opened: Switchboard, version: int) -> None:
    opened.run("web1", claim(WEB1.mac, GUEST, version))
    assert told(opened, WEB2, GUEST, version) == WEB1.mac
    assert opened.rows("open_macs") == []


def test_any_frame_tells_a_mac(opened: Switchboard) -> None:
    opened.run("web1", between(GUEST, WEB2, 4, udp()))
    frame = between(WEB2, GUEST, 4, udp(53, 40000))
    opened.send("web2", frame).arrives("web1", frame)


def test_a_random_link_local_address(opened: Switchboard) -> None:
    """RFC 7217: it does not follow from the MAC. One that does is its MAC's, whoever
    says so."""
    random = Nic("random", WEB, GUEST.mac, GUEST.ipv4, "fe80::1234:5678:9abc:def0", 0)
    opened.run("web1", advertisement(random.mac, random.ipv6))
    assert told(opened, WEB2, random, 6) == random.mac
    web3 = Nic("link-local", WEB, WEB3.mac, WEB3.ipv4, "fe80::f816:3eff:fe17:4", 0)
    assert web3.mac == "fa:16:3e:17:00:04"
    opened.run("web1", advertisement(GUEST.mac, web3.ipv6))
    assert told(opened, WEB2, web3, 6) == WEB3.mac


@pytest.mark.parametrize("version", VERSIONS)
def test_it_moves_as_pairs_do(opened: Switchboard, version: int) -> None:
    """From one open port to another, and its flows with it."""
    opened.world.open_port(WEB3)
    to = between(WEB2, GUEST, version, udp())
    for name in ("web1", "web3", "web1"):
        opened.run(name, between(GUEST, WEB2, version, udp(53, 40000)))
        assert opened.send("web2", to).to == name


# ---- whom nobody knows --------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_open_ports_are_asked(opened: Switchboard, version: int) -> None:
    """And no others: it is known what they have."""
    frame = question(WEB2, GUEST, version)
    assert opened.trace("web2", frame).copies == 1
    opened.run("web2", frame)
    assert drain(opened) == {"web1": [bytes(frame)], "web2": [], "web3": []}
    answer = claim(GUEST.mac, GUEST, version)
    answer.dst = WEB2.mac
    if version == 4:
        answer[ARP].op, answer[ARP].hwdst, answer[ARP].pdst = 2, WEB2.mac, WEB2.ipv4
    else:
        answer[IPv6].dst = WEB2.ipv6
    opened.send("web1", answer).arrives("web2", answer)
    assert told(opened, WEB2, GUEST, version) == GUEST.mac


@pytest.mark.parametrize("version", VERSIONS)
def test_an_unknown_mac_goes_to_open_ports(opened: Switchboard, version: int) -> None:
    frame = between(WEB2, GUEST, version, udp())
    opened.run("web2", frame)
    assert drain(opened) == {"web1": [bytes(frame)], "web2": [], "web3": []}


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_too_big_for_it_is_not_lost_silently(opened: Switchboard, version: int) -> None:
    frame = between(WEB2, GUEST, version, udp())
    sent = opened.send("web2", frame / bytes(WEB.mtu))
    assert (sent.to, sent.reason) == ("web2", "DROP_TOO_BIG")


@pytest.mark.parametrize("version", VERSIONS)
def test_an_announcement_is_heard_by_all(opened: Switchboard, version: int) -> None:
    frame = claim(GUEST.mac, GUEST, version)
    opened.run("web1", frame)
    assert drain(opened) == {"web1": [], "web2": [bytes(frame)], "web3": [bytes(frame)]}


@pytest.mark.parametrize("version", VERSIONS)
def test_no_network_has_another_ones(opened: Switchboard, version: int) -> None:
    asked = Nic("asked", WEB, GUEST.mac, GUEST.ipv4, GUEST.ipv6, 0)
    opened.run("web1", claim(GUEST.mac, GUEST, version))
    assert told(opened, DB1, asked, version) is None
    assert opened.send("db1", Ether(src=DB1.mac, dst=GUEST.mac)).reason is not None


@pytest.mark.parametrize("version", VERSIONS)
def test_port_security_ends_it(opened: Switchboard, version: int) -> None:
    opened.run("web1", claim(GUEST.mac, GUEST, version))
    opened.world.write_port(WEB1)
    assert told(opened, WEB2, GUEST, version) is None
    opened.world.delete("open_networks", WEB.vni)
    sent = opened.send("web2", question(WEB2, GUEST, version))
    assert sent.reason == {4: "DROP_ARP_UNKNOWN", 6: "DROP_ND_UNKNOWN"}[version]
    assert opened.send("web2", between(WEB2, GUEST, version, udp())).reason == "DROP_UNKNOWN_MAC"


# ---- never over what somebody has -----------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_nobody_loses_an_address(opened: Switchboard, version: int) -> None:
    opened.run("web1", claim(GUEST.mac, WEB3, version))
    assert told(opened, WEB2, WEB3, version) == WEB3.mac
    assert opened.rows("open_addresses") == []


@pytest.mark.parametrize("version", VERSIONS)
def test_nobody_loses_a_mac(opened: Switchboard, version: int) -> None:
    opened.run("web1", between(WEB3, WEB2, version, udp()))
    frame = between(WEB2, WEB3, version, udp(1, 2))
    opened.send("web2", frame).arrives("web3", frame)
    assert opened.rows("open_macs") == []


@pytest.mark.parametrize("version", VERSIONS)
def test_who_has_a_pair_comes_first(opened: Switchboard, version: int) -> None:
    """What intent allows to some is theirs, whoever else speaks of it."""
    opened.world.put_pair(WEB2, PREFIX[version], WEB2.mac)
    for name, mac in (("web1", GUEST.mac), ("web2", WEB2.mac), ("web1", GUEST.mac)):
        opened.run(name, announcement(mac, version))
    assert owner(opened, version) == WEB2.mac


@pytest.mark.parametrize("reason", ["another's MAC inside", "multicast MAC", "127.0.0.1"])
def test_what_is_not_believed(opened: Switchboard, reason: str) -> None:
    frame = claim(GUEST.mac, GUEST, 4)
    if reason == "another's MAC inside":
        frame[ARP].hwsrc = WEB3.mac
    elif reason == "multicast MAC":
        frame = claim("03:00:00:00:17:60", GUEST, 4)
    else:
        frame[ARP].psrc = frame[ARP].pdst = reason
    opened.run("web1", frame)
    assert opened.rows("open_addresses") == []


def test_an_advertisement_with_anothers_mac_is_not_believed(opened: Switchboard) -> None:
    frame = claim(GUEST.mac, GUEST, 6)
    frame[ICMPv6NDOptDstLLAddr].lladdr = WEB3.mac
    opened.run("web1", frame)
    assert opened.rows("open_addresses") == []


# ---- for how long ---------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_who_is_silent_is_asked_for_again(opened: Switchboard, version: int) -> None:
    """It may have gone elsewhere, and to say so need not have reached this host."""
    opened.run("web1", claim(GUEST.mac, GUEST, version))
    opened.world.open_port(WEB3)
    to = between(WEB2, GUEST, version, udp())
    for seconds, knows in ((-1, True), (1, False)):
        heard_at = time.monotonic_ns() - (opened.world.value("OPEN_SECONDS") + seconds) * 10**9
        for table in ("open_macs", "open_addresses"):
            ((key, row),) = opened.rows(table)
            opened.world.put(table, key, {**row, "heard_at": heard_at % 2**64})
        assert told(opened, WEB2, GUEST, version) == (GUEST.mac if knows else None)
        assert opened.trace("web2", to).copies == (0 if knows else 2)
    opened.run("web1", claim(GUEST.mac, GUEST, version))
    assert told(opened, WEB2, GUEST, version) == GUEST.mac


# ---- limits ---------------------------------------------------------------------------------


def test_a_flood_pushes_out_ones_own_alone(opened: Switchboard) -> None:
    """Of MACs and addresses. The oldest make room for the newest."""
    most = opened.world.value("OPEN_PORT_MAX")
    opened.world.open_port(WEB3)
    opened.run("web3", claim(GUEST.mac, GUEST, 4))
    for number in range(most + 3):
        low = f"{number >> 8:02x}:{number & 255:02x}"
        address = f"172.17.{18 + (number >> 8)}.{number & 255}"
        opened.run("web1", arp(f"02:00:00:01:{low}", address, MAIN_WEB.ipv4))
    web1 = opened.devices["web1"].ifindex
    rows = [row for _, row in opened.rows("open_macs") if row["target"] == web1]
    assert len(rows) == most
    keys = [k["address"] for k, row in opened.rows("open_addresses") if row["target"] == web1]
    assert len(keys) == most
    assert mapped("172.17.18.2") not in keys
    assert mapped("172.17.18.3") in keys
    assert told(opened, WEB2, GUEST, 4) == GUEST.mac
    known = read_learned(opened.datapath).guests
    assert known == {web1: (most, most, most), opened.devices["web3"].ifindex: (1, 1, most)}
    assert [behind.is_full for behind in known.values()].count(True) == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_to_itself_from_the_first_frame_on(opened: Switchboard, version: int) -> None:
    """The MAC is behind the port as soon as it is heard; a trace, which learns nothing,
    says the same."""
    frame = between(GUEST, GUEST, version, udp())
    assert opened.send_once("web1", frame).reason == "DROP_TO_ITSELF"
    assert opened.send_once("web1", frame).reason == "DROP_TO_ITSELF"


def test_who_is_silent_for_long_is_not_counted(opened: Switchboard) -> None:
    opened.run("web1", claim(GUEST.mac, GUEST, 4))
    ((key, row),) = opened.rows("open_macs")
    opened.world.put("open_macs", key, {**row, "heard_at": 0})
    assert read_learned(opened.datapath).guests == {
        row["target"]: (0, 1, opened.world.value("OPEN_PORT_MAX"))
    }


def test_who_speaks_on_takes_no_more_room(opened: Switchboard) -> None:
    for _ in range(5):
        opened.run("web1", claim(GUEST.mac, GUEST, 4))
    assert len(opened.rows("learned_slots")) == 2
    assert [row for _, row in opened.rows("learned_counts")] == [{"taken": (1, 1, 0, 0)}]


# ---- other hosts ----------------------------------------------------------------------------


@pytest.fixture
def across(tunnel: Tunnel) -> Tunnel:
    """web has an open port at NEAR; all ports here have port security."""
    tunnel.board.world.put("open_networks", WEB.vni, 1)
    return tunnel


@pytest.mark.parametrize("version", VERSIONS)
def test_a_guest_behind_a_port_elsewhere(across: Tunnel, version: int) -> None:
    """Its host says that the sender is open; the guest's MAC and address are learned,
    and last as long as the host is known."""
    board = across.board
    frame = claim(GUEST.mac, GUEST, version)
    across.write(NEAR, WEB.vni, frame, number=OPEN)
    assert drain(board) == {name: [bytes(frame)] for name in ("web1", "web2", "web3")}
    assert told(board, WEB2, GUEST, version) == GUEST.mac
    assert board.rows("learned_addresses") == board.rows("learned_macs") == []
    to = between(WEB2, GUEST, version, udp())
    board.devices["web2"].write(bytes(to))
    across.carries(NEAR, WEB.vni, to)
    back = between(GUEST, WEB2, version, udp(53, 40000))
    across.write(SIX, WEB.vni, back, number=OPEN)  # it has moved
    assert board.devices["web2"].read() == bytes(back)
    assert board.send("web2", to).to == SIX.name


@pytest.mark.parametrize("version", VERSIONS)
def test_ports_elsewhere_are_asked(across: Tunnel, version: int) -> None:
    frame = question(WEB2, GUEST, version)
    across.board.devices["web2"].write(bytes(frame))
    across.carries(NEAR, WEB.vni, frame)
    across.carries(SIX, WEB.vni, frame)
    assert drain(across.board) == {"web1": [], "web2": [], "web3": []}


@pytest.mark.parametrize("version", VERSIONS)
def test_what_an_open_port_sends_is_marked(tunnel: Tunnel, version: int) -> None:
    """So that other hosts learn from it: unicast and flooded."""
    tunnel.board.world.open_port(WEB1)
    announced = claim(GUEST.mac, GUEST, version)
    tunnel.board.devices["web1"].write(bytes(announced))
    for host in (NEAR, SIX):
        tunnel.carries(host, WEB.vni, announced, number=OPEN)
    frame = between(GUEST, WEB8, version, udp())
    tunnel.board.devices["web1"].write(bytes(frame))
    tunnel.carries(NEAR, WEB.vni, frame, number=OPEN)


@pytest.mark.parametrize("version", VERSIONS)
def test_through_a_relay(across: Tunnel, version: int) -> None:
    """Which puts the number of the sender in the place of ours: the guest is behind that
    host, and not behind the relay. No pair gives way."""
    board = across.board
    board.world.put_pair(WEB1, PREFIX[version], WEB1.mac)
    board.run("web1", announcement(WEB1.mac, version))
    drain(board)
    for frame in (announcement(WEB8.mac, version), claim(GUEST.mac, GUEST, version)):
        across.write(NEAR, WEB.vni, frame, number=OPEN | BEHIND.number, bits=FORWARDED_ONCE)
        assert drain(board) == {name: [bytes(frame)] for name in ("web1", "web2", "web3")}
    assert owner(board, version) == WEB1.mac
    across.read_all()
    to = between(WEB2, GUEST, version, udp())
    board.devices["web2"].write(bytes(to))
    across.carries(NEAR, WEB.vni, to, number=BEHIND.number)
    assert across.read_all() == []


@pytest.mark.parametrize("version", VERSIONS)
def test_from_a_host_that_its_port_has_left_nothing_is_learned(
    across: Tunnel, version: int
) -> None:
    """It says no more that the sender is open."""
    frame = claim(GUEST.mac, GUEST, version)
    across.write(NEAR, WEB.vni, frame, number=HERE, bits=FORWARDED_ONCE)
    assert across.board.rows("open_addresses") == across.board.rows("open_macs") == []


@pytest.mark.parametrize("version", VERSIONS)
def test_a_port_elsewhere_takes_no_pair(across: Tunnel, version: int) -> None:
    across.board.world.put_pair(WEB1, PREFIX[version], WEB1.mac)
    across.board.run("web1", announcement(WEB1.mac, version))
    for mac in (GUEST.mac, WEB8.mac):
        across.write(NEAR, WEB.vni, announcement(mac, version), number=OPEN)
        assert owner(across.board, version) == WEB1.mac


def test_a_relay_tells_who_the_open_sender_is(tunnel: Tunnel) -> None:
    frame = between(GUEST, WEB8, 4, udp())
    tunnel.write(SIX, WEB.vni, frame, number=OPEN | NEAR.number)
    tunnel.carries(NEAR, WEB.vni, frame, number=OPEN | SIX.number, bits=FORWARDED_ONCE)


def test_a_relay_is_told_that_the_sender_is_open(tunnel: Tunnel) -> None:
    tunnel.board.world.open_port(WEB1)
    frame = between(GUEST, WEB4, 4, udp())
    tunnel.board.devices["web1"].write(bytes(frame))
    tunnel.carries(NEAR, WEB.vni, frame, number=OPEN | BEHIND.number)


def test_through_the_shaper(tunnel: Tunnel) -> None:
    """That the sender is open is not forgotten there."""
    way_in, way_out = tunnel.board.lab.wire()
    tunnel.board.lab.attach(way_out, tunnel.board.pin)
    flags = tunnel.board.datapath.abi.bits("port_flag", [*WEB1.flags, "PORT_OPEN"])
    tunnel.board.world.write_port(WEB1, shaper=socket.if_nametoindex(way_in), flags=flags)
    frame = between(GUEST, WEB8, 4, udp())
    tunnel.board.devices["web1"].write(bytes(frame))
    tunnel.carries(NEAR, WEB.vni, frame, number=OPEN)


@pytest.mark.parametrize("version", VERSIONS)
def test_an_unknown_mac_from_elsewhere(across: Tunnel, version: int) -> None:
    """Open ports here get it. It is not sent on."""
    across.board.world.open_port(WEB1)
    frame = between(WEB8, GUEST, version, udp())
    across.write(NEAR, WEB.vni, frame)
    assert drain(across.board) == {"web1": [bytes(frame)], "web2": [], "web3": []}
    assert across.read_all() == []
