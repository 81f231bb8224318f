"""Of whom a rule is asked when heddle answers itself or copies, and what needs none."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from packet_policy import ICMP_NUMBER, allow
from packet_rules import (
    FROM_VM,
    TO_VM,
    UDP,
    Member,
    Rule,
    write_group,
    write_set,
)
from packet_shapes import l4, to_router
from packet_talk import arrived, between, ping, talk, udp
from packet_world import (
    DB,
    DB1,
    FAR1,
    GATE,
    MAIN_WEB,
    WEB,
    WEB1,
    WEB2,
    WEB3,
    Nic,
    mac_bytes,
)
from scapy.layers import inet
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import IP
from scapy.layers.inet6 import (
    ICMPv6MLReport2,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RS,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    IPv6ExtHdrHopByHop,
    RouterAlert,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw
from test_fragment import fragments

from tests.packets.conftest import TC_ACT_SHOT, Switchboard

VERSIONS = (4, 6)
BROADCAST = "ff:ff:ff:ff:ff:ff"


# ---- what stays with heddle ------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_ping_to_the_gateway_needs_a_rule(board: Switchboard, version: int) -> None:
    frame = to_router(WEB1, MAIN_WEB, MAIN_WEB.address(version), "echo")
    board.world.write_port(WEB1, groups=[])
    assert board.send("web1", frame).reason == "DROP_POLICY_FROM_VM"
    allow(board, WEB1, [Rule(9, FROM_VM, version, ICMP_NUMBER[version])])
    sent = board.send("web1", frame)
    assert (sent.to, sent.reason) == ("web1", None)
    assert sent.trace.from_rule == 9


def oversized(version: int) -> Packet:
    ip = {"flags": "DF"} if version == 4 else {}
    return between(WEB1, DB1, version, inet.UDP(sport=1, dport=2) / Raw(bytes(1500)), **ip)


ERRORS: dict[str, Callable[[int], Packet]] = {
    "DROP_NO_ROUTE": lambda v: to_router(WEB1, MAIN_WEB, {4: "8.8.8.8", 6: "2001:db8::1"}[v]),
    "DROP_NO_NEIGHBOR": lambda v: to_router(
        WEB1, MAIN_WEB, {4: "192.168.0.99", 6: "fd00:db::99"}[v]
    ),
    "DROP_TTL_EXCEEDED": lambda v: to_router(WEB1, MAIN_WEB, DB1.address(v), ttl=1),
    "DROP_TOO_BIG": oversized,
    "DROP_ROUTER_SERVICE": lambda v: to_router(WEB1, MAIN_WEB, MAIN_WEB.address(v)),
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("reason", ERRORS)
def test_errors_are_for_those_who_may_send(board: Switchboard, reason: str, version: int) -> None:
    frame = ERRORS[reason](version)
    board.world.write_port(WEB1, groups=[])
    sent = board.send("web1", frame)
    assert (sent.reason, sent.verdict) == ("DROP_POLICY_FROM_VM", TC_ACT_SHOT)
    allow(board, WEB1, [Rule(9, FROM_VM, version)])
    sent = board.send("web1", frame)
    assert (sent.reason, sent.to) == (reason, "web1")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("reason", ["DROP_TTL_EXCEEDED", "DROP_TOO_BIG"])
def test_error_about_a_packet_to_a_member_of_a_group(
    board: Switchboard, reason: str, version: int
) -> None:
    """The network of the destination is known by then."""
    write_set(board.world, 5, [Member(DB1.address(version), DB.vni)])
    allow(board, WEB1, [Rule(9, FROM_VM, version, remote=5)])
    sent = board.send("web1", ERRORS[reason](version))
    assert (sent.reason, sent.to) == (reason, "web1")


def test_drops_of_which_nobody_is_told_come_first(board: Switchboard) -> None:
    board.world.write_port(WEB1, groups=[])
    frame = between(WEB1, WEB2, 4, udp())
    frame.dst = "fa:16:3e:00:00:99"
    assert board.send("web1", frame).reason == "DROP_UNKNOWN_MAC"


# ---- floods ----------------------------------------------------------------------------


def flooded(version: int) -> Packet:
    ip: Packet = IPv6(src=WEB1.ipv6, dst="ff02::123", hlim=1)
    if version == 4:
        ip = IP(src=WEB1.ipv4, dst="239.1.2.3", ttl=1)
    mac = {4: "01:00:5e:01:02:03", 6: "33:33:00:00:01:23"}[version]
    return Ether(src=WEB1.mac, dst=mac) / ip / l4("udp", version)


@pytest.mark.parametrize("version", VERSIONS)
def test_sender_of_a_flood_needs_a_rule(board: Switchboard, version: int) -> None:
    board.world.write_port(WEB1, groups=[])
    sent = board.send("web1", flooded(version))
    assert sent.reason == "DROP_POLICY_FROM_VM"
    assert board.devices["web2"].read_all() == []


@pytest.mark.parametrize("version", VERSIONS)
def test_each_receiver_of_a_flood_is_asked(board: Switchboard, version: int) -> None:
    """Who allows it gets a copy; who does not is counted and told of by name."""
    allow(board, WEB2, [Rule(9, TO_VM, version, UDP, ports=(53, 53))])
    write_group(board.world, 8, [Rule(9, TO_VM, version, UDP, ports=(54, 54))])
    board.world.write_port(WEB3, groups=[8])
    frame = flooded(version)
    assert board.trace("web1", frame).copies == 1
    board.run("web1", frame)
    assert board.devices["web2"].read() == bytes(frame)
    assert board.devices["web3"].read_all() == []
    assert board.drop_count("web3", "DROP_POLICY_TO_VM") == {
        "packets": 1,
        "bytes": len(bytes(frame)),
    }
    (event,) = board.dropped_events()
    assert event["ifindex"] == board.devices["web3"].ifindex
    assert event["from_ifindex"] == board.devices["web1"].ifindex
    assert board.drop_count("web1", "DROP_POLICY_TO_VM")["packets"] == 0
    assert board.counters(WEB2.slot)["to_vm_packets"] == 1
    assert board.counters(WEB3.slot)["to_vm_packets"] == 0


@pytest.mark.parametrize("version", VERSIONS)
def test_rules_about_members_hold_for_floods(board: Switchboard, version: int) -> None:
    write_set(board.world, 5, [Member(WEB1.address(version), WEB.vni)])
    write_set(board.world, 6, [Member(WEB1.address(version), DB.vni)])
    allow(board, WEB2, [Rule(9, TO_VM, version, remote=5)])
    write_group(board.world, 8, [Rule(9, TO_VM, version, remote=6)])
    board.world.write_port(WEB3, groups=[8])
    board.run("web1", flooded(version))
    assert board.devices["web2"].read() == bytes(flooded(version))
    assert board.drop_count("web3", "DROP_POLICY_TO_VM")["packets"] == 1


# ---- what needs no rule ----------------------------------------------------------------


def nd(message: Packet, source: str = WEB1.ipv6, target: str = "ff02::1") -> Packet:
    mac = WEB2.mac if target == WEB2.ipv6 else "33:33:00:00:00:01"
    return Ether(src=WEB1.mac, dst=mac) / IPv6(src=source, dst=target, hlim=255) / message


def dhcp4() -> Packet:
    boot = BOOTP(chaddr=mac_bytes(WEB1.mac), xid=1) / DHCP(
        options=[("message-type", "discover"), "end"]
    )
    ip = IP(src="0.0.0.0", dst="255.255.255.255")  # noqa: S104
    return Ether(src=WEB1.mac, dst=BROADCAST) / ip / inet.UDP(sport=68, dport=67) / boot


ANSWERED = {
    "arp": Ether(src=WEB1.mac, dst=BROADCAST) / ARP(hwsrc=WEB1.mac, psrc=WEB1.ipv4, pdst=WEB2.ipv4),
    "neighbor solicitation": nd(ICMPv6ND_NS(tgt=WEB2.ipv6) / ICMPv6NDOptSrcLLAddr(lladdr=WEB1.mac)),
    "router solicitation": nd(ICMPv6ND_RS(), WEB1.link_local, "ff02::2"),
    "dhcp": dhcp4(),
}


@pytest.fixture
def closed(board: Switchboard) -> Switchboard:
    """No port of the network web has a group."""
    for nic in (WEB1, WEB2, WEB3):
        board.world.write_port(nic, groups=[])
    return board


@pytest.mark.parametrize("name", ANSWERED)
def test_answers_of_the_network_need_no_rule(closed: Switchboard, name: str) -> None:
    sent = closed.send("web1", ANSWERED[name])
    assert (sent.to, sent.reason) == ("web1", None)


def test_neighbor_messages_between_vms_need_no_rule(closed: Switchboard) -> None:
    frame = nd(ICMPv6ND_NA(tgt=WEB1.ipv6), WEB1.ipv6, WEB2.ipv6)
    closed.send("web1", frame).arrives("web2", frame)
    arp = ARP(op=2, hwsrc=WEB1.mac, psrc=WEB1.ipv4, hwdst=WEB2.mac, pdst=WEB2.ipv4)
    frame = Ether(src=WEB1.mac, dst=WEB2.mac) / arp
    closed.send("web1", frame).arrives("web2", frame)


def test_multicast_reports_need_no_rule(closed: Switchboard) -> None:
    alert = IPv6ExtHdrHopByHop(options=[RouterAlert()])
    ip = IPv6(src=WEB1.link_local, dst="ff02::16", hlim=1)
    frame = Ether(src=WEB1.mac, dst="33:33:00:00:00:16") / ip / alert / ICMPv6MLReport2()
    assert closed.trace("web1", frame).copies == 2


def test_questions_to_another_dhcp_server_need_a_rule_there(closed: Switchboard) -> None:
    """The client may always ask; who listens says so."""
    closed.world.write_port(WEB1, groups=[], flags=0)
    assert closed.trace("web1", dhcp4()).copies == 0
    allow(closed, WEB2, [Rule(9, TO_VM, 4, UDP, ports=(67, 67))])
    assert closed.trace("web1", dhcp4()).copies == 1


ASKS = {4: (68, 67), 6: (546, 547)}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("receiver", [WEB2, DB1], ids=lambda nic: nic.name)
def test_who_is_asked_alone_has_rules_about_it(
    closed: Switchboard, receiver: Nic, version: int
) -> None:
    """A client's ports open nobody's: neither on its network nor behind a router."""
    source, destination = ASKS[version]
    closed.world.write_port(WEB1, groups=[], flags=0)
    closed.world.write_port(receiver, groups=[])
    frame = between(WEB1, receiver, version, udp(source, destination))
    sent = closed.send("web1", frame)
    assert sent.reason == "DROP_POLICY_TO_VM"
    assert sent.trace.blamed_ifindex == closed.devices[receiver.name].ifindex
    ports = (destination, destination)
    allow(closed, receiver, [Rule(9, TO_VM, version, UDP, ports=ports)])
    closed.send("web1", frame).arrives(receiver.name, arrived(frame, WEB1, receiver))


@pytest.mark.parametrize("version", VERSIONS)
def test_dhcp_opens_no_connection(board: Switchboard, version: int) -> None:
    """By which a request would pass that heddle has to answer: neither by a server's
    message, nor by the rest of one whose beginning was refused."""
    client, server = ASKS[version]
    for frame in fragments(WEB1, WEB2, version, udp(server, client)):
        board.run("web1", frame)
    board.world.open_port(WEB1)
    board.world.write_port(WEB2, flags=0)
    board.send("web1", between(WEB1, WEB2, version, udp(server, client)))
    board.send("web2", between(WEB2, WEB1, version, udp(client, server)))
    assert (board.flows(), board.total_usage()) == ([], 0)


def test_echo_between_vms_is_no_neighbor_message(closed: Switchboard) -> None:
    frame = between(WEB1, WEB2, 6, ping(6))
    assert closed.send("web1", frame).reason == "DROP_POLICY_FROM_VM"


# ---- ICMP that is neither echo nor error -----------------------------------------------


def test_timestamps_are_judged_one_by_one(board: Switchboard) -> None:
    """A question opens no way for its answer."""
    question = inet.ICMP(type="timestamp-request") / Raw(bytes(8))
    answer = inet.ICMP(type="timestamp-reply") / Raw(bytes(8))
    allow(board, WEB1, [Rule(9, FROM_VM)])
    board.send("web1", frame := between(WEB1, DB1, 4, question)).arrives(
        "db1", arrived(frame, WEB1, DB1)
    )
    assert board.flows() == []
    assert talk(board, between(DB1, WEB1, 4, answer), DB1, WEB1) == "DROP_POLICY_TO_VM"


def test_next_hop_does_not_count_as_the_remote(board: Switchboard) -> None:
    """A rule for gate does not open what lies behind it."""
    allow(board, WEB1, [Rule(9, FROM_VM, remote=GATE.ipv4)])
    frame = to_router(WEB1, MAIN_WEB, "10.9.1.1")
    assert board.send("web1", frame).reason == "DROP_POLICY_FROM_VM"
    allow(board, WEB1, [Rule(9, FROM_VM, remote="10.9.0.0/16")])
    assert board.send("web1", frame).to == "gate"


@pytest.mark.parametrize("version", VERSIONS)
def test_member_two_routers_away(board: Switchboard, version: int) -> None:
    write_set(board.world, 5, [Member(FAR1.address(version), FAR1.network.vni)])
    allow(board, WEB1, [Rule(9, FROM_VM, version, remote=5)])
    assert board.send("web1", to_router(WEB1, MAIN_WEB, FAR1.address(version))).to == "far1"
