"""What no intent says and other hosts' frames tell: address pairs, foreign members."""

from __future__ import annotations

import pytest
from packet_talk import between, udp
from packet_tunnel import FOREIGN, NEAR, SIX, WEB8, Host, Tunnel, put_network
from packet_world import DB1, MAIN_DB, MAIN_WEB, WEB, WEB1, WEB2, Nic
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet
from test_pairs import ALL_NODES, BROADCAST, PREFIX, SHARED, VRRP_MAC, announcement, arp

from tests.packets.conftest import TC_ACT_SHOT, Switchboard

VERSIONS = (4, 6)
# A machine behind a foreign VTEP.
PRINTER = Nic("printer", WEB, "02:00:00:00:17:50", "172.17.17.50", "fd00:17::50", 0)


def shared(mac: str) -> Nic:
    """Who has the shared address now."""
    return Nic("shared", WEB, mac, SHARED[4], SHARED[6], 0)


def told(tunnel: Tunnel, host: Host, frame: Packet) -> None:
    """A host floods a frame, which all ports here hear."""
    tunnel.write(host, WEB.vni, frame)
    for name in ("web1", "web2", "web3"):
        assert tunnel.board.devices[name].read() == bytes(frame)


def who_has(board: Switchboard, version: int, target: str) -> str | None:
    """MAC in the answer that web1 gets to ARP or ND."""
    if version == 4:
        question = arp(WEB1.mac, WEB1.ipv4, target)
        sent = board.send_once("web1", question)
        return Ether(sent.frame)[ARP].hwsrc if sent.to == "web1" else None
    ip = IPv6(src=WEB1.ipv6, dst="ff02::1:ff00:1", hlim=255)
    question = Ether(src=WEB1.mac, dst="33:33:ff:00:00:01") / ip / ICMPv6ND_NS(tgt=target)
    sent = board.send_once("web1", question)
    answer = Ether(sent.frame)
    return answer[ICMPv6NDOptDstLLAddr].lladdr if sent.to == "web1" else None


# ---- allowed address pairs ------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("mac", [WEB8.mac, VRRP_MAC], ids=["own MAC", "other MAC"])
@pytest.mark.parametrize("host", [NEAR, SIX], ids=lambda host: host.name)
def test_an_announcement_is_learned(tunnel: Tunnel, host: Host, mac: str, version: int) -> None:
    """A MAC that intent knows is where intent has it, whoever sent the envelope: it
    may be a relay."""
    told(tunnel, host, announcement(mac, version))
    assert who_has(tunnel.board, version, SHARED[version]) == mac
    sent = tunnel.board.send("web1", between(WEB1, shared(mac), version, udp()))
    assert sent.to == (NEAR if mac == WEB8.mac else host).name


@pytest.mark.parametrize("version", VERSIONS)
def test_a_learned_address_is_routed_to(tunnel: Tunnel, version: int) -> None:
    told(tunnel, SIX, announcement(VRRP_MAC, version))
    frame = between(DB1, shared(VRRP_MAC), version, udp())
    sent = tunnel.board.send("db1", frame)
    assert (sent.to, sent.trace.to_network) == (SIX.name, WEB.vni)
    assert (Ether(sent.frame).src, Ether(sent.frame).dst) == (MAIN_WEB.mac, VRRP_MAC)
    assert MAIN_DB.mac != MAIN_WEB.mac


@pytest.mark.parametrize("version", VERSIONS)
def test_the_last_announcement_counts(tunnel: Tunnel, version: int) -> None:
    """From here, from one host, from another; no flow remembers who had it before."""
    board = tunnel.board
    board.world.put_pair(WEB2, PREFIX[version], VRRP_MAC)
    frame = between(WEB1, shared(VRRP_MAC), version, udp())
    told(tunnel, NEAR, announcement(VRRP_MAC, version))
    assert board.send("web1", frame).to == NEAR.name
    board.devices["web2"].write(bytes(announcement(VRRP_MAC, version)))
    assert board.send("web1", frame).to == "web2"
    for device in board.devices.values():
        device.read_all()
    told(tunnel, SIX, announcement(VRRP_MAC, version))
    assert board.send("web1", frame).to == SIX.name


def test_an_announcement_goes_to_other_hosts(tunnel: Tunnel) -> None:
    tunnel.board.world.put_pair(WEB2, PREFIX[4], WEB2.mac)
    frame = announcement(WEB2.mac, 4)
    tunnel.board.devices["web2"].write(bytes(frame))
    tunnel.carries(NEAR, WEB.vni, frame)
    tunnel.carries(SIX, WEB.vni, frame)


def test_a_host_that_is_gone_has_nothing(tunnel: Tunnel) -> None:
    told(tunnel, SIX, announcement(VRRP_MAC, 4))
    tunnel.board.world.delete("vteps", SIX.number)
    assert who_has(tunnel.board, 4, SHARED[4]) is None
    assert tunnel.board.send("web1", between(WEB1, shared(VRRP_MAC), 4, udp())).to is None


@pytest.mark.parametrize("version", VERSIONS)
def test_what_intent_assigns_is_not_learned(tunnel: Tunnel, version: int) -> None:
    taken = WEB2.address(version)
    if version == 4:
        claim = arp(VRRP_MAC, taken, taken)
    else:
        message = ICMPv6ND_NA(tgt=taken, R=0, S=0, O=1)
        claim = Ether(src=VRRP_MAC, dst=ALL_NODES) / IPv6(src=taken, dst="ff02::1") / message
    told(tunnel, NEAR, claim)
    assert who_has(tunnel.board, version, taken) == WEB2.mac


def test_only_announcements_are_learned(tunnel: Tunnel) -> None:
    """A network without foreign members learns from no other frame."""
    frame = between(PRINTER, WEB1, 4, udp())
    tunnel.write(FOREIGN, WEB.vni, frame)
    assert tunnel.board.devices["web1"].read() == bytes(frame)
    assert tunnel.board.rows("learned_macs") == []
    assert tunnel.board.send("web1", between(WEB1, PRINTER, 4, udp())).reason == "DROP_UNKNOWN_MAC"


# ---- foreign members --------------------------------------------------------------------


@pytest.fixture
def mixed(tunnel: Tunnel) -> Tunnel:
    """web has ports at NEAR, and whatever is behind FOREIGN."""
    first = tunnel.board.devices["web1"].ifindex
    put_network(tunnel.board.world, WEB, (NEAR, FOREIGN), first, "TUNNEL_LEARN")
    return tunnel


def unknown(version: int) -> Packet:
    """web1 asks for the printer."""
    if version == 4:
        return arp(WEB1.mac, WEB1.ipv4, PRINTER.ipv4)
    ip = IPv6(src=WEB1.ipv6, dst="ff02::1:ff00:50", hlim=255)
    return Ether(src=WEB1.mac, dst="33:33:ff:00:00:50") / ip / ICMPv6ND_NS(tgt=PRINTER.ipv6)


def answer(version: int) -> Packet:
    ethernet = Ether(src=PRINTER.mac, dst=WEB1.mac)
    if version == 4:
        return ethernet / ARP(
            op=2, hwsrc=PRINTER.mac, psrc=PRINTER.ipv4, hwdst=WEB1.mac, pdst=WEB1.ipv4
        )
    ip = IPv6(src=PRINTER.ipv6, dst=WEB1.ipv6, hlim=255)
    message = ICMPv6ND_NA(tgt=PRINTER.ipv6, R=0, S=1, O=1)
    return ethernet / ip / message / ICMPv6NDOptDstLLAddr(lladdr=PRINTER.mac)


@pytest.mark.parametrize("version", VERSIONS)
def test_who_is_behind_a_foreign_host(mixed: Tunnel, version: int) -> None:
    """Only foreign hosts are asked: of all others it is known what they have."""
    board = mixed.board
    board.devices["web1"].write(bytes(unknown(version)))
    mixed.carries(FOREIGN, WEB.vni, unknown(version))
    assert mixed.read_all() == board.devices["web2"].read_all() == []
    mixed.write(FOREIGN, WEB.vni, answer(version))
    assert board.devices["web1"].read() == bytes(answer(version))
    assert who_has(board, version, PRINTER.address(version)) == PRINTER.mac
    frame = between(WEB1, PRINTER, version, udp())
    board.devices["web1"].write(bytes(frame))
    mixed.carries(FOREIGN, WEB.vni, frame)
    back = between(PRINTER, WEB1, version, udp(53, 40000))
    mixed.write(FOREIGN, WEB.vni, back)
    assert board.devices["web1"].read() == bytes(back)


def test_known_addresses_are_not_asked_for(mixed: Tunnel) -> None:
    assert who_has(mixed.board, 4, WEB8.ipv4) == WEB8.mac
    assert mixed.read_all() == []


def test_an_unknown_mac_is_flooded_to_foreign_hosts(mixed: Tunnel) -> None:
    frame = between(WEB1, PRINTER, 4, udp())
    mixed.board.devices["web1"].write(bytes(frame))
    mixed.carries(FOREIGN, WEB.vni, frame)
    assert mixed.read_all() == mixed.board.devices["web2"].read_all() == []


def test_every_frame_tells_where_its_sender_is(mixed: Tunnel) -> None:
    """It may move from one foreign host to another, and its flow with it."""
    for host in (FOREIGN, SIX, FOREIGN):
        mixed.write(host, WEB.vni, between(PRINTER, WEB1, 4, udp()))
        assert mixed.board.devices["web1"].read()
        assert mixed.board.send("web1", between(WEB1, PRINTER, 4, udp())).to == host.name


def test_a_broadcast_of_a_foreign_machine(mixed: Tunnel) -> None:
    """It asks for a port here, which answers itself."""
    question = Ether(src=PRINTER.mac, dst=BROADCAST) / ARP(
        hwsrc=PRINTER.mac, psrc=PRINTER.ipv4, pdst=WEB1.ipv4
    )
    told(mixed, FOREIGN, question)
    assert mixed.read_all() == []
    reply = Ether(src=WEB1.mac, dst=PRINTER.mac) / ARP(
        op=2, hwsrc=WEB1.mac, psrc=WEB1.ipv4, hwdst=PRINTER.mac, pdst=PRINTER.ipv4
    )
    mixed.board.devices["web1"].write(bytes(reply))
    mixed.carries(FOREIGN, WEB.vni, reply)


def test_a_foreign_machine_takes_no_ports_mac(mixed: Tunnel) -> None:
    mixed.write(FOREIGN, WEB.vni, between(WEB8, WEB1, 4, udp()))
    mixed.write(FOREIGN, WEB.vni, between(WEB2, WEB1, 4, udp()))
    assert mixed.board.send("web1", between(WEB1, WEB8, 4, udp())).to == NEAR.name
    assert mixed.board.send("web1", between(WEB1, WEB2, 4, udp())).to == "web2"
    assert mixed.board.rows("learned_macs") == []
    assert mixed.board.run("web1", unknown(4)).verdict == TC_ACT_SHOT
