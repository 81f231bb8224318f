"""Two containers in two subnets: what stands on the wire at both ends."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from lab import Lab, eventually
from scapy.layers.inet import ICMP, IP, TCP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    ICMPv6TimeExceeded,
    IPv6,
)
from scapy.layers.l2 import Ether
from scapy.packet import Packet
from wire import captured, mac_of

TRAFFIC = str(Path(__file__).parent / "traffic.py")
# In the other subnet, whose MTU is 1400 against 1450 here.
ADDRESSES = [("10.1.0.1", "10.2.0.10"), ("fd00:1::1", "fd00:2::10")]
FROM_C0 = "tcp and src host 10.1.0.10"
FAMILIES = pytest.mark.parametrize(("gateway", "target"), ADDRESSES, ids=["ipv4", "ipv6"])


@pytest.fixture
def routed(routed_lab: Lab) -> Lab:
    """With offloads on, and nothing learned of path MTUs."""
    routed_lab.exec("c0", "ethtool", "-K", "eth0", "tx", "on", "tso", "on", "gso", "on")
    for family in ("-4", "-6"):
        routed_lab.exec("c0", "ip", family, "route", "flush", "cache")
    return routed_lab


@FAMILIES
def test_a_ping_is_routed(routed: Lab, gateway: str, target: str) -> None:
    """TTL one less, MACs of the router's interfaces, checksums right."""
    with captured(routed, "c0") as near, captured(routed, "c1") as far:
        routed.exec("c0", "ping", "-c", "1", "-W", "20", "-s", "100", target)
        sent = eventually(lambda: echo_requests(near.frames(), target), "the request")[0]
        came = eventually(lambda: echo_requests(far.frames(), target), "its arrival")[0]
    router = router_macs(routed)
    assert (sent.src, sent.dst) == (mac_of(routed, "c0"), router["web"])
    assert (came.src, came.dst) == (router["db"], mac_of(routed, "c1"))
    assert hops(sent) == 64
    assert hops(came) == 63
    expected = sent.copy()
    expected.src, expected.dst = came.src, came.dst
    lower_hops(expected)
    assert bytes(came) == bytes(expected)


def test_large_segments_stay_whole(routed: Lab) -> None:
    """What the sender's kernel did not cut is not cut on the way."""
    with captured(routed, "c1", words=FROM_C0, most=300) as far, tcp_stream(routed):
        eventually(lambda: max(tcp_lengths(far.frames()), default=0) > 10_000, "large segments")


def test_checksums_stay_right(routed: Lab) -> None:
    """With offloads off, TCP's checksums are in the frames: they arrive as they
    must be."""
    routed.exec("c0", "ethtool", "-K", "eth0", "tx", "off", "tso", "off", "gso", "off")
    with captured(routed, "c1", words=FROM_C0, most=30) as far, tcp_stream(routed):
        eventually(lambda: len(far.frames()) == 30, "segments")
    for frame in far.frames():
        again = frame.copy()
        del again[IP].chksum, again[TCP].chksum
        assert bytes(again) == bytes(frame)
        again = Ether(bytes(again))
        assert (again[IP].chksum, again[TCP].chksum) == (frame[IP].chksum, frame[TCP].chksum)


@FAMILIES
def test_the_gateway_is_a_hop(routed: Lab, gateway: str, target: str) -> None:
    """A packet that runs out of hops comes back as time exceeded from it."""
    with captured(routed, "c0") as near:
        done = routed.exec("c0", "ping", "-c", "1", "-W", "20", "-t", "1", target, check=False)
        assert done.returncode == 1
        errors = eventually(lambda: time_exceeded(near.frames()), "time exceeded")
    assert errors[0] == gateway
    assert re.search(
        rf"From {re.escape(gateway)} .*(Time to live|Hop limit|Time) exceeded",
        done.stdout,
        re.IGNORECASE,
    )


@FAMILIES
def test_the_path_mtu_is_told(routed: Lab, gateway: str, target: str) -> None:
    """What does not fit comes back with the MTU of the other network."""
    size = 1420 - (48 if ":" in target else 28)
    with captured(routed, "c0") as near:
        routed.exec(
            "c0", "ping", "-M", "do", "-c", "1", "-W", "20", "-s", str(size), target, check=False
        )
        assert eventually(lambda: told_mtus(near.frames()), "the ICMP error") == [1400]
    learned = routed.exec("c0", "ip", "route", "get", target).stdout
    assert "mtu 1400" in learned
    fits = 1400 - (48 if ":" in target else 28)
    routed.exec("c0", "ping", "-M", "do", "-c", "1", "-W", "20", "-s", str(fits), target)


def test_tcp_finds_the_path_mtu(routed: Lab) -> None:
    """A sender of full segments learns of the smaller MTU and goes on: all that
    is sent arrives, in segments that fit."""
    routed.exec("c0", "ethtool", "-K", "eth0", "tso", "off", "gso", "off")
    with captured(routed, "c1", words=FROM_C0, most=30) as far, tcp_stream(routed):
        eventually(lambda: len(far.frames()) == 30, "segments")
    assert 1000 < max(tcp_lengths(far.frames())) <= 1360


@FAMILIES
def test_traceroute_shows_gateway_and_target(routed: Lab, gateway: str, target: str) -> None:
    done = routed.exec("c0", "busybox", "traceroute6" if ":" in target else "traceroute",
                       "-n", "-q", "1", "-w", "2", "-m", "5", target)  # fmt: skip
    shown = [line.split()[1] for line in done.stdout.splitlines() if re.match(r" *\d+ ", line)]
    assert shown == [gateway, target]


def router_macs(lab: Lab) -> dict[str, str]:
    """MACs of the router by network name."""
    names = {network["id"]: network["name"] for network in lab.show("networks")}
    interfaces = lab.show("routers")[0]["interfaces"]
    return {names[interface["network_id"]]: interface["mac"] for interface in interfaces}


def echo_requests(frames: list[Packet], target: str) -> list[Packet]:
    found = []
    for frame in frames:
        if IP in frame and ICMP in frame and frame[ICMP].type == 8 and frame[IP].dst == target:
            found.append(frame)
        if IPv6 in frame and ICMPv6EchoRequest in frame and frame[IPv6].dst == target:
            found.append(frame)
    return found


def test_many_routers_in_a_row(lab: Lab) -> None:
    """Each of them costs a hop, and is seen as one."""
    lab.heddle("up", lab.write(_row_of_routers(8)))
    done = lab.exec("first", "ping", "-c", "1", "-W", "20", "10.8.0.2")
    assert f" ttl={64 - 8} " in done.stdout
    for hops in (1, 5, 8):
        ping = ("ping", "-c", "1", "-W", "20", "-t", str(hops), "10.8.0.2")
        done = lab.exec("first", *ping, check=False)
        assert f"From 10.{hops - 1}.0.1 " in done.stdout


def _row_of_routers(count: int) -> str:
    """Router r0 joins networks n0 and n1, r1 n1 and n2: the last one of n1 is 10.1.0.1."""
    lines = ["version: 1", "networks:"]
    lines += [f"  n{i}: {{cidr: 10.{i}.0.0/24}}" for i in range(count + 1)]
    lines += ["routers:"]
    for i in range(count):
        near = f"{{network: n{i}, address: 10.{i}.0.1}}"
        far = f"{{network: n{i + 1}, address: 10.{i + 1}.0.{254 if i + 1 < count else 1}}}"
        routes = f"{{to: 10.0.0.0/24, via: 10.{i}.0.254}}" if i else ""
        if i + 1 < count:
            onward = f"{{to: 10.{count}.0.0/24, via: 10.{i + 1}.0.1}}"
            routes = f"{routes}, {onward}" if routes else onward
        lines += [f"  r{i}: {{networks: [{near}, {far}], routes: [{routes}]}}"]
    lines += ["machines:"]
    lines += ["  first: {kind: container, nics: [{network: n0, address: 10.0.0.2}]}"]
    lines += [
        f"  last: {{kind: container, nics: [{{network: n{count}, address: 10.{count}.0.2}}]}}"
    ]
    return "\n".join(lines)


@contextmanager
def tcp_stream(lab: Lab) -> Iterator[None]:
    """TCP from c0 to c1 during the block; all of it must have arrived then."""
    with lab.background(lab.inside("c1", sys.executable, TRAFFIC, "sink", "5002")) as sink:
        assert sink.stdout is not None
        assert sink.stdout.readline() == "listening\n"
        argv = lab.inside("c0", sys.executable, TRAFFIC, "stream", "10.2.0.10", "5002")
        with lab.background(argv) as stream:
            yield
            sent, _ = stream.communicate(timeout=120)
        taken, _ = sink.communicate(timeout=120)
    assert int(sent) == int(taken) > 0


def tcp_lengths(frames: list[Packet]) -> list[int]:
    """Bytes carried by each segment."""
    return [len(frame[TCP].payload) for frame in frames]


def time_exceeded(frames: list[Packet]) -> list[str]:
    """Who sent each time exceeded."""
    v4 = [f[IP].src for f in frames if ICMP in f and f[ICMP].type == 11]
    return v4 + [f[IPv6].src for f in frames if IPv6 in f and ICMPv6TimeExceeded in f]


def told_mtus(frames: list[Packet]) -> list[int]:
    v4 = [
        f[ICMP].nexthopmtu for f in frames if ICMP in f and (f[ICMP].type, f[ICMP].code) == (3, 4)
    ]
    return v4 + [f[ICMPv6PacketTooBig].mtu for f in frames if ICMPv6PacketTooBig in f]


def hops(frame: Packet) -> int:
    return int(frame[IP].ttl if IP in frame else frame[IPv6].hlim)


def lower_hops(frame: Packet) -> None:
    """As a router does."""
    if IP in frame:
        frame[IP].ttl -= 1
        del frame[IP].chksum
    else:
        frame[IPv6].hlim -= 1
