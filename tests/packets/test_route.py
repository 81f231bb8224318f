"""Routing: longest prefix, next hops, TTL, and what is never routed."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from packet_shapes import L4_NAMES, forwarded, l3, l4, to_router
from packet_world import (
    DB,
    DB1,
    EDGE,
    EDGE_FAR,
    FAR1,
    GATE,
    MAIN,
    MAIN_DB,
    MAIN_WEB,
    WEB1,
    WEB2,
    WEB3,
    Nic,
    Via,
    mapped,
)
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from heddle.datapath.frames import checksum
from tests.packets.conftest import Sent, Switchboard

Send = Callable[..., Sent]
VERSIONS = (4, 6)


@pytest.mark.parametrize("kind", L4_NAMES)
@pytest.mark.parametrize("version", VERSIONS)
def test_connected_subnet(send: Send, version: int, kind: str) -> None:
    frame = to_router(WEB1, MAIN_WEB, DB1.address(version), kind)
    sent = send("web1", frame)
    sent.arrives("db1", forwarded(frame, MAIN_DB.mac, DB1.mac))
    told = sent.trace
    assert told.decision("STAGE_ROUTE") == "DECISION_ROUTE_CONNECTED"
    assert (told.router, told.hops, told.to_network) == (MAIN, 1, DB.vni)
    assert (told.route_bits, told.via) == ({4: 24, 6: 64}[version], None)


@pytest.mark.parametrize("version", VERSIONS)
def test_to_a_container(send: Send, version: int) -> None:
    frame = to_router(DB1, MAIN_DB, WEB3.address(version))
    sent = send("db1", frame)
    sent.arrives("web3", forwarded(frame, MAIN_WEB.mac, WEB3.mac))
    assert sent.trace.decision("STAGE_DELIVER") == "DECISION_DELIVER_PEER"


@pytest.mark.parametrize("destination", ["10.9.0.1", "10.9.255.254", "fd00:9::1", "fd00:9:0:fe::1"])
def test_static_route_via_a_vm(send: Send, destination: str) -> None:
    frame = to_router(WEB1, MAIN_WEB, destination)
    sent = send("web1", frame)
    sent.arrives("gate", forwarded(frame, MAIN_DB.mac, GATE.mac))
    told = sent.trace
    assert told.decision("STAGE_ROUTE") == "DECISION_ROUTE_STATIC"
    assert told.via == mapped(GATE.address(6 if ":" in destination else 4))


@pytest.mark.parametrize("destination", ["10.9.66.1", "10.9.66.255", "fd00:9:0:66::1"])
def test_blackhole_inside_a_shorter_route(send: Send, destination: str) -> None:
    sent = send("web1", to_router(WEB1, MAIN_WEB, destination))
    assert (sent.to, sent.reason) == (None, "DROP_BLACKHOLE")


@pytest.mark.parametrize("destination", ["10.9.66.8", "fd00:9:0:66::8"])
def test_longest_prefix_wins(send: Send, destination: str) -> None:
    frame = to_router(WEB1, MAIN_WEB, destination)
    sent = send("web1", frame)
    sent.arrives("db1", forwarded(frame, MAIN_DB.mac, DB1.mac))
    assert sent.trace.route_bits == (128 if ":" in destination else 32)


@pytest.mark.parametrize("version", VERSIONS)
def test_via_another_router(send: Send, version: int) -> None:
    """Each router takes one off the TTL; the last one's MAC is the source."""
    frame = to_router(WEB1, MAIN_WEB, FAR1.address(version))
    sent = send("web1", frame)
    sent.arrives("far1", forwarded(frame, EDGE_FAR.mac, FAR1.mac, hops=2))
    assert (sent.trace.router, sent.trace.hops) == (EDGE, 2)


@pytest.mark.parametrize("version", VERSIONS)
def test_back_from_the_other_router(send: Send, version: int) -> None:
    frame = to_router(FAR1, EDGE_FAR, WEB1.address(version))
    send("far1", frame).arrives("web1", forwarded(frame, MAIN_WEB.mac, WEB1.mac, hops=2))


@pytest.mark.parametrize("version", VERSIONS)
def test_back_into_the_same_network(send: Send, version: int) -> None:
    """A guest with a host route sends to its neighbor by way of the gateway."""
    frame = to_router(WEB1, MAIN_WEB, WEB2.address(version))
    send("web1", frame).arrives("web2", forwarded(frame, MAIN_WEB.mac, WEB2.mac))


@pytest.mark.parametrize("version", VERSIONS)
def test_back_to_the_sender(send: Send, version: int) -> None:
    frame = to_router(WEB1, MAIN_WEB, WEB1.address(version))
    send("web1", frame).arrives("web1", forwarded(frame, MAIN_WEB.mac, WEB1.mac))


# ---- TTL -----------------------------------------------------------------------


@pytest.mark.parametrize("ttl", [2, 3, 64, 255])
@pytest.mark.parametrize("version", VERSIONS)
def test_one_router_takes_one(send: Send, version: int, ttl: int) -> None:
    frame = to_router(WEB1, MAIN_WEB, DB1.address(version), ttl=ttl)
    sent = send("web1", frame)
    sent.arrives("db1", forwarded(frame, MAIN_DB.mac, DB1.mac))
    assert (IP if version == 4 else IPv6) in Ether(sent.frame)


@pytest.mark.parametrize("ttl", [0, 1])
@pytest.mark.parametrize("version", VERSIONS)
def test_the_last_hop_is_the_end(send: Send, version: int, ttl: int) -> None:
    frame = to_router(WEB1, MAIN_WEB, DB1.address(version), ttl=ttl)
    assert send("web1", frame).reason == "DROP_TTL_EXCEEDED"


@pytest.mark.parametrize(("ttl", "reason"), [(1, 1), (2, 1), (3, 0)])
@pytest.mark.parametrize("version", VERSIONS)
def test_two_routers_take_two(send: Send, version: int, ttl: int, reason: int) -> None:
    frame = to_router(WEB1, MAIN_WEB, FAR1.address(version), ttl=ttl)
    assert send("web1", frame).reason == ("DROP_TTL_EXCEEDED" if reason else None)


EDGES = [high << 8 | low for high in (0, 1, 0xFD, 0xFE, 0xFF) for low in (0, 1, 0xFE, 0xFF)]


@pytest.mark.parametrize("wanted", [*EDGES, *range(0, 1 << 16, 4093)])
@pytest.mark.parametrize("target", [DB1, FAR1], ids=["one hop", "two hops"])
def test_checksum_follows_the_ttl_whatever_it_was(
    board: Switchboard, target: Nic, wanted: int
) -> None:
    """RFC 1624: where the sum runs over is where an update goes wrong."""
    frame = with_ip_checksum(to_router(WEB1, MAIN_WEB, target.ipv4), wanted)
    for _ in ("by the slow path", "by the flow"):
        header = board.run("web1", frame).frame[14:34]
        assert checksum(header) == 0


def with_ip_checksum(frame: Packet, wanted: int) -> bytes:
    """The frame with an identification that gives its header this checksum."""
    blank = bytearray(bytes(frame))
    blank[18:20] = blank[24:26] = bytes(2)
    identification = (checksum(bytes(blank[14:34])) - wanted) % 0xFFFF
    blank[18:20] = struct.pack("!H", identification)
    blank[24:26] = struct.pack("!H", wanted)
    assert checksum(bytes(blank[14:34])) == 0
    return bytes(blank)


# ---- what goes nowhere -----------------------------------------------------------

NOWHERE = {
    "8.8.8.8": "DROP_NO_ROUTE",
    "2001:db8::1": "DROP_NO_ROUTE",
    "192.168.0.200": "DROP_NO_NEIGHBOR",
    "192.168.0.255": "DROP_NO_NEIGHBOR",
    "fd00:db::200": "DROP_NO_NEIGHBOR",
    "10.67.0.1": "DROP_NO_NEIGHBOR",
    "fd00:67::1": "DROP_NO_NEIGHBOR",
    "10.66.0.1": "DROP_ROUTE_LOOP",
    "fd00:66::1": "DROP_ROUTE_LOOP",
    "224.0.0.5": "DROP_ROUTED_MULTICAST",
    "239.1.2.3": "DROP_ROUTED_MULTICAST",
    "255.255.255.255": "DROP_ROUTED_MULTICAST",
    "127.0.0.1": "DROP_ROUTED_MULTICAST",
    "169.254.169.254": "DROP_ROUTED_MULTICAST",
    "0.0.0.0": "DROP_ROUTED_MULTICAST",  # noqa: S104
    "ff02::5": "DROP_ROUTED_MULTICAST",
    "ff0e::1": "DROP_ROUTED_MULTICAST",
    "fe80::1": "DROP_ROUTED_MULTICAST",
    "::": "DROP_ROUTED_MULTICAST",
}


@pytest.mark.parametrize("destination", NOWHERE)
def test_what_has_no_way(send: Send, destination: str) -> None:
    assert send("web1", to_router(WEB1, MAIN_WEB, destination)).reason == NOWHERE[destination]


def test_link_local_source_is_not_routed(send: Send) -> None:
    frame = Ether(src=WEB1.mac, dst=MAIN_WEB.mac) / l3(6, WEB1.link_local, DB1.ipv6) / l4("udp", 6)
    assert send("web1", frame).reason == "DROP_ROUTED_MULTICAST"


@pytest.mark.parametrize("version", VERSIONS)
def test_router_without_the_network_knows_no_way(send: Send, version: int) -> None:
    """edge joins db and far, but not web2's neighbor lone."""
    destination = {4: "10.5.0.2", 6: "fd00:5::2"}[version]
    assert send("far1", to_router(FAR1, EDGE_FAR, destination)).reason == "DROP_NO_ROUTE"


@pytest.mark.parametrize(
    ("default", "taken", "left"),
    [("0.0.0.0/0", "8.8.8.8", "2001:db8::1"), ("::/0", "2001:db8::1", "8.8.8.8")],
)
def test_default_route_is_of_one_family(
    board: Switchboard, send: Send, default: str, taken: str, left: str
) -> None:
    via = GATE.ipv6 if ":" in default else GATE.ipv4
    board.world.write_route(Via(MAIN, default, DB, via))
    frame = to_router(WEB1, MAIN_WEB, taken)
    sent = send("web1", frame)
    sent.arrives("gate", forwarded(frame, MAIN_DB.mac, GATE.mac))
    assert sent.trace.route_bits == 0
    assert send("web1", to_router(WEB1, MAIN_WEB, left)).reason == "DROP_NO_ROUTE"


# ---- fragments ---------------------------------------------------------------------

FRAGMENTS = {
    4: [
        IP(src=WEB1.ipv4, dst=DB1.ipv4, id=9, flags="MF", proto=17)
        / Raw(b"\x00\x07\x00\x08" + bytes(60)),
        IP(src=WEB1.ipv4, dst=DB1.ipv4, id=9, flags="MF", frag=8, proto=17) / Raw(bytes(64)),
        IP(src=WEB1.ipv4, dst=DB1.ipv4, id=9, frag=16, proto=17) / Raw(b"\xff" * 3),
    ],
    6: [
        IPv6(src=WEB1.ipv6, dst=DB1.ipv6)
        / IPv6ExtHdrFragment(nh=17, m=1, id=9)
        / Raw(b"\x00\x07\x00\x08" + bytes(60)),
        IPv6(src=WEB1.ipv6, dst=DB1.ipv6)
        / IPv6ExtHdrFragment(nh=17, offset=8, id=9)
        / Raw(b"\xff" * 3),
    ],
}


@pytest.mark.parametrize("version", FRAGMENTS)
def test_fragments_are_routed_one_by_one(send: Send, version: int) -> None:
    for fragment in FRAGMENTS[version]:
        frame = Ether(src=WEB1.mac, dst=MAIN_WEB.mac) / fragment
        send("web1", frame).arrives("db1", forwarded(frame, MAIN_DB.mac, DB1.mac))
