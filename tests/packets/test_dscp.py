"""DSCP (RFC 2474): what a port sends leaves with the port's mark, ECN as it was."""

from __future__ import annotations

import pytest
from packet_shapes import to_router
from packet_talk import arrived, between, ping, tcp, udp
from packet_world import DB1, FAR1, MAIN_WEB, WEB1, WEB2, Nic
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw

from tests.packets.conftest import Switchboard

VERSIONS = (4, 6)
ENDS = pytest.mark.parametrize("destination", [WEB2, DB1], ids=["switched", "routed"])
SENT_DSCP = 0b101010  # what the guest writes itself


def mark(board: Switchboard, nic: Nic, dscp: int) -> None:
    flags = board.datapath.abi.bits("port_flag", [*nic.flags, "PORT_DSCP"])
    board.world.write_port(nic, flags=flags, dscp=dscp)


def traffic_class(version: int, dscp: int, ecn: int) -> dict[str, int]:
    return {"tos" if version == 4 else "tc": dscp << 2 | ecn}


def marked(frame: Packet, dscp: int) -> Packet:
    """The frame with this mark, its ECN and all else as it was."""
    result = Ether(bytes(frame))
    if IP in result:
        result[IP].tos = dscp << 2 | result[IP].tos & 3
        del result[IP].chksum
    else:
        result[IPv6].tc = dscp << 2 | result[IPv6].tc & 3
    return Ether(bytes(result))


@ENDS
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("dscp", [0, 1, 8, 46, 63])
def test_mark_and_congestion_bits(
    board: Switchboard, dscp: int, version: int, destination: Nic
) -> None:
    """The first packet and the second one, which is a hit."""
    mark(board, WEB1, dscp)
    for ecn in range(4):
        fields = traffic_class(version, SENT_DSCP, ecn)
        frame = between(WEB1, destination, version, udp(40000 + ecn), **fields)
        expected = marked(arrived(frame, WEB1, destination), dscp)
        board.send("web1", frame).arrives(destination.name, expected)
        assert board.trace("web1", frame).decision("STAGE_FLOW") == "DECISION_FLOW_HIT"


@pytest.mark.parametrize("version", VERSIONS)
def test_after_two_routers(board: Switchboard, version: int) -> None:
    mark(board, WEB1, 46)
    frame = to_router(WEB1, MAIN_WEB, FAR1.address(version))
    sent = board.send("web1", frame)
    got = Ether(sent.frame)
    assert got == marked(got, 46)
    assert (got.ttl if version == 4 else got.hlim) == 62


@ENDS
def test_ipv6_flow_label_is_kept(board: Switchboard, destination: Nic) -> None:
    mark(board, WEB1, 46)
    frame = between(WEB1, destination, 6, udp(), fl=0xABCDE, tc=0xFF)
    sent = board.send("web1", frame)
    sent.arrives(destination.name, marked(arrived(frame, WEB1, destination), 46))
    assert Ether(sent.frame)[IPv6].fl == 0xABCDE


@ENDS
@pytest.mark.parametrize("version", VERSIONS)
def test_without_a_mark_the_guest_decides(
    board: Switchboard, version: int, destination: Nic
) -> None:
    frame = between(WEB1, destination, version, udp(), **traffic_class(version, SENT_DSCP, 1))
    board.send("web1", frame).arrives(destination.name, arrived(frame, WEB1, destination))


@pytest.mark.parametrize("version", VERSIONS)
def test_what_the_port_gets_is_not_marked(board: Switchboard, version: int) -> None:
    """Not even the answers of a connection that it opened."""
    mark(board, WEB1, 46)
    board.run("web1", between(WEB1, DB1, version, udp(5, 6)))
    frame = between(DB1, WEB1, version, udp(6, 5))
    board.send("db1", frame).arrives("web1", arrived(frame, DB1, WEB1))


@pytest.mark.parametrize("payload", ["tcp", "echo"])
@pytest.mark.parametrize("version", VERSIONS)
def test_other_protocols(board: Switchboard, version: int, payload: str) -> None:
    mark(board, WEB1, 10)
    frame = between(WEB1, DB1, version, tcp("S") if payload == "tcp" else ping(version))
    board.send("web1", frame).arrives("db1", marked(arrived(frame, WEB1, DB1), 10))


@ENDS
@pytest.mark.parametrize("version", VERSIONS)
def test_uncut_packets(board: Switchboard, version: int, destination: Nic) -> None:
    """The header is in each segment afterwards."""
    mark(board, WEB1, 46)
    frame = between(WEB1, destination, version, tcp("A") / Raw(bytes(2400)))
    sent = board.send("web1", frame, gso_size=1200, gso_segments=2)
    sent.arrives(destination.name, marked(arrived(frame, WEB1, destination), 46))


def test_ipv4_options_stay(board: Switchboard) -> None:
    mark(board, WEB1, 46)
    frame = between(WEB1, WEB2, 4, udp(), options=b"\x01" * 8)
    board.send("web1", frame).arrives("web2", marked(frame, 46))


@pytest.mark.parametrize("version", VERSIONS)
def test_copies_are_marked(board: Switchboard, version: int) -> None:
    mark(board, WEB1, 46)
    frame = between(WEB1, WEB2, version, udp())
    frame.dst = "33:33:00:00:00:09"
    board.run("web1", frame)
    for name in ("web2", "web3"):
        assert board.devices[name].read() == bytes(marked(frame, 46))


def test_arp_has_no_place_for_it(board: Switchboard) -> None:
    mark(board, WEB1, 46)
    arp = ARP(op=2, hwsrc=WEB1.mac, psrc=WEB1.ipv4, hwdst=WEB2.mac, pdst=WEB2.ipv4)
    frame = Ether(src=WEB1.mac, dst=WEB2.mac) / arp
    board.send("web1", frame).arrives("web2", frame)
