"""What goes to ports at other hosts: switched or routed here, in one envelope."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest
from packet_rules import write_group
from packet_shapes import L4_NAMES, forwarded, l3, l4, switched, to_router
from packet_talk import between, udp
from packet_tunnel import (
    BEHIND,
    DB6,
    DB8,
    FLOODED,
    LOST,
    NEAR,
    REMOTE,
    SIX,
    WEB4,
    WEB6,
    WEB8,
    Host,
    Tunnel,
    put_remote,
    put_vtep,
)
from packet_world import DB, GATE, MAIN_DB, MAIN_WEB, WEB, WEB1, WEB2, Nic, mapped
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import (
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    IPv6,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw
from test_icmp_errors import error, too_big

from heddle.datapath.trace import Envelope
from tests.packets.conftest import TC_ACT_SHOT, Sent

VERSIONS = (4, 6)
BROADCAST = "ff:ff:ff:ff:ff:ff"
SWITCHED = [WEB8, WEB6, WEB4]
ROUTED = [DB8, DB6]
Send = Callable[..., Sent]
pytestmark = pytest.mark.usefixtures("tunnel")


def names(nic: Nic) -> str:
    return nic.name


def envelope(host: Host) -> Envelope:
    """What a trace says of the way to a host."""
    at = host.relay or host
    return Envelope(host.number, mapped(at.vtep), at.number if host.relay else 0)


def relayed(host: Host) -> dict[str, int]:
    """A relay is told whom it is for."""
    return {"number": host.number} if host.relay else {}


# ---- who gets it ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", L4_NAMES)
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("nic", SWITCHED, ids=names)
def test_switched_as_it_is(send: Send, nic: Nic, version: int, kind: str) -> None:
    frame = switched(WEB1, nic, version, kind)
    sent = send("web1", frame)
    sent.arrives(REMOTE[nic].name, frame)
    assert sent.trace.decision("STAGE_SWITCH") == "DECISION_SWITCH_REMOTE"
    assert sent.trace.decision("STAGE_DELIVER") == "DECISION_DELIVER_TUNNEL"
    assert (sent.trace.envelope, sent.trace.to_network) == (envelope(REMOTE[nic]), WEB.vni)


@pytest.mark.parametrize("kind", L4_NAMES)
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("nic", ROUTED, ids=names)
def test_routed_here(send: Send, nic: Nic, version: int, kind: str) -> None:
    """It travels in the network of its receiver, with that router's MAC."""
    frame = to_router(WEB1, MAIN_WEB, nic.address(version), kind)
    sent = send("web1", frame)
    sent.arrives(REMOTE[nic].name, forwarded(frame, MAIN_DB.mac, nic.mac))
    assert (sent.trace.envelope, sent.trace.to_network) == (envelope(REMOTE[nic]), DB.vni)


@pytest.mark.parametrize("version", VERSIONS)
def test_via_a_router_behind_a_remote_port(tunnel: Tunnel, send: Send, version: int) -> None:
    """gate, the next hop of 10.9.0.0/16 and fd00:9::/48, is at another host."""
    put_remote(tunnel.board.world, GATE, NEAR.number)
    frame = to_router(WEB1, MAIN_WEB, "10.9.1.1" if version == 4 else "fd00:9::1")
    send("web1", frame).arrives(NEAR.name, forwarded(frame, MAIN_DB.mac, GATE.mac))


def test_a_host_that_is_not_known(send: Send, tunnel: Tunnel) -> None:
    sent = send("web1", switched(WEB1, LOST, 4))
    assert (sent.verdict, sent.reason) == (TC_ACT_SHOT, "DROP_NO_VTEP")
    assert tunnel.board.drop_count("web1", "DROP_NO_VTEP")["packets"] == 2


def test_no_other_host_can_be_reached(send: Send, tunnel: Tunnel) -> None:
    tunnel.board.world.delete("this_host", 0)
    sent = send("web1", switched(WEB1, WEB8, 4))
    assert (sent.verdict, sent.reason) == (TC_ACT_SHOT, "DROP_NO_VTEP")


# ---- the envelope ----------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("nic", SWITCHED, ids=names)
def test_the_envelope(tunnel: Tunnel, nic: Nic, version: int) -> None:
    """Whole frames on the wire: the first packet, and the second one, a hit."""
    frame, host = switched(WEB1, nic, version), REMOTE[nic]
    for _ in range(2):
        tunnel.from_vm(frame)
        tunnel.carries(host.relay or host, WEB.vni, frame, **relayed(host))
    assert tunnel.board.trace("web1", frame).decision("STAGE_FLOW") == "DECISION_FLOW_HIT"
    assert tunnel.board.counters(WEB1.slot)["from_vm_packets"] == 2


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("nic", ROUTED, ids=names)
def test_the_envelope_of_what_is_routed(tunnel: Tunnel, nic: Nic, version: int) -> None:
    frame = to_router(WEB1, MAIN_WEB, nic.address(version))
    for _ in range(2):
        tunnel.from_vm(frame)
        tunnel.carries(REMOTE[nic], DB.vni, forwarded(frame, MAIN_DB.mac, nic.mac))


@pytest.mark.parametrize("tos", [0, 0xB8, 0xB9, 0xBA, 0x01, 0x02, 0x28])
@pytest.mark.parametrize("nic", [WEB8, WEB6], ids=names)
@pytest.mark.parametrize("version", VERSIONS)
def test_dscp_and_ecn_are_copied(tunnel: Tunnel, nic: Nic, version: int, tos: int) -> None:
    """RFC 6040 4.1, but for CE, which Linux sends as ECT(0) (RFC 3168 9.1.1)."""
    field = {"tos": tos} if version == 4 else {"tc": tos}
    frame = between(WEB1, nic, version, udp(), **field)
    for _ in range(2):
        tunnel.from_vm(frame)
        tunnel.carries(REMOTE[nic], WEB.vni, frame, tos=tos)


def test_dscp_of_the_port_is_that_of_the_envelope(tunnel: Tunnel) -> None:
    flags = tunnel.board.datapath.abi.bits("port_flag", [*WEB1.flags, "PORT_DSCP"])
    tunnel.board.world.write_port(WEB1, flags=flags, dscp=46)
    marked = Ether(bytes(switched(WEB1, WEB8, 4)))
    marked[IP].tos = 46 << 2
    del marked[IP].chksum
    for _ in range(2):
        tunnel.from_vm(switched(WEB1, WEB8, 4))
        tunnel.carries(NEAR, WEB.vni, marked, tos=46 << 2)


def test_flows_differ_in_their_source_port(tunnel: Tunnel) -> None:
    """So that the underlay can spread them; one flow keeps its port (RFC 7348 5)."""
    ports = []
    for number in range(40000, 40016):
        for _ in range(2):
            frame = between(WEB1, WEB8, 4, udp(number))
            tunnel.from_vm(frame)
            ports.append(tunnel.carries(NEAR, WEB.vni, frame)[UDP].sport)
    assert ports[::2] == ports[1::2]
    assert len(set(ports)) > 8


def test_the_largest_that_fits(tunnel: Tunnel) -> None:
    """1450 bytes and their envelope are 1500."""
    frame = between(WEB1, WEB8, 4, UDP(sport=1, dport=2) / Raw(bytes(1450 - 28)))
    tunnel.from_vm(frame)
    tunnel.carries(NEAR, WEB.vni, frame)


# ---- flows -------------------------------------------------------------------------------


def test_a_flow_follows_its_host(tunnel: Tunnel) -> None:
    """Another way to the host is taken by the next packet, without a new epoch."""
    frame = switched(WEB1, WEB4, 4)
    tunnel.from_vm(frame)
    tunnel.carries(NEAR, WEB.vni, frame, number=BEHIND.number)
    put_vtep(tunnel.board.world, Host(BEHIND.number, BEHIND.vtep))
    tunnel.from_vm(frame)
    tunnel.carries(Host(4, BEHIND.vtep), WEB.vni, frame)


def test_a_flow_whose_host_is_gone(tunnel: Tunnel) -> None:
    frame = switched(WEB1, WEB8, 4)
    tunnel.from_vm(frame)
    tunnel.carries(NEAR, WEB.vni, frame)
    tunnel.board.world.delete("vteps", NEAR.number)
    tunnel.from_vm(frame)
    assert tunnel.board.drop_count("web1", "DROP_NO_VTEP")["packets"] == 1


@pytest.mark.parametrize("destination", [WEB8, DB8], ids=names)
def test_both_entries(tunnel: Tunnel, destination: Nic) -> None:
    """The other end is the tunnel, seen from the network of the port that is here."""
    board = tunnel.board
    board.run("web1", between(WEB1, destination, 4, udp()))
    zone = board.world.value("TUNNEL_ZONE") | WEB.vni
    entries = {flow["role"]: (key, flow) for key, flow in board.flows()}
    opener, flow = entries[board.world.value("FLOW_OPENER")]
    reply, _ = entries[board.world.value("FLOW_REPLY")]
    assert (opener["ifindex"], reply["ifindex"]) == (board.devices["web1"].ifindex, zone)
    assert (flow["ifindex"], flow["other_ifindex"]) == (zone, zone)
    assert (flow["tunnel"], flow["host"]) == (tunnel.vxlan.ifindex, NEAR.number)
    assert flow["to_network"] == destination.network.vni
    assert board.connection().to_ifindex == zone
    assert board.usage(WEB1.slot) == 1


# ---- policy: the sender's end alone --------------------------------------------------------


def test_the_senders_rules(tunnel: Tunnel, send: Send) -> None:
    write_group(tunnel.board.world, 7, [])
    tunnel.board.world.write_port(WEB1, groups=[7])
    sent = send("web1", switched(WEB1, WEB8, 4))
    assert (sent.verdict, sent.reason) == (TC_ACT_SHOT, "DROP_POLICY_FROM_VM")


def test_an_open_port_is_not_asked(tunnel: Tunnel, send: Send) -> None:
    tunnel.board.world.open_port(WEB1)
    sent = send("web1", switched(WEB1, WEB8, 4))
    assert sent.trace.decision("STAGE_POLICY") == "DECISION_POLICY_OPEN"


# ---- sizes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_too_big_for_the_network(send: Send, version: int) -> None:
    frame = switched(WEB1, WEB8, version) / Raw(bytes(1450))
    sent = send("web1", frame)
    source = WEB8.address(version)
    sent.answers("web1", error(Ether(bytes(frame)), WEB1, source, too_big(version, WEB.mtu)))
    assert sent.reason == "DROP_TOO_BIG"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("is_routed", [False, True])
def test_too_big_for_the_path(tunnel: Tunnel, send: Send, version: int, is_routed: bool) -> None:
    """The flow is known when the path shrinks; the sender learns what passes."""
    if is_routed:
        frame = to_router(WEB1, MAIN_WEB, DB8.address(version)) / Raw(bytes(1200))
        source = MAIN_WEB.address(version)
    else:
        frame, source = switched(WEB1, WEB8, version) / Raw(bytes(1200)), WEB8.address(version)
    frame = Ether(bytes(frame))
    assert send("web1", frame).to == NEAR.name
    size = len(frame) - 14
    put_vtep(tunnel.board.world, NEAR, mtu=size - 1)
    sent = send("web1", frame)
    sent.answers("web1", error(frame, WEB1, source, too_big(version, size - 1)))
    assert sent.reason == "DROP_TUNNEL_MTU"
    put_vtep(tunnel.board.world, NEAR, mtu=size)
    assert send("web1", frame).to == NEAR.name


# ---- to many -----------------------------------------------------------------------------------


def flood(nic: Nic = WEB1) -> Packet:
    ip = IP(src=nic.ipv4, dst="255.255.255.255")
    return Ether(src=nic.mac, dst=BROADCAST) / ip / UDP(sport=1, dport=2)


def test_a_flood_goes_to_ports_and_hosts(tunnel: Tunnel) -> None:
    told = tunnel.board.trace("web1", flood())
    assert (told.copies, told.host_copies) == (2, len(FLOODED))
    tunnel.from_vm(flood())
    for name in ("web2", "web3"):
        assert tunnel.board.devices[name].read() == bytes(flood())
    for host in FLOODED:
        tunnel.carries(host, WEB.vni, flood())
    assert tunnel.read_all() == []
    assert tunnel.board.counters(WEB1.slot)["from_vm_packets"] == 1


def test_a_flood_through_a_relay_and_to_a_host_that_is_gone(tunnel: Tunnel) -> None:
    put_vtep(tunnel.board.world, Host(SIX.number, SIX.vtep, relay=NEAR))
    tunnel.board.world.delete("vteps", NEAR.number)
    tunnel.from_vm(flood())
    tunnel.carries(NEAR, WEB.vni, flood(), number=SIX.number)
    assert tunnel.board.drop_count("web1", "DROP_NO_VTEP")["packets"] == 1


# ---- who has an address ------------------------------------------------------------------------


def test_arp_is_answered_here(send: Send) -> None:
    arp = ARP(hwsrc=WEB1.mac, psrc=WEB1.ipv4, pdst=WEB8.ipv4)
    reply = ARP(op=2, hwsrc=WEB8.mac, psrc=WEB8.ipv4, hwdst=WEB1.mac, pdst=WEB1.ipv4)
    sent = send("web1", Ether(src=WEB1.mac, dst=BROADCAST) / arp)
    sent.arrives("web1", Ether(src=WEB8.mac, dst=WEB1.mac) / reply)


@pytest.mark.parametrize("target", [WEB8.ipv6, WEB8.link_local])
def test_neighbor_discovery_is_answered_here(send: Send, target: str) -> None:
    ip = IPv6(src=WEB1.ipv6, dst="ff02::1:ff00:8", hlim=255)
    ask = Ether(src=WEB1.mac, dst="33:33:ff:00:00:08") / ip / ICMPv6ND_NS(tgt=target)
    answer = ICMPv6ND_NA(R=0, S=1, O=1, tgt=target) / ICMPv6NDOptDstLLAddr(lladdr=WEB8.mac)
    expected = Ether(src=WEB8.mac, dst=WEB1.mac) / IPv6(src=target, dst=WEB1.ipv6, hlim=255)
    send("web1", ask).arrives("web1", expected / answer)


# ---- limits of bandwidth -----------------------------------------------------------------------


@pytest.fixture
def shaped(tunnel: Tunnel) -> Tunnel:
    """web1 is shaped, by a link without a qdisc."""
    way_in, way_out = tunnel.board.lab.wire()
    tunnel.board.lab.attach(way_out, tunnel.board.pin)
    tunnel.board.world.write_port(WEB1, shaper=socket.if_nametoindex(way_in))
    return tunnel


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("nic", SWITCHED, ids=names)
def test_through_the_shaper(shaped: Tunnel, nic: Nic, version: int) -> None:
    frame, host = switched(WEB1, nic, version), REMOTE[nic]
    for _ in range(2):
        shaped.from_vm(frame)
        shaped.carries(host.relay or host, WEB.vni, frame, **relayed(host))
    assert shaped.board.rows("drops") == []


def test_routed_through_the_shaper(shaped: Tunnel) -> None:
    frame = to_router(WEB1, MAIN_WEB, DB8.ipv4)
    for _ in range(2):
        shaped.from_vm(frame)
        shaped.carries(NEAR, DB.vni, forwarded(frame, MAIN_DB.mac, DB8.mac))


def test_a_flood_through_the_shaper(shaped: Tunnel) -> None:
    shaped.from_vm(flood())
    for host in FLOODED:
        shaped.carries(host, WEB.vni, flood())
    assert shaped.board.devices["web2"].read() == bytes(flood())


def test_a_host_that_left_while_the_frame_waited(tunnel: Tunnel) -> None:
    mark = tunnel.board.world.value("SHAPED_TUNNEL_MARK") | WEB.vni
    result = tunnel.board.run("gate", switched(WEB1, WEB8, 4), mark=mark)
    assert result.verdict == TC_ACT_SHOT
    assert tunnel.board.drop_count("gate", "DROP_NO_VTEP")["packets"] == 1


def test_others_do_not_borrow_its_address(tunnel: Tunnel) -> None:
    """A port has no right to a remote one's address."""
    frame = Ether(src=WEB1.mac, dst=WEB2.mac) / l3(4, WEB8.ipv4, WEB2.ipv4) / l4("udp", 4)
    tunnel.board.run("web1", frame)
    assert tunnel.board.drop_count("web1", "DROP_SOURCE_IP")["packets"] == 1
