"""The real thing beside the model: intent compiled, written to real maps, and
frames run through the loaded program.

A fixed set of devices serves one topology after the other; which port has which
device is known to the rows alone. One more stands for the shaper: what is sent
into it comes out of it at once.
"""

from __future__ import annotations

import os
import secrets
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from foreign_wire import FOREIGN_HOST, FOREIGN_VTEP, VTEP, Underlay, envelope, open_envelope
from packet_lab import Device, Lab
from packet_lab import run as run_command

from heddle.applier.packer import RowPacker
from heddle.applier.slots import CounterSlots
from heddle.compiler.fragment import Limits
from heddle.compiler.host import Compiler
from heddle.compiler.state import TABLE_ORDER, CounterSlot, PortRow, RowKey
from heddle.datapath.loader import Datapath
from heddle.datapath.testrun import run
from heddle.intent.model import VXLAN_PORT, AnyResource, Machine, Port
from heddle.intent.names import SHAPER, TUNNEL, tap_name, veth_name
from heddle.paths import pin_dir

HOST = "h1"
TAPS, VETHS = 9, 2
STRANGER = "no port"
TC_ACT_SHOT, TC_ACT_REDIRECT = 2, 7
LEARNED = (
    *("learned_addresses", "learned_macs"),
    *("open_addresses", "open_macs", "learned_slots", "learned_counts"),
    *("asked_neighbors", "foreign_budgets"),
)
_TRACE_SLOT = 63  # not the one of `heddle trace`


@dataclass(frozen=True)
class Observed:
    """What the data plane said about a frame. ``to``: where it was sent, None:
    nowhere. ``copies``: frames that other devices got by flooding."""

    to: str | None
    frame: bytes
    reason: str | None
    blamed: str | None
    copies: tuple[tuple[str, bytes], ...]
    rules: tuple[int, int]
    state: str | None
    path: tuple[str, ...]


@dataclass(frozen=True)
class Arrived:
    """What became of a frame that the foreign host sent: who got what, and drops by
    port and reason."""

    copies: tuple[tuple[str, bytes], ...]
    drops: Counter[tuple[str, str]]


@dataclass
class Tally:
    """Counters as the model has them, and as the data plane has them."""

    sent: Counter[str]
    received: Counter[str]
    drops: Counter[tuple[str, str]]


class ModelBoard:
    def __init__(
        self,
        datapath: Datapath,
        taps: list[Device],
        veths: list[Device],
        shaper: Device,
        underlay: Underlay,
    ) -> None:
        self.datapath = datapath
        self._shaper = shaper
        self._underlay = underlay
        self._pools = {"vm": taps, "container": veths}
        abi = datapath.abi
        self._limits = Limits(
            dhcp_options=abi.value("DHCP_OPTIONS_MAX"),
            ra_message=abi.value("RA_OPTIONS_MAX"),
            groups=abi.value("GROUPS_MAX"),
            sets=abi.value("POLICY_SETS_MAX"),
        )
        self._records = datapath.table("traces")
        self._record_codec = abi.codec("trace_record")
        self._record_key = _TRACE_SLOT.to_bytes(4, "little")
        self.rule_open = (1 << 32) - 1  # RULE_OPEN of rules.h: none is needed
        self._mark = abi.value("TRACE_MARK") | _TRACE_SLOT
        self._reasons = {int(member): member.name for member in abi.enum("drop_reason")}
        self._states = {int(m): m.name for m in abi.enum("connection_state")}
        self._decisions = {int(m): m.name for m in abi.enum("decision")}
        self.devices: dict[str, Device] = {}  # by port
        self._ports: dict[int, str] = {}  # by ifindex
        self._slots: dict[str, int] = {}  # counter slot by port
        self._shaped: set[str] = set()

    # ---- intent ------------------------------------------------------------------

    def load(self, objects: Iterable[AnyResource]) -> None:
        """Write the rows of this intent; forget all that packets left behind."""
        self._clear()
        self._compiler = Compiler(HOST, self._limits)
        objects = list(objects)
        self._plug(objects)
        delta = self._compiler.update((o.kind, o.id, o) for o in objects)
        assert not self._compiler.errors, self._compiler.errors
        self._counter_slots = CounterSlots(self.datapath.abi.value("COUNTER_SLOTS"))
        self._write(self._compiler.state.rows)
        for vni in delta.touched:
            self._advance_epoch(vni)

    def change(self, before: AnyResource | None, after: AnyResource | None) -> None:
        """One object becomes another (None: is not there) as the applier does it."""
        some = after or before
        assert some is not None
        delta = self._compiler.update([(some.kind, some.id, after)])
        self._write({key: row for key, row in delta.rows.items() if row is not None})
        gone = [key for key, row in delta.rows.items() if row is None]
        for key in sorted(gone, key=lambda key: -TABLE_ORDER.index(key.table)):
            self.datapath.table(key.table).delete(self._packer().key(key.table, key.key))
        for vni in delta.touched:
            self._advance_epoch(vni)

    def _plug(self, objects: list[AnyResource]) -> None:
        machines = {o.id: o for o in objects if isinstance(o, Machine)}
        pools = {kind: iter(devices) for kind, devices in self._pools.items()}
        self.devices = {}
        self._indexes = {SHAPER: self._shaper.ifindex, TUNNEL: self._underlay.vxlan.ifindex}
        for port in objects:
            if isinstance(port, Port):
                kind = machines[port.machine_id].machine_kind
                device = self.devices[port.id] = next(pools[kind])
                name = tap_name(port.id) if kind == "vm" else veth_name(port.id)
                self._indexes[name] = device.ifindex
        self._ports = {device.ifindex: port for port, device in self.devices.items()}

    def _packer(self) -> RowPacker:
        rows = self._compiler.state.rows
        return RowPacker(self.datapath.abi, self._indexes, self._counter_slots, rows)

    def _write(self, rows: dict[RowKey, Any]) -> None:
        packer = self._packer()
        tables: dict[str, list[tuple[bytes, bytes]]] = {table: [] for table in TABLE_ORDER}
        for key, row in rows.items():
            tables[key.table].append((packer.key(key.table, key.key), packer.value(key, row)))
            if isinstance(row, PortRow):
                port = self._ports[self._indexes[str(key.key)]]
                self._slots[port] = self._counter_slots.slot_of(CounterSlot(row.counter_slot))
                self._shaped |= {port} if row.shaper else set()
        for table, entries in tables.items():
            if entries:
                self.datapath.table(table).put_many(entries)

    def _advance_epoch(self, vni: int) -> None:
        slot = (vni % self.datapath.abi.value("EPOCH_SLOTS")).to_bytes(4, "little")
        table = self.datapath.table("epochs")
        epoch = int.from_bytes(table.get(slot) or b"", "little") + 2
        table.put(slot, epoch.to_bytes(4, "little"))

    def intent_rows(self) -> dict[str, int]:
        """A number per table that differs when its content does."""
        return {table: self.datapath.table(table).digest() for table in TABLE_ORDER}

    # ---- between topologies, and batches of frames -----------------------------------

    def _clear(self) -> None:
        for name in (*TABLE_ORDER, "flows", "fragments", "drops", *LEARNED):
            table = self.datapath.table(name)
            table.delete_many(key for key, _ in list(table.items()))
        self._zero("total_usage", [0])
        for name in ("counters", "usage"):
            self._zero(name, self._slots.values())
        self.refill()
        self._slots, self._shaped = {}, set()
        for _ in self.copies():
            pass

    def refill(self) -> None:
        """Give every port its budgets back."""
        for name in ("icmp_budgets", "paces"):
            self._zero(name, self._slots.values())

    def _zero(self, name: str, slots: Iterable[int]) -> None:
        table = self.datapath.table(name)
        for slot in slots:
            table.put(slot.to_bytes(4, "little"), bytes(table.value_size))

    # ---- packets -----------------------------------------------------------------------

    def now(self) -> float:
        return time.clock_gettime(time.CLOCK_MONOTONIC)

    def send(self, port: str, frame: bytes, gso_size: int = 0) -> Observed:
        """Trace the frame, then send it."""
        self._records.put(self._record_key, bytes(self._record_codec.size))
        self.run(port, frame, gso_size, mark=self._mark)
        record = self._record_codec.unpack(self._records.get(self._record_key) or b"")
        verdict, sent = self.run(port, frame, gso_size)
        if verdict == TC_ACT_REDIRECT and self._is_shaped(port, record):
            verdict, sent = self._pass_shaper(port, sent, gso_size, record["to_ifindex"])
        reason, state = record["drop_reason"], record["connection_state"]
        return Observed(
            to=self._receiver(record) if verdict == TC_ACT_REDIRECT else None,
            frame=sent,
            reason=self._reasons[reason] if reason else None,
            blamed=self._ports[record["blamed_ifindex"] or self.devices[port].ifindex],
            copies=tuple(self.copies()) if verdict == TC_ACT_SHOT else (),
            rules=(record["from_rule"], record["to_rule"]),
            state=self._states[state - 1] if state else None,
            path=tuple(self._decisions[number] for number in record["decisions"]),
        )

    def _receiver(self, record: dict[str, Any]) -> str | None:
        if record["to_host"]:
            return f"{FOREIGN_HOST} {record['to_network']}"
        return self._ports.get(record["to_ifindex"])

    def arrive(self, vni: int, frame: bytes) -> Arrived:
        """The foreign host sends the frame, in an envelope."""
        before = self._drops()
        self._underlay.wire.write(envelope(vni, frame))
        copies = tuple(self.copies())
        return Arrived(copies, self._drops() - before)

    def _is_shaped(self, port: str, record: dict[str, Any]) -> bool:
        """Does the frame go through the shaper? What goes back to the sender does not."""
        device = self.devices[port].ifindex
        return port in self._shaped and record["to_ifindex"] != device

    def at_shaper(self, frame: bytes, to: str | None) -> bytes | None:
        """A frame at the shaper's end, for a port that it was decided to go to, or
        with no mark at all. None: it is dropped."""
        mark = 0
        if to is not None:
            device = self._shaper if to == STRANGER else self.devices[to]
            mark = self.datapath.abi.value("SHAPED_MARK") | device.ifindex
        verdict, sent = self.run_at(self._shaper, frame, 0, mark)
        return sent if verdict == TC_ACT_REDIRECT else None

    def _pass_shaper(self, port: str, frame: bytes, gso_size: int, to: int) -> tuple[int, bytes]:
        """The frame at the shaper's other end, marked as the data plane marks it."""
        abi = self.datapath.abi
        mark = abi.value("SHAPED_MARK") | to
        if not to:
            mark = abi.value("SHAPED_FLOOD_MARK") | self.devices[port].ifindex
        return self.run_at(self._shaper, frame, gso_size, mark)

    def run(self, port: str, frame: bytes, gso_size: int, mark: int = 0) -> tuple[int, bytes]:
        """Verdict and frame of one run."""
        return self.run_at(self.devices[port], frame, gso_size, mark)

    def run_at(
        self, device: Device, frame: bytes, gso_size: int = 0, mark: int = 0
    ) -> tuple[int, bytes]:
        """The same at any device."""
        result = run(
            self.datapath.from_vm.fd,
            frame,
            ifindex=device.ifindex,
            mark=mark,
            gso_size=gso_size,
            gso_segments=-(-len(frame) // gso_size) if gso_size else 0,
        )
        assert result.verdict in (TC_ACT_SHOT, TC_ACT_REDIRECT)
        return result.verdict, result.frame

    def copies(self) -> Iterator[tuple[str, bytes]]:
        """Frames that wait at the guests' ends of all devices, and on the way to the
        foreign host."""
        for port, device in self.devices.items():
            for frame in device.read_all():
                yield port, frame
        for frame in self._underlay.wire.read_all():
            if (opened := open_envelope(frame)) is not None:
                yield opened

    # ---- counters ------------------------------------------------------------------------

    def tally(self) -> Tally:
        """Since the topology was loaded: packets by port, drops by port and reason."""
        _, codec = self.datapath.abi.table_types("counters")
        sent, received = Counter[str](), Counter[str]()
        for port, slot in self._slots.items():
            for value in self.datapath.table("counters").get(slot.to_bytes(4, "little")) or ():
                row = codec.unpack(value)
                sent[port] += row["from_vm_packets"]
                received[port] += row["to_vm_packets"]
        return Tally(+sent, +received, self._drops())

    def _drops(self) -> Counter[tuple[str, str]]:
        key_codec, codec = self.datapath.abi.table_types("drops")
        drops = Counter[tuple[str, str]]()
        for key, values in self.datapath.table("drops").items():
            row = key_codec.unpack(key)
            name = self._ports.get(row["ifindex"], STRANGER), self._reasons[row["reason"]]
            drops[name] += sum(codec.unpack(value)["packets"] for value in values)
        return +drops


@contextmanager
def open_board() -> Iterator[ModelBoard]:
    """The program, loaded for this test alone, and devices in a namespace of its
    own, in which the caller then is."""
    host = f"model-{os.getpid()}-{secrets.token_hex(4)}"
    with ExitStack() as stack:
        lab = Lab(stack)
        stack.callback(Datapath.unpin, host)
        datapath = Datapath.load(host)
        stack.callback(datapath.close)
        taps = [lab.tap() for _ in range(TAPS)]
        veths = [lab.veth() for _ in range(VETHS)]
        for device in taps + veths:
            lab.attach(device.name, str(pin_dir(host) / "from_vm"))
        underlay = Underlay(lab.underlay([f"{VTEP}/24"], [FOREIGN_VTEP]), lab.vxlan(VXLAN_PORT))
        run_command("ip", "link", "set", underlay.wire.name, "mtu", "9000")  # whole envelopes
        lab.attach(underlay.vxlan.name, str(pin_dir(host) / "from_tunnel"))
        yield ModelBoard(datapath, taps, veths, lab.tap(), underlay)
