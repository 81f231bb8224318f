"""Frames through the real program: BPF_PROG_TEST_RUN on real devices.

Every frame that a test sends runs three times: traced, and then twice as it
is, so that each test also shows that a trace tells the truth and changes
nothing, and that the second packet of a flow fares as the first.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
from packet_diff import assert_same_frame
from packet_lab import Device, Lab
from packet_rules import RECEIVES, SENDS, anything, write_group
from packet_tunnel import TABLES as TUNNEL_TABLES
from packet_tunnel import Tunnel, Underlay, make_underlay, write_hosts
from packet_world import CONTAINERS, DB1, NICS, STRANGER, WEB1, World
from scapy.packet import Packet

from heddle.datapath.flows import Connection, read_connections
from heddle.datapath.loader import Datapath
from heddle.datapath.tables import RingBuffer
from heddle.datapath.testrun import TestRun, run
from heddle.datapath.trace import Trace, trace
from heddle.paths import pin_dir

TC_ACT_SHOT, TC_ACT_REDIRECT = 2, 7
# What the data plane writes: with keys of its own, and by counter slot.
DATA = (
    *("flows", "fragments", "drops", "learned_addresses", "learned_macs", "seen_ways"),
    *("open_addresses", "open_macs", "learned_slots", "learned_counts"),
    *("foreign_budgets", "asked_neighbors"),
)
BY_SLOT = ("counters", "icmp_budgets", "paces", "usage")
SLOTS = 16  # counter slots that the world uses
OWN_TABLES = (
    "ports",
    "macs",
    "addresses",
    "source_prefixes",
    "router_interfaces",
    "routes",
    "policy_groups",
    "policy_remotes",
    "policy_rules",
    "sets",
    "set_members",
    "dhcp4_templates",
    "dhcp6_templates",
    "ra_templates",
    "open_networks",
    *TUNNEL_TABLES,
    *DATA,
)


@dataclass
class Sent:
    """What became of a frame: to which device or host (None: dropped), as what."""

    to: str | None
    frame: bytes
    reason: str | None
    verdict: int
    trace: Trace

    def arrives(self, device: str, expected: Packet | bytes) -> None:
        """It goes to this device as this frame, to the byte."""
        assert (self.to, self.reason) == (device, None)
        assert_same_frame(self.frame, expected)

    def answers(self, device: str, expected: Packet | bytes) -> None:
        """It comes back to this device as this frame, whatever its drop reason."""
        assert self.to == device
        assert_same_frame(self.frame, expected)


@dataclass
class Switchboard:
    """The loaded program, the devices and the rows; sends frames."""

    datapath: Datapath
    devices: dict[str, Device]
    world: World
    events: RingBuffer
    lab: Lab
    pin: str
    underlay: Underlay
    _seen: list[dict[str, Any]] = field(default_factory=list)

    def send(self, device: str, frame: Packet | bytes, **context: int) -> Sent:
        """Run a frame from a device's guest through the program. With
        ``gso_size`` and ``gso_segments`` as one that the guest did not cut."""
        sent = self.send_once(device, frame, **context)
        again = self.run(device, frame, **context)
        assert (again.verdict, again.frame) == (sent.verdict, sent.frame), "second packet differs"
        return sent

    def send_once(self, device: str, frame: Packet | bytes, **context: int) -> Sent:
        """The same without a second packet, for what changes a connection."""
        raw = bytes(frame)
        told = self.trace(device, raw, gso_size=context.get("gso_size", 0))
        first = self.run(device, raw, **context)
        assert (told.verdict, told.frame_out) == (first.verdict, first.frame), "the trace lied"
        assert first.verdict in (TC_ACT_SHOT, TC_ACT_REDIRECT)
        reason = told.drop_reason.name if told.drop_reason else None
        to = self.receiver(told) if first.verdict == TC_ACT_REDIRECT else None
        return Sent(to, first.frame, reason, first.verdict, told)

    def run(self, device: str, frame: Packet | bytes, **context: int) -> TestRun:
        """Run a frame once, untraced."""
        ifindex = self.devices[device].ifindex
        return run(self.datapath.from_vm.fd, bytes(frame), ifindex=ifindex, **context)

    def trace(self, device: str, frame: Packet | bytes, *, gso_size: int = 0) -> Trace:
        """Trace a frame; fails when that changed anything."""
        before = self.state()
        told = trace(self.datapath, bytes(frame), self.devices[device].ifindex, gso_size=gso_size)
        assert self.state() == before, "a traced packet changed the state"
        return told

    def state(self) -> dict[str, Any]:
        """All that packets change: flows and their usage, counters, budgets, events."""
        table = self.datapath.table
        slots = [slot.to_bytes(4, "little") for slot in range(SLOTS)]
        drop = self.world.value("EVENT_DROP").to_bytes(4, "little")
        records = [record for record in self.events.consume() if record.startswith(drop)]
        self._seen += map(self.datapath.abi.codec("drop_event").unpack, records)
        return {
            **{name: dict(table(name).items()) for name in DATA},
            "total_usage": table("total_usage").get(bytes(4)),
            **{name: [table(name).get(slot) for slot in slots] for name in BY_SLOT},
            "events": len(self._seen),
        }

    def dropped_events(self) -> list[dict[str, Any]]:
        """All drop events so far."""
        self.state()
        return self._seen

    def device_name(self, ifindex: int) -> str:
        if ifindex & self.world.value("TUNNEL_ZONE"):
            return "tunnel"
        return next(name for name, d in self.devices.items() if d.ifindex == ifindex)

    def receiver(self, told: Trace) -> str:
        """Name of the device or of the other host that would get a traced frame."""
        return f"host {told.envelope.host}" if told.envelope else self.device_name(told.to_ifindex)

    # ---- what the tables hold ------------------------------------------

    def rows(self, table: str) -> list[tuple[Any, Any]]:
        key, value = self.datapath.abi.table_types(table)
        entries = self.datapath.table(table).items()
        return [(key.unpack(k), value.unpack(v)) for k, v in entries]

    def per_cpu_rows(self, table: str) -> list[tuple[Any, list[Any]]]:
        key, value = self.datapath.abi.table_types(table)
        entries = self.datapath.table(table).items()
        return [(key.unpack(k), [value.unpack(each) for each in v]) for k, v in entries]

    def flows(self) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        return self.rows("flows")

    def connections(self) -> list[Connection]:
        """Both directions of each put together."""
        return list(read_connections(self.datapath))

    def connection(self) -> Connection:
        """The only one that there is."""
        (connection,) = self.connections()
        return connection

    def usage(self, slot: int) -> int:
        """Connections that count for a port."""
        return dict(self.rows("usage"))[slot]["connections"]  # type: ignore[no-any-return]

    def counters(self, slot: int) -> dict[str, int]:
        """A port's counters, summed over the CPUs."""
        _, codec = self.datapath.abi.table_types("counters")
        values = self.datapath.table("counters").get(slot.to_bytes(4, "little")) or []
        rows = [codec.unpack(value) for value in values]
        return {name: sum(row[name] for row in rows) for name in rows[0]}

    def drop_count(self, device: str, reason: str) -> dict[str, int]:
        """Packets and bytes of a device dropped for a reason."""
        return self.drop_count_of(self.devices[device], reason)

    def drop_count_of(self, device: Device, reason: str) -> dict[str, int]:
        """The same of a device that a test made itself."""
        key, value = self.datapath.abi.table_types("drops")
        row = {"ifindex": device.ifindex, "reason": self.datapath.abi.value(reason)}
        values = self.datapath.table("drops").get(key.pack(row)) or []
        rows = [value.unpack(each) for each in values]
        return {name: sum(row[name] for row in rows) for name in ("packets", "bytes")}

    def total_usage(self) -> int:
        """Connections that count for all ports."""
        return dict(self.rows("total_usage"))[0]["connections"]  # type: ignore[no-any-return]

    # ---- between tests --------------------------------------------------

    def reset(self) -> None:
        """The world as written, nothing remembered."""
        for name in OWN_TABLES:
            table = self.datapath.table(name)
            table.delete_many(key for key, _ in list(table.items()))
        self.world.put("total_usage", 0, {"connections": 0})
        for name in BY_SLOT:
            table = self.datapath.table(name)
            for slot in range(SLOTS):
                table.put(slot.to_bytes(4, "little"), bytes(table.value_size))
        self.world.write()
        self.state()
        self._seen.clear()
        for device in (*self.devices.values(), self.underlay.wire):
            device.read_all()


@pytest.fixture(scope="session")
def session_board() -> Iterator[Switchboard]:
    host = f"packets-{os.getpid()}-{secrets.token_hex(4)}"
    with ExitStack() as stack:
        lab = Lab(stack)
        stack.callback(Datapath.unpin, host)
        datapath = Datapath.load(host)
        stack.callback(datapath.close)
        events = datapath.ring_buffer("events")
        stack.callback(events.close)
        names = [nic.name for nic in NICS] + [STRANGER]
        containers = {nic.name for nic in CONTAINERS}
        devices = {name: lab.veth() if name in containers else lab.tap() for name in names}
        pin = str(pin_dir(host) / "from_vm")
        for device in devices.values():
            lab.attach(device.name, pin)
        world = World(datapath, {name: device.ifindex for name, device in devices.items()})
        underlay = make_underlay(lab, str(pin_dir(host) / "from_tunnel"))
        board = Switchboard(datapath, devices, world, events, lab, pin, underlay)
        with lab.away():  # tests of other folders come before the end of the session
            yield board


@pytest.fixture
def board(session_board: Switchboard) -> Iterator[Switchboard]:
    """The world as packet_world describes it, nothing sent yet."""
    with session_board.lab.entered():
        session_board.reset()
        yield session_board


@pytest.fixture
def send(board: Switchboard) -> Callable[..., Sent]:
    return board.send


@pytest.fixture
def world(board: Switchboard) -> World:
    return board.world


@pytest.fixture
def tunnel(board: Switchboard) -> Tunnel:
    """Other hosts, and the rows about them."""
    write_hosts(board.world, board.underlay)
    return Tunnel(board, board.underlay.wire, board.underlay.vxlan)


@pytest.fixture
def strict(board: Switchboard) -> Switchboard:
    """web1 may only send and db1 only be sent to, so that all that db1 sends passes
    because of a connection or not at all."""
    write_group(board.world, SENDS, [r for r in anything() if r.direction == "FROM_VM"])
    write_group(board.world, RECEIVES, [r for r in anything() if r.direction == "TO_VM"])
    board.world.write_port(WEB1, groups=[SENDS])
    board.world.write_port(DB1, groups=[RECEIVES])
    return board
