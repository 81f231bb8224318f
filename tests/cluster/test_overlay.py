"""Networks over several hosts, as seen from the guests and on the underlay."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from cluster import Running, cluster, eventually
from envelopes import Capture, Datagram, Envelope, captured, envelope, send_datagram
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw

from heddle.lab.folder import ETCD

WEB, DB, LONE = 100, 200, 300
TOPOLOGY = """
version: 1
hosts: {h1: {}, h2: {}, h3: {}}
underlay: %s
networks:
  web: {vni: 100, cidr: [172.17.17.0/24, "fd00:17::/64"]}
  db: {vni: 200, cidr: [192.168.0.0/24, "fd00:192::/64"]}
  lone: {vni: 300, cidr: [10.9.0.0/24]}
routers:
  main: {networks: [web, db]}
security_groups:
  open:
    - {direction: from_vm}
    - {direction: to_vm}
machines:
  w1: {kind: container, host: h1, nics: [
    {network: web, address: [172.17.17.11, "fd00:17::11"], security_groups: [open]}]}
  w2: {kind: container, host: h2, nics: [
    {network: web, address: [172.17.17.12, "fd00:17::12"], security_groups: [open]}]}
  d1: {kind: container, host: h1, nics: [
    {network: db, address: [192.168.0.11, "fd00:192::11"], security_groups: [open]}]}
  d3: {kind: container, host: h3, nics: [
    {network: db, address: [192.168.0.13, "fd00:192::13"], security_groups: [open]}]}
  l3: {kind: container, host: h3, nics: [
    {network: lone, address: 10.9.0.13, security_groups: [open]}]}
"""
UNDERLAYS = {
    "IPv4": "{mtu: 1600}",
    "IPv6": '{cidr: "fd00:18::/64", mtu: 1600}',
    "port 8472": "{udp_port: 8472}",
}
W1, W2, D1, D3 = "h1/w1", "h2/w2", "h1/d1", "h3/d3"
ADDRESSES = {
    W1: ("172.17.17.11", "fd00:17::11"),
    W2: ("172.17.17.12", "fd00:17::12"),
    D1: ("192.168.0.11", "fd00:192::11"),
    D3: ("192.168.0.13", "fd00:192::13"),
}
TRACKED_PORT = 5000


@pytest.fixture(scope="module", params=UNDERLAYS)
def lab(request: pytest.FixtureRequest) -> Iterator[Running]:
    """Three hosts; the tests leave them as they find them."""
    with cluster() as made:
        running = made.up(TOPOLOGY % UNDERLAYS[request.param])
        for machine, addresses in ADDRESSES.items():
            for address in ADDRESSES[W1] + ADDRESSES[D3]:
                if address not in addresses:
                    eventually(
                        lambda m=machine, a=address: running.pings(m, a), f"{machine} {address}"
                    )
        yield running


def mac(lab: Running, machine: str) -> str:
    return lab.exec(machine, "cat", "/sys/class/net/eth0/address").stdout.strip()


def router_mac(lab: Running, machine: str) -> str:
    """Of the gateway, as the machine knows it."""
    shown = lab.exec(machine, "ip", "-4", "neigh", "show", "nud", "all").stdout
    gateway = ADDRESSES[machine][0].rsplit(".", 1)[0] + ".1"
    found = re.search(rf"^{re.escape(gateway)} .*lladdr (\S+)", shown, re.MULTILINE)
    assert found, shown
    return found[1]


def outer_addresses(each: Envelope) -> tuple[str, str]:
    return each.outer.src, each.outer.dst


def vteps(lab: Running, sender: str, receiver: str) -> tuple[str, str]:
    return lab.plan.host(sender).vtep, lab.plan.host(receiver).vtep


def echoes(capture: Capture, version: int) -> list[Envelope]:
    """Requests and replies, of which one each is expected."""
    if version == 4:
        return capture.inner(ICMP)
    kinds = (ICMPv6EchoRequest, ICMPv6EchoReply)
    return [each for each in capture.envelopes() if any(kind in each.inner for kind in kinds)]


def to_h2(lab: Running, data: bytes, traffic_class: int = 0) -> Datagram:
    """Where it takes envelopes."""
    return Datagram(lab.plan.host("h2").vtep, lab.plan.udp_port, data, traffic_class)


def is_whole(packet: Packet) -> bool:
    """Whether checksums and lengths are what they should be."""
    raw = bytes(packet)
    again = packet.copy()
    for layer in (IP, UDP, TCP, ICMP, ICMPv6EchoRequest, ICMPv6EchoReply):
        if layer in again:
            for field in ("chksum", "cksum", "len", "plen"):
                if field in again[layer].fields:
                    delattr(again[layer], field)
    return bytes(again) == raw


def is_past_the_stack(each: Envelope) -> bool:
    """The host's stack always sums up."""
    return each.outer[UDP].chksum == 0


def is_whole_ip(packet: Packet) -> bool:
    again = IP(bytes(packet))
    del again.chksum, again.len
    return bytes(again)[:20] == bytes(packet)[:20]


# ---- unicast -------------------------------------------------------------------


def test_the_stack_is_asked_ten_times_a_second_at_most(lab: Running) -> None:
    """In IPv4; all envelopes of a flow are the same but for the checksum."""
    with captured(lab, "h1") as capture:
        assert lab.pings(W1, ADDRESSES[W2][0], "-c", "60", "-i", "0.02")
    sent = [each for each in capture.inner(ICMP) if outer_addresses(each) == vteps(lab, "h1", "h2")]
    assert len(sent) == 60
    direct = [each for each in sent if is_past_the_stack(each)]
    if ":" in vteps(lab, "h1", "h2")[0]:
        assert not direct
        return
    assert 30 < len(direct) < 60
    assert (
        len({(e.source_port, e.traffic_class, e.outer.ttl, bytes(e.outer)[:2]) for e in sent}) == 1
    )
    assert all(is_whole(each.inner) for each in sent)
    assert all(is_whole_ip(each.outer) for each in sent)


@pytest.mark.parametrize("version", [4, 6])
def test_in_one_subnet_a_frame_travels_as_it_is(lab: Running, version: int) -> None:
    address = ADDRESSES[W2][version == 6]
    with captured(lab, "h1") as capture:
        assert lab.pings(W1, address)
    request, reply = echoes(capture, version)
    assert outer_addresses(request) == vteps(lab, "h1", "h2")
    assert outer_addresses(reply) == vteps(lab, "h2", "h1")
    assert {request.vni, reply.vni} == {WEB}
    for each, sender, receiver in ((request, W1, W2), (reply, W2, W1)):
        inner = each.inner
        assert (inner.src, inner.dst) == (mac(lab, sender), mac(lab, receiver))
        assert inner.payload.src == ADDRESSES[sender][version == 6]
        assert (inner.payload.ttl if version == 4 else inner.payload.hlim) == 64
        assert is_whole(inner)


@pytest.mark.parametrize("version", [4, 6])
def test_between_subnets_the_senders_host_routes(lab: Running, version: int) -> None:
    """Straight to the host of the destination, in its network, one hop older."""
    address = ADDRESSES[D3][version == 6]
    assert lab.pings(W1, address)
    with captured(lab, "h1") as capture:
        assert lab.pings(W1, address)
    request, reply = echoes(capture, version)
    assert outer_addresses(request) == vteps(lab, "h1", "h3")
    assert outer_addresses(reply) == vteps(lab, "h3", "h1")
    assert (request.vni, reply.vni) == (DB, WEB)
    assert request.inner.src == router_mac(lab, D3)
    assert request.inner.dst == mac(lab, D3)
    assert reply.inner.src == router_mac(lab, W1)
    assert reply.inner.dst == mac(lab, W1)
    for each in (request, reply):
        inner = each.inner.payload
        assert (inner.ttl if version == 4 else inner.hlim) == 63
        assert is_whole(each.inner)


def test_nobody_asks_the_underlay_for_a_known_address(lab: Running) -> None:
    for machine in (W1, W2, D3):
        lab.exec(machine, "ip", "neigh", "flush", "all")
    with captured(lab, "h1") as capture:
        for address in (*ADDRESSES[W2], *ADDRESSES[D3]):
            assert lab.pings(W1, address)
    assert len(capture.envelopes()) >= 8
    asking = [e for e in capture.envelopes() for layer in _QUESTIONS if layer in e.inner]
    assert asking == []


_QUESTIONS = (ARP, ICMPv6ND_NS, ICMPv6ND_NA)


def test_only_hosts_talk_on_the_underlay(lab: Running) -> None:
    """And they say nothing about guests outside of envelopes."""
    with captured(lab, "h1") as capture:
        for address in (*ADDRESSES[W2], *ADDRESSES[D3]):
            assert lab.pings(W1, address)
    known = {host.vtep for host in lab.plan.hosts}
    for each in capture.envelopes():
        assert set(outer_addresses(each)) <= known
    guests = {mac(lab, machine) for machine in ADDRESSES}
    assert all(frame.src not in guests and frame.dst not in guests for frame in capture.frames())


# ---- the envelope ----------------------------------------------------------------


def test_flows_spread_over_source_ports(lab: Running) -> None:
    """Each flow keeps to one port, and many flows have many."""
    with captured(lab, "h1") as capture:
        for port in range(40001, 40033):
            send = f"import socket; s = socket.socket(2, 2); s.bind(('', {port}))"
            send += f"; [s.sendto(b'x', ('{ADDRESSES[W2][0]}', 9000)) for _ in range(2)]"
            lab.exec(W1, "python3", "-c", send)
    ports: dict[int, set[int]] = {}
    for each in capture.inner(UDP):
        ports.setdefault(each.inner[UDP].sport, set()).add(each.source_port)
    assert len(ports) == 32
    assert all(len(outer) == 1 for outer in ports.values())
    assert len({min(outer) for outer in ports.values()}) > 16


@pytest.mark.parametrize("traffic_class", [0x00, 0xB8, 0xBA, 0xB9, 0x02])
@pytest.mark.parametrize("version", [4, 6])
def test_dscp_and_ecn_are_copied_out(lab: Running, version: int, traffic_class: int) -> None:
    """RFC 6040, section 4.1; the DSCP as in RFC 2983's uniform model."""
    with captured(lab, "h1") as capture:
        assert lab.pings(W1, ADDRESSES[W2][version == 6], "-Q", str(traffic_class))
    requests = [
        e
        for e in capture.inner(ICMP if version == 4 else ICMPv6EchoRequest)
        if outer_addresses(e) == vteps(lab, "h1", "h2")
    ]
    assert [each.inner_class for each in requests] == [traffic_class]
    assert [each.traffic_class for each in requests] == [traffic_class]


@pytest.mark.parametrize(
    ("inner", "outer", "arrives"),
    [(0, 0, 0), (1, 3, 3), (2, 3, 3), (2, 1, 1), (2, 0, 2), (3, 2, 3)],
)
def test_congestion_is_copied_in(lab: Running, inner: int, outer: int, arrives: int) -> None:
    """RFC 6040, section 4.2, figure 4. The envelope is made by hand on h1."""
    frame = _datagram(lab, b"congestion", tos=inner)
    with lab.background(_tcpdump(lab, W2, "udp port 9000")) as process:
        _is_listening(process)
        send_datagram(lab, "h1", to_h2(lab, envelope(WEB, frame), outer))
        assert process.stdout is not None
        line = process.stdout.readline()
    assert f"tos 0x{arrives:x}" in line


def test_a_congested_envelope_around_what_knows_no_congestion_is_dropped(lab: Running) -> None:
    """RFC 6040, section 4.2: by the kernel, before any program sees it."""
    frame = _datagram(lab, b"congestion", tos=0)
    before = _underlay_errors(lab, "h2")
    send_datagram(lab, "h1", to_h2(lab, envelope(WEB, frame), traffic_class=3))
    eventually(lambda: _underlay_errors(lab, "h2") > before, "the envelope to be dropped")


def _underlay_errors(lab: Running, host: str) -> int:
    folder = "/sys/class/net/heddle-vxlan/statistics"
    return int(lab.host(host, "cat", f"{folder}/rx_errors").stdout)


def _datagram(lab: Running, data: bytes, tos: int = 0) -> bytes:
    """From w1 to w2."""
    ip = IP(src=ADDRESSES[W1][0], dst=ADDRESSES[W2][0], tos=tos)
    frame = Ether(src=mac(lab, W1), dst=mac(lab, W2)) / ip
    return bytes(frame / UDP(sport=9001, dport=9000) / Raw(data))


def _tcpdump(lab: Running, machine: str, words: str) -> list[str]:
    return lab.inside(machine, "tcpdump", "-lnvi", "eth0", "-Q", "in", "-c", "1", words)


def _is_listening(process: Any) -> None:  # noqa: ANN401 (Popen[str])
    assert "listening on" in process.stderr.readline()


def test_large_packets_stay_whole_up_to_the_underlay(lab: Running) -> None:
    """TCP of guests with an MTU of 1450 crosses the underlay in large packets."""
    lab.exec(W2, "iperf3", "--server", "--daemon", "--one-off")
    before = _sent(lab, "h1")
    lab.exec(W1, "iperf3", "--client", ADDRESSES[W2][0], "--time", "2")
    packets, size = (now - old for now, old in zip(_sent(lab, "h1"), before, strict=True))
    assert size / packets > 10_000


def _sent(lab: Running, host: str) -> tuple[int, int]:
    folder = "/sys/class/net/eth0/statistics"
    shown = lab.host(host, "cat", f"{folder}/tx_packets", f"{folder}/tx_bytes").stdout.split()
    return int(shown[0]), int(shown[1])


# ---- broadcast and multicast ----------------------------------------------------------


@pytest.mark.parametrize("destination", ["172.17.17.255", "224.0.1.9", "ff05::9"])
def test_what_is_for_all_reaches_the_hosts_of_the_network_alone(
    lab: Running, destination: str
) -> None:
    send = "import socket, sys; a = sys.argv[1]; s = socket.socket(10 if ':' in a else 2, 2)"
    send += "; ':' in a or s.setsockopt(1, 6, 1); s.sendto(b'all', (a, 9000))"
    lab.exec(W1, "ip", "route", "replace", "224.0.0.0/4", "dev", "eth0")
    with (
        captured(lab, "h2") as at_h2,
        captured(lab, "h3") as at_h3,
        lab.background(_tcpdump(lab, W2, "udp port 9000")) as process,
    ):
        _is_listening(process)
        lab.exec(W1, "python3", "-c", send, destination)
        assert process.stdout is not None
        assert process.stdout.readline()
    (copy,) = [each for each in at_h2.inner(UDP) if each.inner[UDP].dport == 9000]
    assert copy.vni == WEB
    assert outer_addresses(copy) == vteps(lab, "h1", "h2")
    assert not [each for each in at_h3.inner(UDP) if each.inner[UDP].dport == 9000]


# ---- what must not come in ------------------------------------------------------------


def drops(lab: Running, host: str, reason: str) -> int:
    """Packets dropped for a reason at the tunnel of a host."""
    found = json.loads(lab.host(host, "heddle", "drops", "--json").stdout)
    return sum(each["packets"] for each in found if each["reason"] == reason)


def arrives_never(lab: Running, sender: str, data: bytes, reason: str) -> None:
    """Not at a guest of h2, which counts it."""
    before = drops(lab, "h2", reason)
    send_datagram(lab, sender, to_h2(lab, data))
    eventually(lambda: drops(lab, "h2", reason) == before + 1, f"{reason} to be counted", 10)


def test_an_unknown_sender_is_refused(lab: Running) -> None:
    arrives_never(lab, ETCD, envelope(WEB, _datagram(lab, b"x")), "UNKNOWN_VTEP")


@pytest.mark.parametrize("vni", [LONE, 4711])
def test_a_network_that_is_not_here_is_refused(lab: Running, vni: int) -> None:
    """LONE is at h3 alone, the other one nowhere."""
    arrives_never(lab, "h1", envelope(vni, _datagram(lab, b"x")), "UNKNOWN_VNI")


@pytest.mark.parametrize("length", [40, 34, 33, 14])
def test_a_cut_off_frame_is_refused(lab: Running, length: int) -> None:
    """What is shorter than 34 bytes the VXLAN device drops itself, and counts; what
    has no Ethernet header the kernel does not take for a frame at all."""
    frame = _datagram(lab, bytes(100))[:length]
    arrives_never(lab, "h1", envelope(WEB, frame), "TUNNEL_MALFORMED")


# ---- the host's own stack ---------------------------------------------------------------


def test_no_envelope_and_no_guest_is_in_connection_tracking(lab: Running) -> None:
    rules = "add table inet t; add chain inet t i { type filter hook input priority 0; }"
    rules += "; add chain inet t o { type filter hook output priority 0; }"
    rules += "; add rule inet t i ct state new accept; add rule inet t o ct state new accept"
    for host in ("h1", "h2"):
        lab.host(host, "nft", rules)
    try:
        for address in ADDRESSES[W2]:
            assert lab.pings(W1, address)
        send_datagram(lab, "h1", Datagram(lab.plan.host("h2").vtep, TRACKED_PORT, b"x"))
        tracked = [lab.host(h, "cat", "/proc/net/nf_conntrack").stdout for h in ("h1", "h2")]
        assert f"dport={TRACKED_PORT}" in tracked[0]
        for text in tracked:
            assert f"dport={lab.plan.udp_port}" not in text
            assert "172.17.17." not in text
    finally:
        for host in ("h1", "h2"):
            lab.host(host, "nft", "delete table inet t")
