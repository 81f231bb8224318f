"""Fragments: the later ones, which have no ports, fare as the first one did."""

from __future__ import annotations

import time
from itertools import product

import pytest
from packet_rules import TO_VM, UDP, Rule, write_group
from packet_talk import arrived, between, talk, tcp, udp
from packet_world import DB1, WEB1, WEB2, WEB3, Nic
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from tests.packets.conftest import Switchboard

VERSIONS = (4, 6)
CUT = 24  # bytes in the first fragment
LIFETIME_NS = 30 * 10**9
NUMBERS = {"udp": 17, "tcp": 6}


def fragments(
    source: Nic, destination: Nic, version: int, payload: Packet, identification: int = 77
) -> tuple[Packet, Packet]:
    """The first and the last one of a packet."""
    whole, number = bytes(payload), NUMBERS[payload.name.lower()]
    parts = [(whole[:CUT], 0, 1), (whole[CUT:], CUT // 8, 0)]
    frames = []
    for part, offset, more in parts:
        if version == 4:
            ip = {"proto": number, "id": identification, "frag": offset, "flags": more}
            frames.append(between(source, destination, 4, Raw(part), **ip))
        else:
            header = IPv6ExtHdrFragment(nh=number, offset=offset, m=more, id=identification)
            frames.append(between(source, destination, 6, header / Raw(part)))
    return frames[0], frames[1]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("destination", [WEB2, DB1], ids=["switched", "routed"])
def test_later_fragment_belongs_to_the_flow_of_the_first(
    board: Switchboard, destination: Nic, version: int
) -> None:
    first, last = fragments(WEB1, destination, version, udp())
    for frame in (first, last):
        sent = board.send("web1", frame)
        sent.arrives(destination.name, arrived(frame, WEB1, destination))
    assert board.trace("web1", last).decision("STAGE_FLOW") == "DECISION_FLOW_HIT"
    connection = board.connection()
    assert (connection.packets, connection.destination_port) == (4, 53)


@pytest.mark.parametrize("version", VERSIONS)
def test_unfragmented_packets_are_of_the_same_flow(board: Switchboard, version: int) -> None:
    board.run("web1", between(WEB1, DB1, version, udp()))
    first, last = fragments(WEB1, DB1, version, udp())
    for frame in (first, last):
        board.send("web1", frame)
        assert board.trace("web1", frame).decision("STAGE_FLOW") == "DECISION_FLOW_HIT"


def test_options_behind_the_fragment_header(board: Switchboard) -> None:
    """Only the first fragment shows which protocol follows them (RFC 8200, 4.5)."""
    options = IPv6ExtHdrDestOpt(nh=17)
    first, last = fragments(WEB1, DB1, 6, udp())
    header = IPv6ExtHdrFragment(nh=60, m=1, id=77)
    first = between(WEB1, DB1, 6, header / options / Raw(bytes(first[Raw])))
    header = IPv6ExtHdrFragment(nh=60, offset=(8 + CUT) // 8, id=77)
    last = between(WEB1, DB1, 6, header / Raw(bytes(last[Raw])))
    for frame in (first, last):
        board.send("web1", frame).arrives("db1", arrived(frame, WEB1, DB1))
    assert board.connection().destination_port == 53


@pytest.mark.parametrize("version", VERSIONS)
def test_fragments_of_an_answer(board: Switchboard, version: int) -> None:
    write_group(board.world, 7, [Rule(9, TO_VM, version)])
    board.world.write_port(DB1, groups=[7])
    board.run("web1", between(WEB1, DB1, version, udp()))
    for frame in fragments(DB1, WEB1, version, udp(53, 40000)):
        assert talk(board, frame, DB1, WEB1) == "REPLY"
    assert board.connection().reply_packets == 2


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("port", "is_allowed"), [(53, True), (54, False)])
def test_rules_for_ports_hold_for_all_fragments(
    board: Switchboard, port: int, is_allowed: bool, version: int
) -> None:
    write_group(board.world, 7, [Rule(9, TO_VM, version, UDP, ports=(53, 53))])
    board.world.write_port(DB1, groups=[7])
    fates = [talk(board, f, WEB1, DB1) for f in fragments(WEB1, DB1, version, udp(9, port))]
    assert fates == ["ALLOWED" if is_allowed else "DROP_POLICY_TO_VM"] * 2


@pytest.mark.parametrize("version", VERSIONS)
def test_later_fragment_has_no_tcp_flags(board: Switchboard, version: int) -> None:
    """Where they would be, there is data: neither FIN nor RST."""
    board.run("web1", between(WEB1, DB1, version, tcp("PA")))
    data = tcp("PA", payload=b"\xff" * 40)
    for frame in fragments(WEB1, DB1, version, data):
        assert talk(board, frame, WEB1, DB1) == "ALLOWED"
    assert board.connection().state == "ESTABLISHED"


# ---- orphans ------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_orphan(board: Switchboard, version: int) -> None:
    """All rules allow it, and yet: nobody knows for which port it is."""
    _, last = fragments(WEB1, DB1, version, udp())
    board.run("web1", between(WEB1, DB1, version, udp()))
    assert talk(board, last, WEB1, DB1) == "DROP_FRAGMENT_ORPHAN"
    assert board.trace("web1", last).decision("STAGE_FLOW") == "DECISION_FLOW_NONE"


STRANGERS = ("other identification", "other source", "other destination")


@pytest.mark.parametrize(
    ("name", "version"), [*product(STRANGERS, VERSIONS), ("other protocol", 4)]
)
def test_the_first_fragment_of_another_packet(board: Switchboard, name: str, version: int) -> None:
    first, _ = fragments(WEB1, DB1, version, udp())
    board.run("web1", first)
    if name == "other identification":
        _, last = fragments(WEB1, DB1, version, udp(), 78)
    elif name == "other protocol":
        _, last = fragments(WEB1, DB1, version, tcp("PA", payload=bytes(40)))
    elif name == "other source":
        board.world.put_pair(WEB1, {4: "172.17.17.64/26", 6: "fd00:17::64/128"}[version], WEB1.mac)
        _, last = fragments(WEB1, DB1, version, udp())
        last[1].src = {4: "172.17.17.65", 6: "fd00:17::64"}[version]
    else:
        _, last = fragments(WEB1, WEB2, version, udp())
    assert board.send_once("web1", last).reason == "DROP_FRAGMENT_ORPHAN"


@pytest.mark.parametrize("version", VERSIONS)
def test_the_first_fragment_from_another_port(board: Switchboard, version: int) -> None:
    """web3, which nobody guards, sends what would complete web1's packet."""
    first, last = fragments(WEB1, WEB2, version, udp())
    board.run("web1", first)
    board.world.open_port(WEB3)
    assert board.send_once("web3", last).reason == "DROP_FRAGMENT_ORPHAN"


@pytest.mark.parametrize("is_too_late", [False, True])
def test_first_fragments_are_forgotten(board: Switchboard, is_too_late: bool) -> None:
    first, last = fragments(WEB1, DB1, 4, udp())
    board.run("web1", first)
    ((key, value),) = board.rows("fragments")
    assert time.clock_gettime_ns(time.CLOCK_MONOTONIC) - value["seen_at"] < LIFETIME_NS
    value["seen_at"] -= LIFETIME_NS + 10**9 if is_too_late else 0
    board.world.put("fragments", key, value)
    fate = talk(board, last, WEB1, DB1)
    assert fate == ("DROP_FRAGMENT_ORPHAN" if is_too_late else "ALLOWED")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("end", [WEB1, DB1], ids=["sender", "receiver"])
def test_orphan_at_an_open_port(board: Switchboard, end: Nic, version: int) -> None:
    """It takes both ends to let it pass."""
    _, last = fragments(WEB1, DB1, version, udp())
    board.world.open_port(end)
    assert talk(board, last, WEB1, DB1) == "DROP_FRAGMENT_ORPHAN"
    for nic in (WEB1, DB1):
        board.world.open_port(nic)
    assert talk(board, last, WEB1, DB1) == "OPEN"
    assert board.flows() == []


# ---- to many ----------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_fragments_of_multicast(board: Switchboard, version: int) -> None:
    """web2 listens to the port of the first one, web3 to another."""
    write_group(board.world, 7, [Rule(9, TO_VM, version, UDP, ports=(53, 53))])
    write_group(board.world, 8, [Rule(9, TO_VM, version, UDP, ports=(54, 54))])
    board.world.write_port(WEB2, groups=[7])
    board.world.write_port(WEB3, groups=[8])
    for fragment in fragments(WEB1, WEB2, version, udp()):
        frame = Ether(bytes(fragment))
        frame.dst = {4: "01:00:5e:01:02:03", 6: "33:33:00:00:01:23"}[version]
        if version == 4:
            frame[IP].dst = "239.1.2.3"
            del frame[IP].chksum
        else:
            frame[IPv6].dst = "ff02::123"
        board.run("web1", frame)
        assert board.devices["web2"].read() == bytes(frame)
    assert board.drop_count("web3", "DROP_POLICY_TO_VM")["packets"] == 2
    assert board.devices["web3"].read_all() == []
