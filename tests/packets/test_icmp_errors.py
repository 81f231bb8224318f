"""ICMP and ICMPv6 errors made by the data plane (RFC 792, 1191, 1812, 4443)."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from packet_shapes import L4_NAMES, l3, l4, switched, to_router
from packet_world import (
    DB1,
    EDGE_DB,
    FAR,
    FAR1,
    LONE1,
    LONE_SERVER,
    MAIN_WEB,
    SERVICE_MAC,
    WEB,
    WEB1,
    WEB2,
    Nic,
)
from scapy.layers.inet import ICMP, IP, UDP, IPOption_NOP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
)
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from tests.packets.conftest import TC_ACT_REDIRECT, TC_ACT_SHOT, Sent, Switchboard

Send = Callable[..., Sent]
VERSIONS = (4, 6)
NET, HOST, PORT, FRAG_NEEDED = 0, 1, 3, 4  # codes of ICMP destination unreachable
NO_ROUTE6, ADDRESS6, PORT6 = 0, 3, 4  # codes of ICMPv6 destination unreachable
QUOTED4, QUOTED6 = 576 - 28, 1280 - 48


def error(question: Packet, nic: Nic, source: str, message: Packet) -> Packet:
    """The error about a frame: from the MAC it was sent to, quoting its start."""
    ethernet = Ether(src=question.dst, dst=nic.mac)
    if IPv6 not in question:
        quote = bytes(question[IP])[:QUOTED4]
        header = IP(tos=0xC0, src=source, dst=question[IP].src, ttl=64, id=0)
        return ethernet / header / message / Raw(quote)
    quote = bytes(question[IPv6])[:QUOTED6]
    return ethernet / IPv6(src=source, dst=question[IPv6].src, hlim=64) / message / Raw(quote)


def time_exceeded(version: int) -> Packet:
    return ICMP(type=11, code=0) if version == 4 else ICMPv6TimeExceeded(code=0)


def unreachable(version: int, code4: int, code6: int) -> Packet:
    return ICMP(type=3, code=code4) if version == 4 else ICMPv6DestUnreach(code=code6)


def too_big(version: int, mtu: int) -> Packet:
    if version == 4:
        return ICMP(type=3, code=FRAG_NEEDED, nexthopmtu=mtu)
    return ICMPv6PacketTooBig(mtu=mtu)


# ---- time exceeded -----------------------------------------------------------------


@pytest.mark.parametrize("kind", L4_NAMES)
@pytest.mark.parametrize("version", VERSIONS)
def test_traceroute_sees_the_gateway(send: Send, version: int, kind: str) -> None:
    frame = to_router(WEB1, MAIN_WEB, DB1.address(version), kind, ttl=1)
    sent = send("web1", frame)
    sent.answers("web1", error(frame, WEB1, MAIN_WEB.address(version), time_exceeded(version)))
    assert sent.reason == "DROP_TTL_EXCEEDED"
    assert sent.trace.decision("STAGE_DELIVER") == "DECISION_ICMP_TIME_EXCEEDED"


@pytest.mark.parametrize("version", VERSIONS)
def test_traceroute_sees_the_second_router(send: Send, version: int) -> None:
    """Its address is the one on the side from which the packet came."""
    frame = to_router(WEB1, MAIN_WEB, FAR1.address(version), ttl=2)
    expected = error(frame, WEB1, EDGE_DB.address(version), time_exceeded(version))
    send("web1", frame).answers("web1", expected)


def test_packet_with_options_is_quoted_with_them(send: Send) -> None:
    ip = IP(src=WEB1.ipv4, dst=DB1.ipv4, ttl=1, options=[IPOption_NOP()] * 12)
    frame = Ether(src=WEB1.mac, dst=MAIN_WEB.mac) / ip / l4("udp", 4)
    send("web1", frame).answers("web1", error(frame, WEB1, MAIN_WEB.ipv4, time_exceeded(4)))


def test_packet_with_extension_headers_is_quoted_with_them(send: Send) -> None:
    ip = IPv6(src=WEB1.ipv6, dst=DB1.ipv6, hlim=1) / IPv6ExtHdrDestOpt()
    frame = Ether(src=WEB1.mac, dst=MAIN_WEB.mac) / ip / l4("udp", 6)
    send("web1", frame).answers("web1", error(frame, WEB1, MAIN_WEB.ipv6, time_exceeded(6)))


LENGTHS = (0, 1, 2, 3, 64, 483, 484, 485, 511, 512, 513, 519, 520, 521, 1023, 1024, 1025, 1400)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("version", VERSIONS)
def test_quote_of_every_length_is_summed_right(send: Send, version: int, length: int) -> None:
    frame = Ether(src=WEB1.mac, dst=MAIN_WEB.mac)
    frame /= l3(version, WEB1.address(version), DB1.address(version), 1)
    frame = frame / UDP(sport=1, dport=2) / Raw(bytes(i % 251 for i in range(length)))
    expected = error(frame, WEB1, MAIN_WEB.address(version), time_exceeded(version))
    send("web1", frame).answers("web1", expected)


def test_padding_is_not_quoted(send: Send) -> None:
    frame = Ether(src=WEB1.mac, dst=MAIN_WEB.mac) / l3(4, WEB1.ipv4, DB1.ipv4, 1) / UDP()
    expected = error(frame, WEB1, MAIN_WEB.ipv4, time_exceeded(4))
    send("web1", bytes(frame).ljust(60, b"\0")).answers("web1", expected)


# ---- destination unreachable ---------------------------------------------------------

UNREACHABLE = {
    "8.8.8.8": (NET, "DROP_NO_ROUTE"),
    "2001:db8::1": (NO_ROUTE6, "DROP_NO_ROUTE"),
    "192.168.0.200": (HOST, "DROP_NO_NEIGHBOR"),
    "fd00:db::200": (ADDRESS6, "DROP_NO_NEIGHBOR"),
    "10.67.0.1": (HOST, "DROP_NO_NEIGHBOR"),
    "fd00:67::1": (ADDRESS6, "DROP_NO_NEIGHBOR"),
}


@pytest.mark.parametrize("destination", UNREACHABLE)
def test_destination_unreachable(send: Send, destination: str) -> None:
    version, (code, reason) = 6 if ":" in destination else 4, UNREACHABLE[destination]
    frame = to_router(WEB1, MAIN_WEB, destination)
    sent = send("web1", frame)
    source = MAIN_WEB.address(version)
    sent.answers("web1", error(frame, WEB1, source, unreachable(version, code, code)))
    assert sent.reason == reason
    assert sent.trace.decision("STAGE_DELIVER") == "DECISION_ICMP_UNREACHABLE"


@pytest.mark.parametrize("version", VERSIONS)
def test_second_router_says_that_nobody_is_there(send: Send, version: int) -> None:
    destination = {4: "10.44.0.99", 6: "fd00:44::99"}[version]
    frame = to_router(WEB1, MAIN_WEB, destination)
    message = unreachable(version, HOST, ADDRESS6)
    send("web1", frame).answers("web1", error(frame, WEB1, EDGE_DB.address(version), message))


@pytest.mark.parametrize("version", VERSIONS)
def test_gateway_has_no_udp_service(send: Send, version: int) -> None:
    """What UDP traceroute ends with."""
    frame = to_router(WEB1, MAIN_WEB, MAIN_WEB.address(version), "udp")
    sent = send("web1", frame)
    message = unreachable(version, PORT, PORT6)
    sent.answers("web1", error(frame, WEB1, MAIN_WEB.address(version), message))
    assert sent.reason == "DROP_ROUTER_SERVICE"


def test_dhcp_server_has_no_other_service(send: Send) -> None:
    frame = Ether(src=LONE1.mac, dst=SERVICE_MAC) / l3(4, LONE1.ipv4, LONE_SERVER) / l4("udp", 4)
    expected = error(frame, LONE1, LONE_SERVER, unreachable(4, PORT, PORT6))
    send("lone1", frame).answers("lone1", expected)


# ---- packet too big --------------------------------------------------------------------


def sized(nic: Nic, to_mac: str, destination: str, size: int, **ip: object) -> Packet:
    """A frame whose IP packet has so many bytes."""
    version = 6 if ":" in destination else 4
    frame = Ether(src=nic.mac, dst=to_mac) / l3(version, nic.address(version), destination)
    for name, value in ip.items():
        frame[1].setfieldval(name, value)
    frame = frame / UDP(sport=5, dport=6)
    return frame / Raw(bytes(size - len(frame[1])))


@pytest.mark.parametrize("version", VERSIONS)
def test_largest_packet_passes(send: Send, version: int) -> None:
    frame = sized(WEB1, MAIN_WEB.mac, FAR1.address(version), FAR.mtu)
    assert send("web1", frame).to == "far1"


@pytest.mark.parametrize("size", [FAR.mtu + 1, WEB.mtu])
@pytest.mark.parametrize("version", VERSIONS)
def test_too_big_for_the_next_network(send: Send, version: int, size: int) -> None:
    frame = sized(WEB1, MAIN_WEB.mac, FAR1.address(version), size)
    sent = send("web1", frame)
    source = EDGE_DB.address(version)
    sent.answers("web1", error(frame, WEB1, source, too_big(version, FAR.mtu)))
    assert sent.reason == "DROP_TOO_BIG"
    assert sent.trace.decision("STAGE_DELIVER") == "DECISION_ICMP_TOO_BIG"


@pytest.mark.parametrize("version", VERSIONS)
def test_too_big_for_its_own_network(send: Send, version: int) -> None:
    """Nobody routes there: the error comes from the destination."""
    frame = sized(WEB1, WEB2.mac, WEB2.address(version), WEB.mtu + 1)
    expected = error(frame, WEB1, WEB2.address(version), too_big(version, WEB.mtu))
    send("web1", frame).answers("web1", expected)


def test_without_dont_fragment_it_is_no_other(send: Send) -> None:
    """The data plane never fragments; a sender that listens gets through."""
    frame = sized(WEB1, MAIN_WEB.mac, FAR1.ipv4, FAR.mtu + 1, flags=0)
    expected = error(frame, WEB1, EDGE_DB.ipv4, too_big(4, FAR.mtu))
    send("web1", frame).answers("web1", expected)


# ---- of what nobody is told ---------------------------------------------------------------


def dying(ip: Packet, payload: Packet, to_mac: str = MAIN_WEB.mac) -> Packet:
    return Ether(src=WEB1.mac, dst=to_mac) / ip / payload


TO4, TO6 = (
    {"src": WEB1.ipv4, "dst": DB1.ipv4, "ttl": 1},
    {"src": WEB1.ipv6, "dst": DB1.ipv6, "hlim": 1},
)
SILENT = {
    "later fragment4": dying(IP(**TO4, frag=5, proto=17), Raw(bytes(40))),
    "later fragment6": dying(IPv6(**TO6) / IPv6ExtHdrFragment(offset=5, nh=17), Raw(bytes(40))),
    "error about an error4": dying(IP(**TO4), ICMP(type=3, code=1) / Raw(bytes(28))),
    "error about an error6": dying(IPv6(**TO6), ICMPv6DestUnreach() / Raw(bytes(48))),
    "redirect4": dying(IP(**TO4), ICMP(type=5) / Raw(bytes(28))),
}


@pytest.mark.parametrize("name", SILENT)
def test_no_error_about(send: Send, name: str) -> None:
    sent = send("web1", SILENT[name])
    assert (sent.to, sent.reason) == (None, "DROP_TTL_EXCEEDED")


@pytest.mark.parametrize("destination", ["10.9.66.1", "fd00:9:0:66::1", "224.0.0.9", "ff05::2"])
def test_blackhole_and_multicast_are_silent(send: Send, destination: str) -> None:
    assert send("web1", to_router(WEB1, MAIN_WEB, destination)).to is None


def test_error_about_an_echo_reply(send: Send) -> None:
    """No error itself, so its sender is told."""
    frame = dying(IP(**TO4), ICMP(type="echo-reply", id=1))
    send("web1", frame).answers("web1", error(frame, WEB1, MAIN_WEB.ipv4, time_exceeded(4)))


def test_first_fragment_is_told(send: Send) -> None:
    frame = dying(IP(**TO4, flags="MF", proto=17), Raw(bytes(40)))
    send("web1", frame).answers("web1", error(frame, WEB1, MAIN_WEB.ipv4, time_exceeded(4)))


def test_oversized_ping_is_told(send: Send) -> None:
    frame = Ether(src=WEB1.mac, dst=MAIN_WEB.mac) / l3(6, WEB1.ipv6, FAR1.ipv6)
    frame /= ICMPv6EchoRequest(data=bytes(1300))
    expected = error(frame, WEB1, EDGE_DB.ipv6, too_big(6, FAR.mtu))
    send("web1", frame).answers("web1", expected)


# ---- rate limit ------------------------------------------------------------------------------


def limits(board: Switchboard) -> tuple[int, int]:
    """Errors in a row, and errors per second thereafter."""
    return board.world.value("ICMP_BURST"), board.world.value("ICMP_PER_SECOND")


def spend(board: Switchboard, device: str, frame: Packet, count: int) -> int:
    """Errors that come back for so many packets."""
    raw = bytes(frame)
    verdicts = [board.run(device, raw).verdict for _ in range(count)]
    assert set(verdicts) <= {TC_ACT_REDIRECT, TC_ACT_SHOT}
    return verdicts.count(TC_ACT_REDIRECT)


def set_budget(board: Switchboard, nic: Nic, tokens: int, age: float) -> None:
    """As if the budget was last filled so many seconds ago."""
    refilled_at = time.clock_gettime_ns(time.CLOCK_MONOTONIC) - int(age * 1e9)
    board.world.put("icmp_budgets", nic.slot, {"tokens": tokens, "refilled_at": refilled_at})


def test_a_burst_and_no_more(board: Switchboard) -> None:
    frame = to_router(WEB1, MAIN_WEB, DB1.ipv4, ttl=1)
    burst, per_second = limits(board)
    started = time.monotonic()
    told = spend(board, "web1", frame, 3 * burst)
    earned = (time.monotonic() - started) * per_second
    assert burst <= told <= burst + earned + 1
    assert board.drop_count("web1", "DROP_TTL_EXCEEDED")["packets"] == 3 * burst


def test_budget_fills_with_time(board: Switchboard) -> None:
    frame = to_router(WEB1, MAIN_WEB, DB1.ipv6, ttl=1)
    started = time.monotonic()
    set_budget(board, WEB1, tokens=0, age=0.5)
    burst, per_second = limits(board)
    told = spend(board, "web1", frame, burst)
    earned = (0.5 + time.monotonic() - started) * per_second
    assert per_second // 2 <= told <= earned + 1


def test_each_port_has_its_own_budget(board: Switchboard) -> None:
    set_budget(board, WEB1, tokens=0, age=0)
    assert spend(board, "web2", to_router(WEB2, MAIN_WEB, DB1.ipv4, ttl=1), 10) == 10


def test_trace_knows_an_empty_budget(board: Switchboard) -> None:
    frame = to_router(WEB1, MAIN_WEB, DB1.ipv4, ttl=1)
    set_budget(board, WEB1, tokens=0, age=-60)  # nothing is earned before a minute
    told = board.trace("web1", frame)
    assert told.decision("STAGE_DELIVER") == "DECISION_ICMP_LIMITED"
    assert told.verdict == TC_ACT_SHOT
    assert told.drop_reason is not None


# ---- the real thing ------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_error_really_reaches_the_tap(board: Switchboard, version: int) -> None:
    frame = to_router(WEB1, MAIN_WEB, DB1.address(version), ttl=1)
    board.devices["web1"].write(bytes(frame))
    expected = error(frame, WEB1, MAIN_WEB.address(version), time_exceeded(version))
    assert board.devices["web1"].read() == bytes(expected)


def test_error_counts_for_its_receiver(board: Switchboard) -> None:
    board.run("web1", to_router(WEB1, MAIN_WEB, DB1.ipv4, ttl=1))
    counters = board.counters(WEB1.slot)
    assert (counters["from_vm_packets"], counters["to_vm_packets"]) == (1, 1)


def test_switching_never_sends_an_error_for_a_low_ttl(send: Send) -> None:
    frame = switched(WEB1, WEB2, 4)
    frame[IP].ttl = 1
    send("web1", frame).arrives("web2", frame)
