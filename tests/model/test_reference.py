"""The model alone: what the RFCs and the documentation say, case by case.

Frames are written and read with scapy, independently of the model's own bytes.
"""

from __future__ import annotations

import pytest
from busy_world import busy_world
from reference.ends import Outcome, Verdict
from reference.world import World
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6PacketTooBig, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw

# Ports of the busy world: network 1 open, web, flat; network 2 open, web, flat.
OPEN1, WEB1, FLAT1 = "00-port-1", "01-port-1", "02-port-1"
OPEN2, WEB2, FLAT2, BARE2 = "03-port-2", "04-port-2", "05-port-2", "06-port-2"
OPEN3 = "07-port-3"
DAY = 86400.0


@pytest.fixture
def world() -> World:
    return World(busy_world())


def mac(port: str) -> str:
    number, where = int(port[:2]), int(port[-1])
    return f"fa:16:3e:00:{where:02x}:{number:02x}"


def ip4(port: str) -> str:
    return f"10.{1 if port[-1] == '3' else port[-1]}.0.{10 + int(port[:2])}"


def ip6(port: str) -> str:
    return f"fd00:{port[-1]}::{10 + int(port[:2]):x}"


def between(here: str, there: str, *layers: Packet, ttl: int = 64) -> Packet:
    """IPv4, by way of the router where need be."""
    to = mac(there) if here[-1] == there[-1] else f"fa:16:3e:ff:0{here[-1]}:01"
    packet = Ether(src=mac(here), dst=to) / IP(src=ip4(here), dst=ip4(there), ttl=ttl)
    for layer in layers:
        packet = packet / layer
    return packet


def tcp(here: str, there: str, flags: str, ports: tuple[int, int] = (4000, 80)) -> Packet:
    return between(here, there, TCP(sport=ports[0], dport=ports[1], flags=flags))


def udp(here: str, there: str, ports: tuple[int, int] = (4000, 53)) -> Packet:
    return between(here, there, UDP(sport=ports[0], dport=ports[1]) / Raw(b"question"))


def send(world: World, port: str, frame: Packet, now: float = 0.0) -> Outcome:
    return world.send(port, bytes(frame), now)


def fate(world: World, port: str, frame: Packet, now: float = 0.0) -> str | None:
    """The drop reason, None when it is delivered."""
    outcome = send(world, port, frame, now)
    assert (outcome.verdict is Verdict.DELIVERED) == (outcome.reason is None)
    return outcome.reason


# ---- switch and route ------------------------------------------------------------------


def test_switched_frames_are_untouched(world: World) -> None:
    frame = udp(OPEN1, FLAT1)
    assert send(world, OPEN1, frame).deliveries == ((FLAT1, bytes(frame)),)


def test_routed_packets_change_macs_ttl_and_checksum(world: World) -> None:
    """RFC 1812 5.3.1: the checksum stays right, as scapy computes it."""
    frame = udp(OPEN1, FLAT2)
    ((to, delivered),) = send(world, OPEN1, frame).deliveries
    wanted = frame.copy()
    wanted.src, wanted.dst, wanted[IP].ttl = "fa:16:3e:ff:02:01", mac(FLAT2), 63
    del wanted[IP].chksum
    assert (to, delivered) == (FLAT2, bytes(wanted))


def test_the_class_of_traffic_is_marked_and_ecn_kept(world: World) -> None:
    frame = udp(WEB1, OPEN1)
    frame[IP].tos = 3
    ((_, delivered),) = send(world, WEB1, frame).deliveries
    marked = Ether(delivered)
    assert marked[IP].tos == 46 << 2 | 3
    assert bytes(marked[IP].__class__(bytes(marked[IP])))[10:12] == delivered[24:26]


def test_the_longest_prefix_wins(world: World) -> None:
    far = udp(OPEN1, FLAT2)
    far[IP].dst = "10.9.0.1"
    assert send(world, OPEN1, far).deliveries[0][0] == OPEN2
    far[IP].dst = "10.9.1.1"
    assert fate(world, OPEN1, far) == "DROP_BLACKHOLE"
    far[IP].dst = "10.8.0.1"
    assert fate(world, OPEN1, far) == "DROP_NO_NEIGHBOR"


def test_ttl_ends_at_the_router_and_the_sender_hears_of_it(world: World) -> None:
    frame = between(OPEN1, FLAT2, UDP(sport=1, dport=2) / Raw(b"x" * 20), ttl=1)
    outcome = send(world, OPEN1, frame)
    ((to, error),) = outcome.deliveries
    told = Ether(error)
    assert (outcome.reason, to) == ("DROP_TTL_EXCEEDED", OPEN1)
    assert (told[ICMP].type, told[IP].src, told[IP].dst) == (11, "10.1.0.1", ip4(OPEN1))
    assert bytes(told[ICMP].payload) == bytes(frame[IP])
    sums = told[IP].chksum, told[ICMP].chksum
    del told[IP].chksum, told[ICMP].chksum
    told = Ether(bytes(told))
    assert (told[IP].chksum, told[ICMP].chksum) == sums


def test_too_big_names_the_mtu(world: World) -> None:
    packet = Ether(src=mac(OPEN1), dst="fa:16:3e:ff:01:01") / IPv6(src=ip6(OPEN1), dst=ip6(FLAT2))
    outcome = send(world, OPEN1, packet / UDP(sport=1, dport=2) / Raw(bytes(1380)))
    told = Ether(outcome.deliveries[0][1])
    assert (outcome.reason, told[ICMPv6PacketTooBig].mtu) == ("DROP_TOO_BIG", 1400)
    assert len(told[IPv6]) == 1280


def test_gso_is_measured_by_its_segments(world: World) -> None:
    frame = bytes(tcp(OPEN1, FLAT1, "A") / Raw(bytes(3000)))
    assert world.send(OPEN1, frame, 0, 1410).reason is None
    assert world.send(OPEN1, frame, 0, 1411).reason == "DROP_TOO_BIG"


def test_the_gateway_answers_ping(world: World) -> None:
    ping = Ether(src=mac(WEB1), dst="fa:16:3e:ff:01:01") / IPv6(src=ip6(WEB1), dst="fd00:1::1")
    # Its group lets it talk to members of "open" alone, which the gateway is not.
    assert send(world, WEB1, ping / ICMPv6EchoRequest()).reason == "DROP_POLICY_FROM_VM"
    ping.src, ping[IPv6].src = mac(OPEN1), ip6(OPEN1)
    answer = Ether(send(world, OPEN1, ping / ICMPv6EchoRequest(data=b"abc")).deliveries[0][1])
    checksum = answer["ICMPv6 Echo Reply"].cksum
    del answer["ICMPv6 Echo Reply"].cksum
    assert Ether(bytes(answer))["ICMPv6 Echo Reply"].cksum == checksum


# ---- guard ------------------------------------------------------------------------------


def test_a_vm_speaks_for_itself_alone(world: World) -> None:
    forged = udp(OPEN1, FLAT1)
    forged[IP].src = ip4(WEB1)
    assert fate(world, OPEN1, forged) == "DROP_SOURCE_IP"
    forged.src = mac(WEB1)
    assert fate(world, OPEN1, forged) == "DROP_SOURCE_MAC"
    bare = udp(BARE2, OPEN2)
    bare.src, bare[IP].src = mac(WEB2), ip4(WEB2)
    assert fate(world, BARE2, bare) is None


def test_an_address_pair_moves_with_its_announcement(world: World) -> None:
    vip, virtual_mac = "10.1.0.100", "00:00:5e:00:01:01"
    question = Ether(src=mac(FLAT1), dst="ff:ff:ff:ff:ff:ff") / ARP(
        hwsrc=mac(FLAT1), psrc=ip4(FLAT1), pdst=vip
    )
    assert send(world, FLAT1, question).reason == "DROP_ARP_UNKNOWN"
    announcement = Ether(src=virtual_mac, dst="ff:ff:ff:ff:ff:ff") / ARP(
        op=2, hwsrc=virtual_mac, psrc=vip, pdst=vip
    )
    heard = send(world, WEB1, announcement)
    assert (heard.verdict, len(heard.deliveries)) == (Verdict.FLOODED, 2)
    answer = Ether(send(world, FLAT1, question).deliveries[0][1])
    assert (answer[ARP].hwsrc, answer[ARP].psrc) == (virtual_mac, vip)
    frame = udp(FLAT1, WEB1)
    frame.dst, frame[IP].dst = virtual_mac, vip
    assert send(world, FLAT1, frame).deliveries[0][0] == WEB1
    send(world, OPEN1, announcement)
    assert send(world, FLAT1, frame).deliveries[0][0] == OPEN1


# ---- rules ------------------------------------------------------------------------------


def test_nothing_goes_in_that_no_rule_allows(world: World) -> None:
    refused = send(world, OPEN1, tcp(OPEN1, WEB1, "S", (4000, 22)))
    assert [(drop.port, drop.reason) for drop in refused.drops] == [(WEB1, "DROP_POLICY_TO_VM")]
    assert fate(world, OPEN1, tcp(OPEN1, WEB1, "S", (4000, 443))) is None


def test_members_of_a_group_count_in_their_network_alone(world: World) -> None:
    """WEB1 may talk to members of "open": OPEN1 and OPEN2 are, FLAT2 is not."""
    assert fate(world, WEB1, udp(WEB1, OPEN1)) is None
    assert fate(world, WEB1, udp(WEB1, OPEN2)) is None
    assert fate(world, WEB1, udp(WEB1, FLAT2)) == "DROP_POLICY_FROM_VM"
    # 10.1.0.17 is OPEN3 in network 3, and nobody in network 1.
    stranger = udp(WEB1, FLAT1)
    stranger[IP].dst = ip4(OPEN3)
    assert fate(world, WEB1, stranger) == "DROP_POLICY_FROM_VM"


def test_a_stateless_end_looks_at_replies(world: World) -> None:
    assert fate(world, FLAT1, udp(FLAT1, WEB1)) is None
    assert fate(world, WEB1, udp(WEB1, FLAT1, (53, 4000))) is None
    rules = [o for o in busy_world() if o.name not in ("rule4", "rule11")]  # to_vm of "flat"
    world.change(rules)
    assert fate(world, WEB1, udp(WEB1, FLAT1, (53, 4000))) == "DROP_POLICY_TO_VM"


def test_a_rule_taken_away_ends_what_it_alone_allowed(world: World) -> None:
    assert fate(world, OPEN1, udp(OPEN1, WEB1)) is None
    assert fate(world, WEB1, udp(WEB1, OPEN1, (53, 4000))) is None
    world.change([o for o in busy_world() if o.name != "rule7"])  # UDP 53 into "web"
    answer = send(world, WEB1, udp(WEB1, OPEN1, (53, 4000)))
    assert [(drop.port, drop.reason) for drop in answer.drops] == [(WEB1, "DROP_POLICY_TO_VM")]


# ---- connections ---------------------------------------------------------------------------


def test_tcp_lives_and_dies(world: World) -> None:
    """WEB1 has no rule that lets it answer OPEN1 but the connection."""
    here, there = (4000, 80), (80, 4000)
    world.change([o for o in busy_world() if o.name not in ("rule5", "rule12")])
    assert fate(world, WEB1, tcp(WEB1, OPEN1, "SA", there)) == "DROP_POLICY_FROM_VM"
    for flags in ("S", "A"):
        assert fate(world, OPEN1, tcp(OPEN1, WEB1, flags, here)) is None
        assert fate(world, WEB1, tcp(WEB1, OPEN1, "SA" if flags == "S" else "A", there)) is None
    assert fate(world, WEB1, tcp(WEB1, OPEN1, "A", there), 4 * DAY) is None  # established: 5 days
    assert fate(world, OPEN1, tcp(OPEN1, WEB1, "FA", here), 4 * DAY) is None
    assert fate(world, WEB1, tcp(WEB1, OPEN1, "FA", there), 4 * DAY) is None
    assert fate(world, OPEN1, tcp(OPEN1, WEB1, "A", here), 4 * DAY) is None
    time_wait = 4 * DAY + 119
    assert fate(world, WEB1, tcp(WEB1, OPEN1, "A", there), time_wait) is None
    assert fate(world, WEB1, tcp(WEB1, OPEN1, "A", there), time_wait + 121) == "DROP_POLICY_FROM_VM"


@pytest.mark.parametrize("flags", ["SA", "FA", "R", "", "SF"])
def test_what_answers_or_ends_opens_nothing(world: World, flags: str) -> None:
    assert fate(world, OPEN1, tcp(OPEN1, WEB1, flags)) == "DROP_CONNECTION_INVALID"
    # Where no end keeps state, rules are all there is.
    assert fate(world, FLAT1, tcp(FLAT1, FLAT2, flags)) is None


def test_an_old_connection_may_be_picked_up(world: World) -> None:
    assert fate(world, OPEN1, tcp(OPEN1, WEB1, "A")) is None
    assert fate(world, WEB1, tcp(WEB1, OPEN1, "R", (80, 4000))) is None
    # Closed for 10 s; a SYN begins another one, a SYN of the other side needs its rules.
    assert fate(world, WEB1, tcp(WEB1, OPEN1, "A", (80, 4000)), 9) is None
    assert fate(world, OPEN1, tcp(OPEN1, WEB1, "S"), 9) is None


@pytest.mark.parametrize(("replied", "seconds"), [(False, 30), (True, 120)])
def test_udp_is_remembered_longer_once_replied(world: World, replied: bool, seconds: float) -> None:
    world.change([o for o in busy_world() if o.name not in ("rule5", "rule12")])
    answer = udp(WEB1, OPEN1, (53, 4000))
    assert fate(world, OPEN1, udp(OPEN1, WEB1)) is None
    if replied:
        assert fate(world, WEB1, answer) is None
    assert fate(world, WEB1, answer, seconds) == "DROP_POLICY_FROM_VM"


def test_icmp_errors_belong_to_what_they_quote(world: World) -> None:
    question = udp(OPEN1, WEB1)
    error = between(WEB1, OPEN1, ICMP(type=3, code=3), question[IP])
    assert fate(world, WEB1, error) == "DROP_CONNECTION_INVALID"
    assert fate(world, OPEN1, question) is None
    assert fate(world, WEB1, error) is None
    other = between(WEB1, OPEN1, ICMP(type=3, code=3), udp(OPEN1, WEB1, (4001, 53))[IP])
    assert fate(world, WEB1, other) == "DROP_CONNECTION_INVALID"
    # From somebody to whom that packet was not sent:
    assert fate(world, FLAT1, between(FLAT1, OPEN1, ICMP(type=3, code=3), question[IP])) == (
        "DROP_CONNECTION_INVALID"
    )


def test_an_echo_reply_needs_its_request(world: World) -> None:
    reply = between(OPEN1, OPEN2, ICMP(type=0, id=7))
    assert fate(world, OPEN1, reply) == "DROP_CONNECTION_INVALID"
    assert fate(world, OPEN2, between(OPEN2, OPEN1, ICMP(type=8, id=7))) is None
    assert fate(world, OPEN1, reply) is None


def test_later_fragments_take_the_ports_of_the_first(world: World) -> None:
    datagram = bytes(udp(OPEN1, WEB1)[UDP]).ljust(80, b"x")
    first = between(OPEN1, WEB1) / Raw(datagram[:40])
    first[IP].flags, first[IP].proto, first[IP].id = "MF", 17, 9
    later = between(OPEN1, WEB1) / Raw(datagram[40:])
    later[IP].frag, later[IP].proto, later[IP].id = 5, 17, 9
    assert fate(world, OPEN1, later) == "DROP_FRAGMENT_ORPHAN"
    assert fate(world, OPEN1, first) is None
    assert fate(world, OPEN1, later) is None
    assert fate(world, OPEN1, later, 31) == "DROP_FRAGMENT_ORPHAN"


def test_what_was_picked_up_is_remembered_for_long_once_answered(world: World) -> None:
    """Five minutes until then: nf_conntrack_tcp_timeout_unacknowledged."""
    for now, answered, to in ((0.0, False, False), (DAY, True, True)):
        send(world, OPEN1, tcp(OPEN1, WEB2, "A"), now)
        if answered:
            send(world, WEB2, tcp(WEB2, OPEN1, "A", (80, 4000)), now)
        later = send(world, WEB2, tcp(WEB2, OPEN1, "FA", (80, 4000)), now + 301)
        assert (later.verdict is Verdict.DELIVERED) is to
