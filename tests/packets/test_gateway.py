"""Routers serve machines behind foreign VTEPs: ARP, ND, ping, errors, and packets to
other networks, to wherever the receiver is."""

from __future__ import annotations

import time

import pytest
from packet_diff import assert_same_frame
from packet_foreign import (
    NAMED,
    PRINTER,
    SCANNER,
    add_members,
    introduce,
    question,
    to_other_network,
)
from packet_policy import OWN
from packet_rules import (
    FROM_VM,
    RECEIVES,
    SENDS,
    TO_VM,
    Member,
    Rule,
    anything,
    write_group,
    write_set,
)
from packet_shapes import L4_NAMES, forwarded, l3, l4, to_router
from packet_talk import arrived, between, tcp, udp
from packet_tunnel import (
    BEHIND,
    DB6,
    DB8,
    FOREIGN,
    NEAR,
    REMOTE,
    WEB8,
    Tunnel,
    put_network,
    put_remote,
)
from packet_world import (
    DB,
    DB1,
    EDGE_DB,
    EDGE_FAR,
    FAR,
    FAR1,
    GATE,
    MAIN_DB,
    MAIN_WEB,
    WEB,
    WEB1,
    WEB2,
    Nic,
    RouterInterface,
)
from scapy.layers.inet import IP
from scapy.layers.inet6 import (
    ICMPv6EchoReply,
    ICMPv6ND_NA,
    ICMPv6ND_RS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw
from test_answer_nd import advertisement, solicitation
from test_answer_ra import ALL_ROUTERS, ALL_ROUTERS_MAC, expected_advertisement
from test_echo import ping, pong
from test_fragment import fragments
from test_icmp_errors import (
    ADDRESS6,
    HOST,
    NET,
    NO_ROUTE6,
    PORT,
    PORT6,
    error,
    time_exceeded,
    too_big,
    unreachable,
)
from test_pairs import ALL_NODES, BROADCAST, arp

VERSIONS = (4, 6)
WEB_GUESTS = ("web1", "web2", "web3")


@pytest.fixture
def mixed(tunnel: Tunnel) -> Tunnel:
    add_members(tunnel)
    return tunnel


def is_quiet(tunnel: Tunnel) -> bool:
    """Nothing went to other hosts, nor to any guest."""
    guests = [device.read_all() for device in tunnel.board.devices.values()]
    return tunnel.read_all() == [] and not any(guests)


def is_told(tunnel: Tunnel, message: Packet) -> None:
    """The machine gets an ICMP error; the envelope has its traffic class."""
    tunnel.carries(FOREIGN, WEB.vni, message, tos=message[IP].tos if IP in message else 0)


# ---- ARP and ND -------------------------------------------------------------------------


def arp_reply(gateway_mac: str, target: str) -> Packet:
    return Ether(src=gateway_mac, dst=PRINTER.mac) / ARP(
        op=2, hwsrc=gateway_mac, psrc=target, hwdst=PRINTER.mac, pdst=PRINTER.ipv4
    )


@pytest.mark.parametrize("way", ["broadcast", "unicast"])
def test_arp_for_the_gateway(mixed: Tunnel, way: str) -> None:
    asked = question(PRINTER, MAIN_WEB.ipv4)
    if way == "unicast":  # RFC 1122 2.3.2.1
        asked.dst = MAIN_WEB.mac
    mixed.write(FOREIGN, WEB.vni, asked)
    mixed.carries(FOREIGN, WEB.vni, arp_reply(MAIN_WEB.mac, MAIN_WEB.ipv4))
    assert is_quiet(mixed)


@pytest.mark.parametrize("source", [PRINTER.ipv6, PRINTER.link_local, "::"])
@pytest.mark.parametrize("target", [MAIN_WEB.ipv6, MAIN_WEB.link_local])
def test_nd_for_the_gateway(mixed: Tunnel, target: str, source: str) -> None:
    mixed.write(FOREIGN, WEB.vni, solicitation(PRINTER, target, source))
    expected = advertisement(PRINTER, target, MAIN_WEB.mac, router=True, source=source)
    mixed.carries(FOREIGN, WEB.vni, expected)
    assert is_quiet(mixed)


def test_router_solicitation(mixed: Tunnel) -> None:
    ethernet = Ether(src=PRINTER.mac, dst=ALL_ROUTERS_MAC)
    asked = ethernet / IPv6(src=PRINTER.link_local, dst=ALL_ROUTERS, hlim=255) / ICMPv6ND_RS()
    mixed.write(FOREIGN, WEB.vni, asked / ICMPv6NDOptSrcLLAddr(lladdr=PRINTER.mac))
    mixed.carries(FOREIGN, WEB.vni, expected_advertisement(PRINTER, PRINTER.link_local))
    assert is_quiet(mixed)


@pytest.mark.parametrize("target", [WEB1.ipv4, WEB1.ipv6, "172.17.17.77"])
def test_all_other_questions_go_to_the_guests(mixed: Tunnel, target: str) -> None:
    asked = question(PRINTER, target)
    mixed.write(FOREIGN, WEB.vni, asked)
    for name in WEB_GUESTS:
        assert mixed.board.devices[name].read() == bytes(asked)
    assert mixed.read_all() == []


@pytest.mark.parametrize("version", VERSIONS)
def test_hosts_of_heddle_answer_their_own_ports(mixed: Tunnel, version: int) -> None:
    """What they flood is for no router here."""
    asked = question(WEB8, MAIN_WEB.address(version))
    mixed.write(NEAR, WEB.vni, asked)
    for name in WEB_GUESTS:
        assert mixed.board.devices[name].read() == bytes(asked)
    assert mixed.read_all() == []


def test_nobody_answers_for_a_router_that_is_not_there(mixed: Tunnel) -> None:
    """Nor does one of another network."""
    asked = question(PRINTER, MAIN_DB.ipv4)
    mixed.write(FOREIGN, WEB.vni, asked)
    assert mixed.board.devices["web1"].read() == bytes(asked)
    assert mixed.read_all() == []


# ---- packets to the router itself --------------------------------------------------------


SIDES = [MAIN_WEB, MAIN_DB]


@pytest.mark.parametrize("side", SIDES, ids=["near side", "far side"])
@pytest.mark.parametrize("version", VERSIONS)
def test_ping(mixed: Tunnel, version: int, side: RouterInterface) -> None:
    target = side.address(version)
    mixed.write(FOREIGN, WEB.vni, ping(PRINTER, MAIN_WEB.mac, target, b"data"))
    mixed.carries(FOREIGN, WEB.vni, pong(PRINTER, MAIN_WEB.mac, target, b"data"))
    assert is_quiet(mixed)


def test_ping_of_the_link_local_address(mixed: Tunnel) -> None:
    header = l3(6, PRINTER.link_local, MAIN_WEB.link_local)
    mixed.write(FOREIGN, WEB.vni, Ether(src=PRINTER.mac, dst=MAIN_WEB.mac) / header / l4("echo", 6))
    reply = l3(6, MAIN_WEB.link_local, PRINTER.link_local)
    reply /= ICMPv6EchoReply(id=7, seq=1, data=bytes(range(64)))
    mixed.carries(FOREIGN, WEB.vni, Ether(src=MAIN_WEB.mac, dst=PRINTER.mac) / reply)


@pytest.mark.parametrize("version", VERSIONS)
def test_nothing_but_ping_is_served(mixed: Tunnel, version: int) -> None:
    gateway = MAIN_WEB.address(version)
    asked = to_router(PRINTER, MAIN_WEB, gateway, "udp")
    mixed.write(FOREIGN, WEB.vni, asked)
    told = error(asked, PRINTER, gateway, unreachable(version, PORT, PORT6))
    is_told(mixed, told)
    mixed.write(FOREIGN, WEB.vni, to_router(PRINTER, MAIN_WEB, gateway, "tcp"))
    assert mixed.dropped("DROP_ROUTER_SERVICE") == 2
    assert is_quiet(mixed)


# ---- to a port of this host ---------------------------------------------------------------


def gets(tunnel: Tunnel, source: Nic, destination: Nic, version: int, payload: Packet) -> None:
    """What the foreign machine sends reaches its receiver, here or at another host, routed
    once and otherwise untouched."""
    frame = to_other_network(tunnel, source, destination, version, payload)
    expected = arrived(frame, source, destination)
    if destination.name in tunnel.board.devices:
        assert_same_frame(tunnel.board.devices[destination.name].read() or b"", expected)
    else:
        tunnel.carries(REMOTE.get(destination, FOREIGN), destination.network.vni, expected)


@pytest.mark.parametrize("kind", L4_NAMES)
@pytest.mark.parametrize("version", VERSIONS)
def test_to_a_port_here(mixed: Tunnel, version: int, kind: str) -> None:
    for _ in range(3):
        gets(mixed, PRINTER, DB1, version, l4(kind, version))
    assert mixed.board.counters(DB1.slot)["to_vm_packets"] == 3
    assert mixed.board.rows("drops") == []
    connection = mixed.board.connection()
    zone = mixed.board.world.value("TUNNEL_ZONE") | DB.vni
    assert (connection.from_ifindex, connection.packets) == (zone, 3)
    assert is_quiet(mixed)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_conversation(mixed: Tunnel, version: int) -> None:
    """TCP, opened by the machine, and again by the guest; the guest's packets are routed
    where they come from, as all that ports send."""
    introduce(mixed, PRINTER, version)
    board = mixed.board
    write_group(board.world, RECEIVES, [r for r in anything() if r.direction == TO_VM])
    board.world.write_port(DB1, groups=[RECEIVES])
    gets(mixed, PRINTER, DB1, version, tcp("S"))
    puts(mixed, DB1, PRINTER, version, tcp("SA", 80, 40000))
    gets(mixed, PRINTER, DB1, version, tcp("A"))
    assert board.connection().state == "ESTABLISHED"
    for _ in range(2):
        gets(mixed, PRINTER, DB1, version, tcp("PA"))
        puts(mixed, DB1, PRINTER, version, tcp("PA", 80, 40000))
    assert board.connection().packets == 4


@pytest.mark.parametrize("version", VERSIONS)
def test_a_conversation_that_the_guest_opens(mixed: Tunnel, version: int) -> None:
    introduce(mixed, PRINTER, version)
    board = mixed.board
    write_group(board.world, SENDS, [r for r in anything() if r.direction == FROM_VM])
    board.world.write_port(DB1, groups=[SENDS])
    to_other_network(mixed, PRINTER, DB1, version, udp(53, 40000))
    assert board.drop_count("db1", "DROP_POLICY_TO_VM")["packets"] == 1
    puts(mixed, DB1, PRINTER, version, udp(40000, 53))
    for _ in range(2):
        gets(mixed, PRINTER, DB1, version, udp(53, 40000))
    assert board.connection().reply_packets == 2


def puts(tunnel: Tunnel, source: Nic, destination: Nic, version: int, payload: Packet) -> None:
    """A guest's packet to the machine."""
    frame = between(source, destination, version, payload)
    tunnel.from_vm(frame, source.name)
    tunnel.carries(FOREIGN, destination.network.vni, arrived(frame, source, destination))


@pytest.mark.parametrize("version", VERSIONS)
def test_it_matters_not_which_host_routes(mixed: Tunnel, version: int) -> None:
    """The same connection, by way of another host, and straight to here again."""
    board, payload = mixed.board, tcp("PA")
    gets(mixed, PRINTER, DB1, version, tcp("S"))
    elsewhere = arrived(between(PRINTER, DB1, version, payload), PRINTER, DB1)
    for _ in range(2):
        mixed.write(NEAR, DB.vni, elsewhere)
        assert board.devices["db1"].read() == bytes(elsewhere)
        gets(mixed, PRINTER, DB1, version, payload)
    assert board.connection().packets == 5


@pytest.mark.parametrize("version", VERSIONS)
def test_fragments(mixed: Tunnel, version: int) -> None:
    for frame in fragments(PRINTER, DB1, version, udp()):
        mixed.write(FOREIGN, WEB.vni, frame)
        expected = arrived(frame, PRINTER, DB1)
        assert_same_frame(mixed.board.devices["db1"].read() or b"", expected)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_change_of_policy(mixed: Tunnel, version: int) -> None:
    """The connection is judged again when the network of its port changes."""
    gets(mixed, PRINTER, DB1, version, udp())
    write_group(mixed.board.world, OWN, [])
    mixed.board.world.write_port(DB1, groups=[OWN])
    mixed.board.world.advance_epoch(DB)
    to_other_network(mixed, PRINTER, DB1, version, udp())
    assert mixed.board.drop_count("db1", "DROP_POLICY_TO_VM")["packets"] == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_it_is_in_no_group(mixed: Tunnel, version: int) -> None:
    """Rules about prefixes hold for it, those about groups do not, whatever it says."""
    board, bits = mixed.board, 32 if version == 4 else 128
    write_group(board.world, OWN, [Rule(9, TO_VM, version, remote=5)])
    write_set(board.world, 5, [Member(f"{WEB1.address(version)}/{bits}", WEB.vni)])
    board.world.write_port(DB1, groups=[OWN])
    to_other_network(mixed, PRINTER, DB1, version, udp())
    assert board.drop_count("db1", "DROP_POLICY_TO_VM")["packets"] == 1
    spoofed = between(WEB1, DB1, version, udp())
    mixed.write(FOREIGN, WEB.vni, spoofed)
    assert mixed.dropped("DROP_SOURCE_IP") == 1
    allowed = Rule(9, TO_VM, version, remote=f"{PRINTER.address(version)}/{bits}")
    write_group(board.world, OWN, [allowed])
    gets(mixed, PRINTER, DB1, version, udp())


# ---- to other hosts -----------------------------------------------------------------------


@pytest.mark.parametrize("destination", [DB8, DB6, NAMED], ids=lambda nic: nic.name)
@pytest.mark.parametrize("version", VERSIONS)
def test_to_another_host(mixed: Tunnel, version: int, destination: Nic) -> None:
    """Which asks the rules of its port; none are asked, nothing is remembered here."""
    for _ in range(2):
        gets(mixed, PRINTER, destination, version, udp())
    assert mixed.board.flows() == []
    assert is_quiet(mixed)


@pytest.mark.parametrize("version", VERSIONS)
def test_through_a_relay(mixed: Tunnel, version: int) -> None:
    far = Nic("db4", DB, "fa:16:3e:db:00:14", "192.168.0.14", "fd00:db::14", 0)
    put_remote(mixed.board.world, far, BEHIND.number)
    frame = to_other_network(mixed, PRINTER, far, version, udp())
    mixed.carries(NEAR, DB.vni, arrived(frame, PRINTER, far), number=BEHIND.number)


@pytest.mark.parametrize("version", VERSIONS)
def test_between_foreign_machines(mixed: Tunnel, version: int) -> None:
    """Behind the same switch, in two networks; one of them is known by its question."""
    introduce(mixed, SCANNER, version)
    gets(mixed, PRINTER, SCANNER, version, udp())
    gets(mixed, NAMED, Nic("web2", WEB, WEB2.mac, WEB2.ipv4, WEB2.ipv6, 0), version, udp())


@pytest.mark.parametrize("version", VERSIONS)
def test_to_a_machine_on_its_way(mixed: Tunnel, version: int) -> None:
    """Its rows are here, it runs elsewhere by now."""
    flags = mixed.board.datapath.abi.bits("port_flag", ["PORT_AWAY"])
    mixed.board.world.write_port(DB1, flags=flags, elsewhere=NEAR.number)
    frame = to_other_network(mixed, PRINTER, DB1, version, udp())
    mixed.carries(NEAR, DB.vni, arrived(frame, PRINTER, DB1))


@pytest.mark.parametrize("destination", ["10.9.1.1", "fd00:9::1:1"])
def test_a_static_route(mixed: Tunnel, destination: str) -> None:
    frame = to_router(PRINTER, MAIN_WEB, destination)
    mixed.write(FOREIGN, WEB.vni, frame)
    expected = forwarded(frame, MAIN_DB.mac, GATE.mac)
    assert_same_frame(mixed.board.devices["gate"].read() or b"", expected)


@pytest.mark.parametrize("version", VERSIONS)
def test_two_routers(mixed: Tunnel, version: int) -> None:
    frame = to_router(PRINTER, MAIN_WEB, FAR1.address(version))
    mixed.write(FOREIGN, WEB.vni, frame)
    expected = forwarded(frame, EDGE_FAR.mac, FAR1.mac, hops=2)
    assert_same_frame(mixed.board.devices["far1"].read() or b"", expected)


@pytest.mark.parametrize("version", VERSIONS)
def test_what_hosts_of_heddle_send_is_not_routed_again(mixed: Tunnel, version: int) -> None:
    """No loop between two hosts, whatever they believe."""
    mixed.write(NEAR, WEB.vni, between(WEB8, DB1, version, udp()))
    assert mixed.dropped("DROP_UNKNOWN_MAC") == 1
    assert is_quiet(mixed)


@pytest.mark.parametrize("version", VERSIONS)
def test_foreign_hosts_do_not_reach_each_other_by_us(mixed: Tunnel, version: int) -> None:
    """Within a network: what one floods would come back from every host."""
    introduce(mixed, SCANNER, version)
    mixed.write(FOREIGN, DB.vni, between(SCANNER, NAMED, version, udp()))
    assert mixed.dropped("DROP_UNKNOWN_MAC") == 1
    mixed.write(FOREIGN, DB.vni, between(NAMED, SCANNER, version, udp()))
    assert mixed.dropped("DROP_UNKNOWN_MAC") == 2
    assert is_quiet(mixed)


# ---- what is not routed -------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("claimed", [WEB1, WEB8, DB1, SCANNER, NAMED], ids=lambda nic: nic.name)
def test_a_machine_speaks_for_itself_alone(mixed: Tunnel, claimed: Nic, version: int) -> None:
    """Not for ports, nor from behind another side of the router; nor for addresses
    that are routed to a guest."""
    liar = Nic("liar", WEB, PRINTER.mac, claimed.ipv4, claimed.ipv6, 0)
    to_other_network(mixed, liar, DB8, version, udp())
    assert mixed.dropped("DROP_SOURCE_IP") == 1
    assert is_quiet(mixed)


@pytest.mark.parametrize("version", VERSIONS)
def test_nor_within_its_network(mixed: Tunnel, version: int) -> None:
    liar = Nic("liar", WEB, PRINTER.mac, WEB8.ipv4, WEB8.ipv6, 0)
    mixed.write(FOREIGN, WEB.vni, between(liar, WEB1, version, udp()))
    assert mixed.dropped("DROP_SOURCE_IP") == 1
    assert is_quiet(mixed)


@pytest.mark.parametrize(("source", "gateway"), [("10.9.1.1", True), ("10.99.1.1", False)])
def test_what_is_routed_to_a_machine_may_come_from_it(
    mixed: Tunnel, source: str, gateway: bool
) -> None:
    """As with guests that have networks of their own behind them."""
    if gateway:  # not a guest's any more, but that of a machine behind the switch
        put_remote(mixed.board.world, GATE, FOREIGN.number)
    behind = Nic("behind", DB, GATE.mac, source, "fd00::1", 0)
    frame = to_other_network(mixed, behind, WEB1, 4, udp())
    if gateway:
        expected = arrived(frame, behind, WEB1)
        assert_same_frame(mixed.board.devices["web1"].read() or b"", expected)
    else:
        assert mixed.dropped("DROP_SOURCE_IP") == 1


@pytest.mark.parametrize("claimed", [MAIN_WEB, WEB1, WEB8], ids=["gateway", "here", "elsewhere"])
@pytest.mark.parametrize("operation", [1, 2], ids=["request", "reply"])
def test_no_address_is_taken_by_arp(
    mixed: Tunnel, operation: int, claimed: Nic | RouterInterface
) -> None:
    """Guests would believe it."""
    taken = claimed.address(4)
    message = ARP(op=operation, hwsrc=PRINTER.mac, psrc=taken, pdst=taken)
    mixed.write(FOREIGN, WEB.vni, Ether(src=PRINTER.mac, dst=BROADCAST) / message)
    assert mixed.dropped("DROP_ARP_SPOOF") == 1
    assert is_quiet(mixed)


@pytest.mark.parametrize("claimed", [MAIN_WEB, WEB1, WEB8], ids=["gateway", "here", "elsewhere"])
def test_no_address_is_taken_by_nd(mixed: Tunnel, claimed: Nic | RouterInterface) -> None:
    message = ICMPv6ND_NA(tgt=claimed.address(6), R=0, S=0, O=1)
    message /= ICMPv6NDOptDstLLAddr(lladdr=PRINTER.mac)
    ip = IPv6(src=PRINTER.ipv6, dst="ff02::1", hlim=255)
    mixed.write(FOREIGN, WEB.vni, Ether(src=PRINTER.mac, dst=ALL_NODES) / ip / message)
    assert mixed.dropped("DROP_ND_SPOOF") == 1
    assert is_quiet(mixed)


def test_a_named_machine_announces_its_own(mixed: Tunnel) -> None:
    frame = arp(NAMED.mac, NAMED.ipv4, NAMED.ipv4)
    mixed.write(FOREIGN, DB.vni, frame)
    assert mixed.board.devices["db1"].read() == bytes(frame)


NOWHERE = {
    "expired": ("DROP_TTL_EXCEEDED", time_exceeded),
    "nowhere": ("DROP_NO_ROUTE", lambda version: unreachable(version, NET, NO_ROUTE6)),
    "nobody": ("DROP_NO_NEIGHBOR", lambda version: unreachable(version, HOST, ADDRESS6)),
}


@pytest.mark.parametrize("case", NOWHERE)
@pytest.mark.parametrize("version", VERSIONS)
def test_errors(mixed: Tunnel, version: int, case: str) -> None:
    reason, message = NOWHERE[case]
    nobody, nowhere = {4: ("10.67.0.1", "8.8.8.8"), 6: ("fd00:67::1", "2001:db8::1")}[version]
    target = {"nobody": nobody, "nowhere": nowhere}.get(case, DB1.address(version))
    put_network(mixed.board.world, DB, (), mixed.board.devices["db1"].ifindex)  # learns nothing
    frame = to_router(PRINTER, MAIN_WEB, target, ttl=1 if case == "expired" else 64)
    mixed.write(FOREIGN, WEB.vni, frame)
    told = error(frame, PRINTER, MAIN_WEB.address(version), message(version))
    is_told(mixed, told)
    assert mixed.dropped(reason) == 1
    assert is_quiet(mixed)


@pytest.mark.parametrize("version", VERSIONS)
def test_an_error_of_the_second_router(mixed: Tunnel, version: int) -> None:
    frame = to_router(PRINTER, MAIN_WEB, FAR1.address(version), ttl=2)
    mixed.write(FOREIGN, WEB.vni, frame)
    told = error(frame, PRINTER, EDGE_DB.address(version), time_exceeded(version))
    is_told(mixed, told)


@pytest.mark.parametrize("version", VERSIONS)
def test_too_big_for_the_other_network(mixed: Tunnel, version: int) -> None:
    frame = to_router(PRINTER, MAIN_WEB, FAR1.address(version)) / Raw(bytes(1290))
    mixed.write(FOREIGN, WEB.vni, frame)
    told = error(frame, PRINTER, EDGE_DB.address(version), too_big(version, FAR.mtu))
    is_told(mixed, told)
    assert mixed.dropped("DROP_TOO_BIG") == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_errors_have_a_limit(mixed: Tunnel, version: int) -> None:
    """For each foreign host: there is no port that could pay."""
    burst = mixed.board.world.value("ICMP_BURST")
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    key = {"host": FOREIGN.number, "expense": mixed.board.world.value("FOREIGN_ERRORS")}
    left = {"refilled_at": now + 3600 * 10**9, "tokens": 2}
    mixed.board.world.put("foreign_budgets", key, left)
    for _ in range(burst):
        frame = to_router(PRINTER, MAIN_WEB, DB1.address(version), ttl=1)
        mixed.write(FOREIGN, WEB.vni, frame)
    assert len(mixed.read_all()) == 2
    assert mixed.dropped("DROP_TTL_EXCEEDED") == burst


@pytest.mark.parametrize("target", ["224.0.0.9", "169.254.1.1", "ff0e::9", "fe80::9"])
def test_what_stays_on_its_link(mixed: Tunnel, target: str) -> None:
    mixed.write(FOREIGN, WEB.vni, to_router(PRINTER, MAIN_WEB, target))
    assert mixed.dropped("DROP_ROUTED_MULTICAST") == 1
    assert is_quiet(mixed)


def test_a_blackhole(mixed: Tunnel) -> None:
    mixed.write(FOREIGN, WEB.vni, to_router(PRINTER, MAIN_WEB, "10.9.66.1"))
    assert mixed.dropped("DROP_BLACKHOLE") == 1
    assert is_quiet(mixed)
