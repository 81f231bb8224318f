"""Every drop has a reason, a counter and an event, and a trace tells it.

A reason of abi.h without a case here fails the first test.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from packet_rules import TCP as TCP_NUMBER
from packet_rules import Rule, anything, write_group
from packet_shapes import l3, l4, switched, to_router
from packet_world import (
    DB,
    FAR1,
    MAIN,
    MAIN_WEB,
    NICS,
    STRANGER,
    WEB1,
    WEB2,
    World,
)
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6ND_RA, IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet, Raw

from heddle.datapath.abi import Abi
from heddle.datapath.loader import OBJECT
from heddle.datapath.trace import trace
from tests.packets.conftest import TC_ACT_REDIRECT, TC_ACT_SHOT, Switchboard

BROADCAST, ALL_NODES_MAC = "ff:ff:ff:ff:ff:ff", "33:33:00:00:00:01"
ABI = Abi.from_object(OBJECT)
# Not the program's: tests/netns/test_queue_drops.py shows them.
QUEUES = ("DROP_BANDWIDTH_FROM_VM", "DROP_BANDWIDTH_TO_VM", "DROP_NOT_TAKEN_TO_VM")
REASONS = [
    member.name
    for member in ABI.enum("drop_reason")
    if member.name not in ("DROP_NONE", "DROP_REASON_COUNT", *QUEUES)
]


def no_change(world: World) -> None:
    """Most reasons need a frame alone."""


@dataclass(frozen=True)
class Case:
    """A frame that is dropped, at which stage, after which change of the rows and
    which frame before it. ``told``: its sender gets an ICMP error. ``blamed``: the
    port whose rules or limits it breaks, when that is not the sender."""

    frame: Packet | bytes
    stage: str
    device: str = "web1"
    change: Callable[[World], None] = no_change
    told: bool = False
    blamed: str | None = None
    earlier: Packet | None = None

    @property
    def counted_at(self) -> str:
        return self.blamed or self.device

    def prepare(self, board: Switchboard) -> None:
        self.change(board.world)
        if self.earlier:
            assert board.run(self.device, self.earlier).verdict == TC_ACT_REDIRECT


def arp(target: str, sender: str = WEB1.ipv4) -> Packet:
    return Ether(src=WEB1.mac, dst=BROADCAST) / ARP(hwsrc=WEB1.mac, psrc=sender, pdst=target)


def nd(message: Packet) -> Packet:
    ip = IPv6(src=WEB1.ipv6, dst="ff02::1", hlim=255)
    return Ether(src=WEB1.mac, dst=ALL_NODES_MAC) / ip / message


def udp(source_port: int, destination_port: int) -> Packet:
    ip = IP(src=WEB1.ipv4, dst=WEB2.ipv4)
    datagram = UDP(sport=source_port, dport=destination_port) / Raw(bytes(60))
    return Ether(src=WEB1.mac, dst=WEB2.mac) / ip / datagram


def spoofed_mac() -> Packet:
    frame = switched(WEB1, WEB2, 4)
    frame.src = WEB2.mac
    return frame


def to_web2(source: str = WEB1.ipv4, mac: str = WEB2.mac) -> Packet:
    return Ether(src=WEB1.mac, dst=mac) / l3(4, source, WEB2.ipv4) / l4("tcp", 4)


def without_router_interface(world: World) -> None:
    """Rows that contradict each other: what a failing helper looks like."""
    world.delete("router_interfaces", {"router": MAIN, "network": DB.vni})


NEVER = 3600 * 10**9  # ns until a used up rate has recovered


def use_up(world: World, slot: int, rate: str) -> None:
    world.put("paces", slot, {rate: time.clock_gettime_ns(time.CLOCK_MONOTONIC) + NEVER})


def without_from_vm_rules(world: World) -> None:
    write_group(world, 2, [rule for rule in anything() if rule.direction == "TO_VM"])
    world.write_port(WEB1, groups=[2])


def without_to_vm_rules(world: World) -> None:
    write_group(world, 2, [Rule(9, "TO_VM", 4, TCP_NUMBER, ports=(1, 52))])
    world.write_port(WEB2, groups=[2])


def with_one_connection(world: World) -> None:
    world.write_port(WEB1, connections_max=1)


def with_used_up_rate_from_web1(world: World) -> None:
    world.write_port(WEB1, from_vm_packet_ns=1000, packet_burst=10)
    use_up(world, WEB1.slot, "from_vm")


def with_used_up_rate_to_web2(world: World) -> None:
    world.write_port(WEB2, to_vm_packet_ns=1000, packet_burst=10)
    use_up(world, WEB2.slot, "to_vm")


def with_used_up_floods(world: World) -> None:
    use_up(world, WEB1.slot, "flood")


def with_foreign_members(world: World) -> None:
    """Somebody behind one of them may have what nobody else has."""
    flags = world.datapath.abi.bits("tunnel_network_flag", ["TUNNEL_LEARN"])
    world.put("tunnel_networks", DB.vni, {"mtu": DB.mtu, "flags": flags})


def tcp(flags: str) -> Packet:
    ip = IP(src=WEB1.ipv4, dst=WEB2.ipv4)
    return Ether(src=WEB1.mac, dst=WEB2.mac) / ip / TCP(sport=7, dport=8, flags=flags)


def later_fragment() -> Packet:
    ip = IP(src=WEB1.ipv4, dst=WEB2.ipv4, proto=17, id=5, frag=10)
    return Ether(src=WEB1.mac, dst=WEB2.mac) / ip / Raw(bytes(64))


ELSEWHERE = {
    "DROP_FLOW_TABLE_FULL",  # test_usage.py
    # What comes from another host: test_tunnel_*.py
    "DROP_UNKNOWN_VTEP",
    "DROP_UNKNOWN_VNI",
    "DROP_TUNNEL_MALFORMED",
    "DROP_NO_VTEP",
    "DROP_TUNNEL_LOOP",
    "DROP_TUNNEL_MTU",
}
CASES = {
    "DROP_UNKNOWN_PORT": Case(switched(WEB1, WEB2, 4), "STAGE_PARSE", device=STRANGER),
    "DROP_MALFORMED": Case(bytes(switched(WEB1, WEB2, 4))[:-1], "STAGE_PARSE"),
    "DROP_VLAN_TAGGED": Case(
        Ether(src=WEB1.mac, dst=WEB2.mac) / Dot1Q(vlan=7) / switched(WEB1, WEB2, 4)[IP],
        "STAGE_PARSE",
    ),
    "DROP_UNSUPPORTED_ETHERTYPE": Case(
        Ether(src=WEB1.mac, dst=WEB2.mac, type=0x88CC) / Raw(bytes(46)), "STAGE_PARSE"
    ),
    "DROP_SOURCE_MAC": Case(spoofed_mac(), "STAGE_GUARD"),
    "DROP_SOURCE_IP": Case(to_web2(source="172.17.17.77"), "STAGE_GUARD"),
    "DROP_ARP_SPOOF": Case(arp(WEB2.ipv4, sender=MAIN_WEB.ipv4), "STAGE_GUARD"),
    "DROP_ND_SPOOF": Case(nd(ICMPv6ND_NA(tgt=WEB2.ipv6)), "STAGE_GUARD"),
    "DROP_DHCP_SERVER": Case(udp(67, 68), "STAGE_GUARD"),
    "DROP_ROUTER_ADVERTISEMENT": Case(nd(ICMPv6ND_RA()), "STAGE_GUARD"),
    "DROP_ARP_UNKNOWN": Case(arp("172.17.17.99"), "STAGE_ANSWER"),
    "DROP_ND_UNKNOWN": Case(nd(ICMPv6ND_NS(tgt="fd00:17::99")), "STAGE_ANSWER"),
    "DROP_DHCP_INVALID": Case(udp(68, 67), "STAGE_ANSWER"),
    "DROP_UNKNOWN_MAC": Case(to_web2(mac="fa:16:3e:00:00:99"), "STAGE_SWITCH"),
    "DROP_TO_ITSELF": Case(to_web2(mac=WEB1.mac), "STAGE_SWITCH"),
    "DROP_LINK_RESERVED": Case(to_web2(mac="01:80:c2:00:00:02"), "STAGE_SWITCH"),
    "DROP_NO_ROUTE": Case(to_router(WEB1, MAIN_WEB, "8.8.8.8"), "STAGE_ROUTE", told=True),
    "DROP_NO_NEIGHBOR": Case(to_router(WEB1, MAIN_WEB, "fd00:db::99"), "STAGE_ROUTE", told=True),
    "DROP_NEIGHBOR_ASKED": Case(
        to_router(WEB1, MAIN_WEB, "192.168.0.99"), "STAGE_ROUTE", change=with_foreign_members
    ),
    "DROP_BLACKHOLE": Case(to_router(WEB1, MAIN_WEB, "10.9.66.1"), "STAGE_ROUTE"),
    "DROP_TTL_EXCEEDED": Case(
        to_router(WEB1, MAIN_WEB, "192.168.0.2", ttl=1), "STAGE_ROUTE", told=True
    ),
    "DROP_TOO_BIG": Case(
        to_router(WEB1, MAIN_WEB, FAR1.ipv6) / Raw(bytes(1250)), "STAGE_ROUTE", told=True
    ),
    "DROP_ROUTED_MULTICAST": Case(to_router(WEB1, MAIN_WEB, "224.0.0.9"), "STAGE_ROUTE"),
    "DROP_ROUTER_SERVICE": Case(to_router(WEB1, MAIN_WEB, MAIN_WEB.ipv4, "tcp"), "STAGE_ROUTE"),
    "DROP_ROUTE_LOOP": Case(to_router(WEB1, MAIN_WEB, "10.66.0.1"), "STAGE_ROUTE"),
    "DROP_POLICY_FROM_VM": Case(
        switched(WEB1, WEB2, 4), "STAGE_POLICY", change=without_from_vm_rules
    ),
    "DROP_POLICY_TO_VM": Case(
        switched(WEB1, WEB2, 4), "STAGE_POLICY", change=without_to_vm_rules, blamed="web2"
    ),
    "DROP_CONNECTION_INVALID": Case(tcp("SA"), "STAGE_POLICY"),
    "DROP_FRAGMENT_ORPHAN": Case(later_fragment(), "STAGE_POLICY"),
    "DROP_CONNECTION_LIMIT": Case(
        switched(WEB1, WEB2, 4, "tcp"),
        "STAGE_POLICY",
        change=with_one_connection,
        earlier=switched(WEB1, WEB2, 4),
    ),
    "DROP_PACKET_RATE_FROM_VM": Case(
        switched(WEB1, WEB2, 4), "STAGE_FLOW", change=with_used_up_rate_from_web1
    ),
    "DROP_PACKET_RATE_TO_VM": Case(
        switched(WEB1, WEB2, 4), "STAGE_DELIVER", change=with_used_up_rate_to_web2, blamed="web2"
    ),
    "DROP_FLOOD_LIMIT": Case(
        Ether(src=WEB1.mac, dst=BROADCAST) / l3(4, WEB1.ipv4, "255.255.255.255") / l4("udp", 4),
        "STAGE_DELIVER",
        change=with_used_up_floods,
    ),
    "DROP_INTERNAL": Case(
        to_router(WEB1, MAIN_WEB, "192.168.0.2"), "STAGE_ROUTE", change=without_router_interface
    ),
}


@pytest.fixture(params=[name for name in REASONS if name not in ELSEWHERE])
def reason(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    assert name in CASES, f"{name} of bpf/shared/abi.h has no case in {__file__}"
    return name


def drop(board: Switchboard, case: Case) -> int:
    """Send the case's frame once; returns the verdict."""
    return board.run(case.device, case.frame).verdict


def test_counter(board: Switchboard, reason: str) -> None:
    case = CASES[reason]
    case.prepare(board)
    verdict = drop(board, case)
    assert verdict == (TC_ACT_REDIRECT if case.told else TC_ACT_SHOT)
    size = len(bytes(case.frame))
    counted = {name: board.drop_count(case.counted_at, name) for name in REASONS}
    assert counted.pop(reason) == {"packets": 1, "bytes": size}
    assert all(count["packets"] == 0 for count in counted.values())
    drop(board, case)
    assert board.drop_count(case.counted_at, reason) == {"packets": 2, "bytes": 2 * size}


def test_event(board: Switchboard, reason: str) -> None:
    case, frame = CASES[reason], bytes(CASES[reason].frame)
    case.prepare(board)
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    drop(board, case)
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    (event,) = board.dropped_events()
    captured = frame[: ABI.value("EVENT_CAPTURE_BYTES")]
    assert before <= event.pop("time") <= after
    assert event == {
        "kind": ABI.value("EVENT_DROP"),
        "reason": ABI.value(reason),
        "ifindex": board.devices[case.counted_at].ifindex,
        "from_ifindex": board.devices[case.device].ifindex,
        "length": len(frame),
        "network": 0,
        "vtep": bytes(16),
        "stage": ABI.value(case.stage),
        "captured": len(captured),
        "frame": captured.ljust(ABI.value("EVENT_CAPTURE_BYTES"), b"\0"),
    }


def test_trace_tells_it_and_changes_nothing(board: Switchboard, reason: str) -> None:
    """``Switchboard.trace`` compares flows, counters, budgets and events."""
    case = CASES[reason]
    case.prepare(board)
    told = board.trace(case.device, case.frame)
    assert told.drop_reason == ABI.value(reason)
    device = board.devices[case.device].ifindex
    assert (told.blamed_ifindex or device) == board.devices[case.counted_at].ifindex
    stages = [stage.name for stage, decision in told.decisions if decision.name == "DECISION_DROP"]
    assert stages == [case.stage]
    assert told.verdict == drop(board, case)
    assert board.trace(case.device, case.frame).drop_reason == ABI.value(reason)


def test_every_case_is_a_reason() -> None:
    assert set(CASES) | ELSEWHERE == set(REASONS)


# ---- events are samples ------------------------------------------------------------


def test_a_flood_of_drops_is_sampled(board: Switchboard) -> None:
    """The counter sees each, the ring buffer one in 100 ms for each CPU."""
    frame, packets = bytes(CASES["DROP_UNKNOWN_MAC"].frame), 2000
    started = time.monotonic()
    for _ in range(packets):
        board.run("web1", frame)
    intervals = (time.monotonic() - started) / 0.1 + 1
    assert board.drop_count("web1", "DROP_UNKNOWN_MAC")["packets"] == packets
    cpus = len(board.datapath.table("counters").get(bytes(4)) or [])
    assert 1 <= len(board.dropped_events()) <= cpus * (intervals + 1)


def test_each_reason_and_device_is_sampled_by_itself(board: Switchboard) -> None:
    for name in ("DROP_UNKNOWN_MAC", "DROP_NO_ROUTE", "DROP_UNKNOWN_PORT"):
        drop(board, CASES[name])
    assert len(board.dropped_events()) == 3


# ---- trace on what is not dropped ----------------------------------------------------

HARMLESS = {
    "switched": switched(WEB1, WEB2, 4),
    "routed": to_router(WEB1, MAIN_WEB, "192.168.0.2"),
    "flooded": Ether(src=WEB1.mac, dst=BROADCAST) / l3(4, WEB1.ipv4, "255.255.255.255") / TCP(),
    "answered": arp(WEB2.ipv4),
    "pinged": to_router(WEB1, MAIN_WEB, MAIN_WEB.ipv6, "echo"),
    "consumed": arp(WEB1.ipv4),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_trace_of_what_passes_changes_nothing(board: Switchboard, name: str) -> None:
    """Not even a copy of a flooded frame leaves."""
    assert board.trace("web1", HARMLESS[name]).drop_reason is None
    assert all(device.read_all() == [] for device in board.devices.values())


def test_mark_does_not_come_from_a_guest(board: Switchboard) -> None:
    """Frames of a TAP have no mark, so no guest can have its frames not counted."""
    board.devices["web1"].write(bytes(HARMLESS["switched"]))
    assert board.counters(WEB1.slot)["from_vm_packets"] == 1


# ---- nothing is dropped without a word -------------------------------------------------


def mutations(frame: bytes) -> Iterator[bytes]:
    """Each byte behind the MACs in turn takes several values."""
    for position in range(12, min(len(frame), 90)):
        for value in {0, 1, 0x45, 0x60, 0x80, 0xFF} - {frame[position]}:
            yield frame[:position] + bytes([value]) + frame[position + 1 :]


def all_drops(board: Switchboard) -> int:
    return sum(each["packets"] for _, cpus in board.per_cpu_rows("drops") for each in cpus)


@pytest.mark.parametrize("name", [*CASES, *HARMLESS])
def test_whatever_a_byte_becomes_it_is_told(board: Switchboard, name: str) -> None:
    """Every frame is delivered, answered, copied, consumed, or dropped and counted."""
    original = bytes(CASES[name].frame if name in CASES else HARMLESS[name])
    dropped = 0
    for frame in mutations(original):
        verdict = board.run("web1", frame).verdict
        before, dropped = dropped, all_drops(board)
        if verdict == TC_ACT_SHOT and dropped == before:
            told = trace(board.datapath, frame, board.devices["web1"].ifindex)
            decisions = {decision.name for _, decision in told.decisions}
            assert decisions & {"DECISION_CONSUMED", "DECISION_DELIVER_COPIES"}, frame.hex(" ")
    assert board.drop_count("web1", "DROP_INTERNAL")["packets"] == 0
    web = {nic.slot for nic in NICS if nic.network is WEB1.network}
    decided = [flow for _, flow in board.flows() if flow["ifindex"]]
    strays = [flow for flow in decided if flow["to_slot"] not in web and not flow["hops"]]
    assert strays == [], "into another network without a router"
