"""What comes from ports at other hosts: to its port here, judged by its rules."""

from __future__ import annotations

import time

import pytest
from packet_policy import OWN
from packet_rules import (
    FROM_VM,
    RECEIVES,
    SENDS,
    TO_VM,
    UDP,
    Member,
    Rule,
    anything,
    write_group,
    write_set,
)
from packet_shapes import L4_NAMES, forwarded, switched
from packet_talk import between, pong, tcp, udp
from packet_tunnel import DB8, NEAR, REMOTE, SIX, WEB6, WEB8, Host, Tunnel
from packet_world import DB, DB1, MAIN_DB, MAIN_WEB, WEB, WEB1, WEB2, WEB3, Nic
from scapy.layers.inet import IP
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw
from test_fragment import fragments
from test_icmp_errors import error as icmp_error
from test_icmp_errors import too_big
from test_related import ERRORS, error

VERSIONS = (4, 6)
DEADLINE = 60  # seconds
BROADCAST = "ff:ff:ff:ff:ff:ff"


def names(thing: Nic | Host) -> str:
    return thing.name


def routed(source: Nic, destination: Nic, version: int, payload: Packet | None = None) -> Packet:
    """What a remote port's host has made of its packet to a port of another network."""
    frame = between(source, destination, version, payload or udp())
    gateway = MAIN_DB if destination.network is DB else MAIN_WEB
    return forwarded(frame, gateway.mac, destination.mac)


def incoming(source: Nic, destination: Nic, version: int, payload: Packet) -> Packet:
    if source.network is destination.network:
        return between(source, destination, version, payload)
    return routed(source, destination, version, payload)


class Guests:
    """Guests here and elsewhere, as one who watches both sides of this host."""

    def __init__(self, tunnel: Tunnel) -> None:
        self.tunnel, self.board = tunnel, tunnel.board

    def get(self, source: Nic, destination: Nic, frame: Packet) -> None:
        """A frame from a remote port reaches its port here as it is."""
        self.tunnel.write(REMOTE[source], destination.network.vni, frame)
        assert self.board.devices[destination.name].read() == bytes(frame)

    def lose(self, source: Nic, destination: Nic, frame: Packet, reason: str) -> None:
        """It does not, for a reason that counts at the port."""
        before = self.board.drop_count(destination.name, reason)["packets"]
        self.tunnel.write(REMOTE[source], destination.network.vni, frame)
        assert self.board.drop_count(destination.name, reason)["packets"] == before + 1
        assert self.board.devices[destination.name].read_all() == []

    def put(self, source: Nic, destination: Nic, version: int, payload: Packet) -> None:
        """A frame of a port here reaches the wire to a remote port."""
        frame = between(source, destination, version, payload)
        self.board.devices[source.name].write(bytes(frame))
        if source.network is not destination.network:
            gateway = MAIN_DB if destination.network is DB else MAIN_WEB
            frame = forwarded(frame, gateway.mac, destination.mac)
        self.tunnel.carries(REMOTE[destination], destination.network.vni, frame)

    def refuse(self, source: Nic, destination: Nic, version: int, payload: Packet) -> str | None:
        """Why a port here may not send to a remote one."""
        frame = between(source, destination, version, payload)
        return self.board.send_once(source.name, frame).reason


@pytest.fixture
def guests(tunnel: Tunnel) -> Guests:
    return Guests(tunnel)


# ---- to its port ------------------------------------------------------------------


@pytest.mark.parametrize("kind", L4_NAMES)
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("destination", [WEB1, WEB3], ids=["tap", "container"])
@pytest.mark.parametrize("source", [WEB8, WEB6], ids=names)
def test_it_arrives(guests: Guests, source: Nic, destination: Nic, version: int, kind: str) -> None:
    """The first packet, and two that are hits; counted at the receiver alone."""
    frame = switched(source, destination, version, kind)
    for _ in range(3):
        guests.get(source, destination, frame)
    counters = guests.board.counters(destination.slot)
    assert (counters["to_vm_packets"], counters["from_vm_packets"]) == (3, 0)
    assert counters["to_vm_bytes"] == 3 * len(bytes(frame))
    assert guests.board.rows("drops") == []
    connection = guests.board.connection()
    zone = guests.board.world.value("TUNNEL_ZONE") | WEB.vni
    assert (connection.from_ifindex, connection.packets) == (zone, 3)
    assert connection.to_ifindex == guests.board.devices[destination.name].ifindex


@pytest.mark.parametrize("version", VERSIONS)
def test_routed_at_its_own_host(guests: Guests, version: int) -> None:
    for _ in range(2):
        guests.get(WEB8, DB1, routed(WEB8, DB1, version))


def test_a_hit_is_a_hit(guests: Guests) -> None:
    """The flow's entry is used: its receiver is looked up nowhere else any more."""
    frame = switched(WEB8, WEB1, 4)
    guests.get(WEB8, WEB1, frame)
    key = {"network": WEB.vni, "mac": bytes.fromhex(WEB1.mac.replace(":", ""))}
    guests.board.world.delete("macs", key)
    guests.get(WEB8, WEB1, frame)
    guests.board.world.advance_epoch(WEB)
    guests.tunnel.write(NEAR, WEB.vni, frame)
    assert guests.tunnel.dropped("DROP_UNKNOWN_MAC") == 1


def test_one_address_in_two_networks(guests: Guests) -> None:
    """Flows of different networks never meet, nor do those of ports here."""
    twin = Nic("twin", DB, "fa:16:3e:db:00:77", WEB8.ipv4, WEB8.ipv6, 0)
    here = Nic("db1", DB, DB1.mac, WEB1.ipv4, WEB1.ipv6, DB1.slot)
    for _ in range(2):
        guests.get(WEB8, WEB1, between(WEB8, WEB1, 4, udp()))
        frame = between(twin, here, 4, udp())
        guests.tunnel.write(NEAR, DB.vni, frame)
        assert guests.board.devices["db1"].read() == bytes(frame)
    assert len(guests.board.connections()) == 2


@pytest.mark.parametrize("version", VERSIONS)
def test_a_flood_goes_to_the_ports_here_alone(guests: Guests, version: int) -> None:
    frame = Ether(bytes(between(WEB8, WEB1, version, udp())))
    frame.dst = BROADCAST if version == 4 else "33:33:00:00:00:fb"
    guests.tunnel.write(NEAR, WEB.vni, frame)
    for name in ("web1", "web2", "web3"):
        assert guests.board.devices[name].read() == bytes(frame)
    assert guests.tunnel.read_all() == []
    assert guests.board.counters(WEB2.slot)["to_vm_packets"] == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_fragments(guests: Guests, version: int) -> None:
    first, last = fragments(WEB8, WEB1, version, udp())
    for frame in (first, last):
        guests.get(WEB8, WEB1, frame)
    connection = guests.board.connection()
    assert (connection.packets, connection.destination_port) == (2, 53)


def test_an_orphaned_fragment(guests: Guests) -> None:
    _, last = fragments(WEB8, WEB1, 4, udp())
    guests.tunnel.write(NEAR, WEB.vni, last)
    assert guests.tunnel.dropped("DROP_FRAGMENT_ORPHAN") == 1


def test_a_packet_rate(guests: Guests) -> None:
    guests.board.world.write_port(WEB1, to_vm_packet_ns=10**9, packet_burst=2)
    for _ in range(2):
        guests.get(WEB8, WEB1, switched(WEB8, WEB1, 4))
    guests.lose(WEB8, WEB1, switched(WEB8, WEB1, 4), "DROP_PACKET_RATE_TO_VM")


# ---- the receiver's rules --------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_the_receivers_rules(guests: Guests, version: int) -> None:
    rule = Rule(9, TO_VM, version, UDP, ports=(53, 53))
    write_group(guests.board.world, OWN, [rule])
    guests.board.world.write_port(WEB1, groups=[OWN])
    guests.get(WEB8, WEB1, between(WEB8, WEB1, version, udp(40000, 53)))
    connection = guests.board.connection()
    assert (connection.from_rule, connection.to_rule) == (0, 9)
    refused = between(WEB8, WEB1, version, udp(40000, 54))
    guests.lose(WEB8, WEB1, refused, "DROP_POLICY_TO_VM")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("network", "is_member"), [(WEB, True), (DB, False)], ids=["web", "db"])
def test_a_member_of_a_group_in_another_network(
    guests: Guests, network: object, is_member: bool, version: int
) -> None:
    """The envelope names the network of the receiver; a member counts in its own."""
    write_group(guests.board.world, OWN, [Rule(9, TO_VM, version, remote=5)])
    bits = 32 if version == 4 else 128
    vni = WEB.vni if network is WEB else DB.vni
    write_set(guests.board.world, 5, [Member(f"{WEB8.address(version)}/{bits}", vni)])
    guests.board.world.write_port(DB1, groups=[OWN])
    frame = routed(WEB8, DB1, version)
    if is_member:
        guests.get(WEB8, DB1, frame)
    else:
        guests.lose(WEB8, DB1, frame, "DROP_POLICY_TO_VM")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_member_of_a_group_in_the_same_network(guests: Guests, version: int) -> None:
    write_group(guests.board.world, OWN, [Rule(9, TO_VM, version, remote=5)])
    bits = 32 if version == 4 else 128
    write_set(guests.board.world, 5, [Member(f"{WEB8.address(version)}/{bits}", WEB.vni)])
    guests.board.world.write_port(WEB1, groups=[OWN])
    guests.get(WEB8, WEB1, switched(WEB8, WEB1, version))
    guests.lose(WEB6, WEB1, switched(WEB6, WEB1, version), "DROP_POLICY_TO_VM")


# ---- connections ------------------------------------------------------------------------


@pytest.fixture
def strict_here(guests: Guests) -> Guests:
    """web1 may only send, web2 and db1 may only be sent to."""
    world = guests.board.world
    write_group(world, SENDS, [r for r in anything() if r.direction == FROM_VM])
    write_group(world, RECEIVES, [r for r in anything() if r.direction == TO_VM])
    world.write_port(WEB1, groups=[SENDS])
    world.write_port(WEB2, groups=[RECEIVES])
    world.write_port(DB1, groups=[RECEIVES])
    return guests


ENDS = [(WEB1, WEB8), (WEB1, WEB6), (WEB1, DB8)]
RECEIVERS = [(WEB8, WEB2), (WEB6, WEB2), (WEB8, DB1)]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("here", "there"), ENDS, ids=["v4", "v6", "routed"])
def test_a_reply_to_what_was_opened_here(
    strict_here: Guests, here: Nic, there: Nic, version: int
) -> None:
    answer = incoming(there, here, version, udp(53, 40000))
    strict_here.lose(there, here, answer, "DROP_POLICY_TO_VM")
    strict_here.put(here, there, version, udp(40000, 53))
    for _ in range(3):
        strict_here.get(there, here, answer)
    connection = strict_here.board.connection()
    assert (connection.packets, connection.reply_packets) == (1, 3)
    assert connection.state == "ASSURED"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("there", "here"), RECEIVERS, ids=["v4", "v6", "routed"])
def test_a_reply_to_what_was_opened_elsewhere(
    strict_here: Guests, here: Nic, there: Nic, version: int
) -> None:
    assert strict_here.refuse(here, there, version, udp(53, 40000)) == "DROP_POLICY_FROM_VM"
    strict_here.get(there, here, incoming(there, here, version, udp(40000, 53)))
    for _ in range(3):
        strict_here.put(here, there, version, udp(53, 40000))
    connection = strict_here.board.connection()
    assert (connection.packets, connection.reply_packets) == (1, 3)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("here", "there"), ENDS, ids=["v4", "v6", "routed"])
def test_tcp_opened_here(strict_here: Guests, here: Nic, there: Nic, version: int) -> None:
    guests = strict_here

    def get(flags: str) -> None:
        guests.get(there, here, incoming(there, here, version, tcp(flags, 80, 40000)))

    guests.put(here, there, version, tcp("S"))
    get("SA")
    guests.put(here, there, version, tcp("A"))
    assert guests.board.connection().state == "ESTABLISHED"
    for _ in range(2):
        get("PA")
        guests.put(here, there, version, tcp("PA"))
    guests.put(here, there, version, tcp("FA"))
    get("FA")
    guests.put(here, there, version, tcp("A"))
    assert guests.board.connection().state == "TIME_WAIT"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("there", "here"), RECEIVERS, ids=["v4", "v6", "routed"])
def test_tcp_opened_elsewhere(strict_here: Guests, here: Nic, there: Nic, version: int) -> None:
    guests = strict_here

    def get(flags: str) -> None:
        guests.get(there, here, incoming(there, here, version, tcp(flags)))

    get("S")
    guests.put(here, there, version, tcp("SA", 80, 40000))
    get("A")
    assert guests.board.connection().state == "ESTABLISHED"
    for _ in range(2):
        guests.put(here, there, version, tcp("PA", 80, 40000))
        get("PA")
    get("R")
    assert guests.board.connection().state == "CLOSED"


@pytest.mark.parametrize(("there", "here"), RECEIVERS, ids=["v4", "v6", "routed"])
def test_it_survives_a_change_of_policy(strict_here: Guests, here: Nic, there: Nic) -> None:
    """As long as the rules of this end still allow it; seen from either side."""
    guests = strict_here
    guests.get(there, here, incoming(there, here, 4, tcp("S")))
    guests.put(here, there, 4, tcp("SA", 80, 40000))
    guests.get(there, here, incoming(there, here, 4, tcp("A")))
    for _ in range(2):
        guests.board.world.advance_epoch(here.network)
        guests.put(here, there, 4, tcp("PA", 80, 40000))
        guests.board.world.advance_epoch(here.network)
        guests.get(there, here, incoming(there, here, 4, tcp("PA")))
    write_group(guests.board.world, RECEIVES, [])
    guests.board.world.advance_epoch(here.network)
    assert guests.refuse(here, there, 4, tcp("PA", 80, 40000)) == "DROP_POLICY_TO_VM"


def test_what_was_opened_here_survives_a_change_of_policy(strict_here: Guests) -> None:
    guests = strict_here
    guests.put(WEB1, DB8, 4, udp(40000, 53))
    for _ in range(2):
        guests.board.world.advance_epoch(WEB)
        guests.get(DB8, WEB1, incoming(DB8, WEB1, 4, udp(53, 40000)))
        guests.board.world.advance_epoch(WEB)
        guests.put(WEB1, DB8, 4, udp(40000, 53))
    write_group(guests.board.world, SENDS, [])
    guests.board.world.advance_epoch(WEB)
    answer = incoming(DB8, WEB1, 4, udp(53, 40000))
    guests.lose(DB8, WEB1, answer, "DROP_POLICY_FROM_VM")


def test_what_belongs_to_no_connection(guests: Guests) -> None:
    frame = between(WEB8, WEB1, 4, tcp("SA"))
    guests.tunnel.write(NEAR, WEB.vni, frame)
    assert guests.tunnel.dropped("DROP_CONNECTION_INVALID") == 1
    guests.tunnel.write(NEAR, WEB.vni, between(WEB8, WEB1, 4, pong(4)))
    assert guests.tunnel.dropped("DROP_CONNECTION_INVALID") == 2


def test_a_stateless_end(guests: Guests) -> None:
    """It is asked about each direction, with no connection between them."""
    rules = [Rule(1, FROM_VM, 4, UDP), Rule(2, TO_VM, 4, UDP, ports=(53, 53))]
    write_group(guests.board.world, OWN, rules, "POLICY_STATELESS")
    guests.board.world.write_port(WEB1, groups=[OWN])
    guests.put(WEB1, WEB8, 4, udp(40000, 5000))
    answer = between(WEB8, WEB1, 4, udp(5000, 40000))
    guests.lose(WEB8, WEB1, answer, "DROP_POLICY_TO_VM")
    guests.get(WEB8, WEB1, between(WEB8, WEB1, 4, udp(5000, 53)))


def test_an_open_port(guests: Guests) -> None:
    guests.board.world.open_port(WEB1)
    for flags in ("S", "SA", "PA", "F"):
        guests.get(WEB8, WEB1, between(WEB8, WEB1, 4, tcp(flags)))


def test_it_counts_for_the_port_that_is_here(guests: Guests) -> None:
    for port in range(40000, 40003):
        guests.get(WEB8, WEB1, between(WEB8, WEB1, 4, udp(port)))
    assert (guests.board.usage(WEB1.slot), guests.board.total_usage()) == (3, 3)
    row = dict(guests.board.rows("usage"))[WEB1.slot]
    assert row["ifindex"] == guests.board.devices["web1"].ifindex
    guests.board.world.write_port(WEB1, connections_max=3)
    refused = between(WEB8, WEB1, 4, udp(40003))
    guests.tunnel.write(NEAR, WEB.vni, refused)
    assert guests.tunnel.dropped("DROP_CONNECTION_LIMIT") == 1


def test_a_new_connection_in_the_place_of_one_that_ended(guests: Guests) -> None:
    guests.get(WEB8, WEB1, between(WEB8, WEB1, 4, tcp("S")))
    guests.get(WEB8, WEB1, between(WEB8, WEB1, 4, tcp("R")))
    guests.get(WEB8, WEB1, between(WEB8, WEB1, 4, tcp("S")))
    assert guests.board.connection().state == "SYN_SENT"
    assert (guests.board.usage(WEB1.slot), guests.board.total_usage()) == (1, 1)


# ---- ICMP errors ----------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_an_error_about_what_was_sent_from_here(strict_here: Guests, version: int) -> None:
    strict_here.put(WEB1, WEB8, version, udp())
    quoted = between(WEB1, WEB8, version, udp())
    message = error(ERRORS[version][0], quoted, WEB8, WEB1)
    strict_here.get(WEB8, WEB1, message)
    forged = error(ERRORS[version][0], between(WEB1, WEB8, version, udp(1)), WEB8, WEB1)
    strict_here.lose(WEB8, WEB1, forged, "DROP_POLICY_TO_VM")


@pytest.mark.parametrize("version", VERSIONS)
def test_an_error_about_what_came_from_elsewhere(strict_here: Guests, version: int) -> None:
    quoted = between(WEB8, WEB2, version, udp())
    strict_here.get(WEB8, WEB2, quoted)
    message = error(ERRORS[version][0], quoted, WEB2, WEB8)
    sent = strict_here.board.send_once("web2", message)
    assert sent.to == NEAR.name
    assert sent.trace.decision("STAGE_POLICY") == "DECISION_POLICY_RELATED"


@pytest.mark.parametrize("host", [NEAR, SIX], ids=names)
@pytest.mark.parametrize("version", VERSIONS)
def test_too_big_for_the_network(guests: Guests, version: int, host: Host) -> None:
    """What no heddle host would send; told to the sender by way of its host."""
    source = WEB8 if host is NEAR else WEB6
    frame = Ether(bytes(between(source, WEB1, version, udp()) / Raw(bytes(1450))))
    answer = icmp_error(frame, source, WEB1.address(version), too_big(version, WEB.mtu))
    guests.tunnel.write(host, WEB.vni, frame)
    tos = 0xC0 if IP in answer else 0
    guests.tunnel.carries(host, WEB.vni, answer, tos=tos)
    assert guests.tunnel.dropped("DROP_TOO_BIG") == 1


# ---- the end of connections ----------------------------------------------------------------


def end_soon(guests: Guests) -> None:
    """At its limit a port keeps for a second what is not established."""
    guests.board.world.write_port(WEB1, connections_max=2)


def wait_for_the_end(guests: Guests, left: int = 0) -> None:
    deadline = time.monotonic() + DEADLINE
    while len(guests.board.connections()) > left:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_time_ends_connections_with_other_hosts(guests: Guests) -> None:
    """From either side; both count for the port that is here."""
    end_soon(guests)
    guests.put(WEB1, WEB8, 4, udp())
    guests.get(WEB8, WEB1, between(WEB8, WEB1, 4, udp(1, 2)))
    assert (guests.board.usage(WEB1.slot), guests.board.total_usage()) == (2, 2)
    wait_for_the_end(guests)
    assert guests.board.flows() == []
    assert (guests.board.usage(WEB1.slot), guests.board.total_usage()) == (0, 0)


def test_they_live_as_long_as_the_network_has_other_hosts(guests: Guests) -> None:
    """What is established is not ended by time, but by the end of one of its ends."""
    end_soon(guests)
    guests.get(WEB8, WEB1, between(WEB8, WEB1, 4, tcp("PA")))
    guests.get(WEB8, WEB1, between(WEB8, WEB1, 4, udp()))
    wait_for_the_end(guests, left=1)
    assert guests.board.connection().state == "ESTABLISHED"
    guests.board.world.delete("tunnel_networks", WEB.vni)
    guests.board.run("web1", between(WEB1, WEB8, 4, tcp("R", 80, 40000)))
    wait_for_the_end(guests)
    assert guests.board.total_usage() == 0
