"""The rows of the tables: wanted, held by the kernel, and the way from one to
the other in an order that never shows a packet a dangling reference."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from heddle.applier.describe import describe, describe_key, owner
from heddle.applier.diff import TablePlan, diff_table
from heddle.applier.kernel import Kernel
from heddle.applier.order import Moves, has_rules, moves_between, steps
from heddle.applier.packer import MissingLinkError, RowPacker
from heddle.applier.report import Report, Verb
from heddle.applier.slots import CounterSlots
from heddle.compiler.state import TABLE_ORDER, Device, PortRow, RowKey, RowValue, Symbol
from heddle.compiler.symbols import STANDBY
from heddle.errors import KernelError

# Tables in whose rows an ifindex may stand.
_DEVICE_TABLES = frozenset(
    {"this_host", "addresses", "macs", "source_prefixes", "ports", "tunnel_networks"}
)


class Rows:
    """``indexes`` is shared with the links: device -> ifindex where in place."""

    def __init__(self, kernel: Kernel, indexes: Mapping[str, int]) -> None:
        self.wanted: dict[RowKey, RowValue] = {}
        self._kernel = kernel
        self._indexes = indexes
        self._slots = CounterSlots(kernel.abi.value("COUNTER_SLOTS"))
        self._packer = RowPacker(kernel.abi, indexes, self._slots, self.wanted)
        self._held: dict[str, dict[bytes, bytes]] = {table: {} for table in TABLE_ORDER}
        self._digests: dict[str, int] = {}
        self._failures: dict[RowKey, str] = {}
        self._stray_failures: dict[str, str] = {}  # by table

    # ---- what the kernel holds -------------------------------------------

    def read(self) -> None:
        """Take in all tables; counter slots are adopted from ``ports``."""
        for table in TABLE_ORDER:
            self._held[table] = self._kernel.read_table(table)
        key_codec, _ = self._kernel.abi.table_types("ports")
        devices = {index: device for device, index in self._indexes.items()}
        for key, value in self._held["ports"].items():
            device = devices.get(key_codec.unpack(key))
            if device is not None:
                slot = self._packer.unpack_value("ports", value)["counter_slot"]
                self._slots.adopt(device, slot)

    def altered(self) -> set[str]:
        """Tables that do not hold what was written, taken in anew."""
        return {table for table in TABLE_ORDER if self._is_altered(table)}

    def _is_altered(self, table: str) -> bool:
        digest = self._kernel.digest(table)
        if digest == self._digests.get(table):
            return False
        # Read after the digest: what is altered in between is seen now or next time.
        actual = self._kernel.read_table(table)
        if table == "ports":
            self._overlook_first_frames(actual)
        if actual == self._held[table]:
            self._digests[table] = digest
            return False
        self._held[table] = actual
        return True

    def _overlook_first_frames(self, ports: dict[bytes, bytes]) -> None:
        """That a port stands by no more is no damage: the data plane says so with its
        VM's first frame, until the agent does. To put that back would send what is for
        the VM to the host that it has left."""
        held = self._held["ports"]
        altered = [key for key in ports if key in held and ports[key] != held[key]]
        if not altered:
            return
        unpack = self._kernel.abi.table_types("ports")[0].unpack
        devices = {index: device for device, index in self._indexes.items()}
        for key in altered:
            row = RowKey("ports", Device(devices.get(unpack(key), "")))
            value = self.wanted.get(row)
            if isinstance(value, PortRow) and ports[key] == self._awake(row, value):
                ports[key] = held[key]

    def _awake(self, row: RowKey, port: PortRow) -> bytes | None:
        """The row of a port that stands by, as its first frame leaves it."""
        names = tuple(name for name in port.flags.names if name != STANDBY)
        if names == port.flags.names:
            return None
        return self._packer.value(row, port._replace(flags=Symbol(port.flags.enum, names)))

    # ---- what must be done -----------------------------------------------

    def want(self, changes: Mapping[RowKey, RowValue | None]) -> None:
        for row, value in changes.items():
            if value is None:
                self.wanted.pop(row, None)
                self._failures.pop(row, None)
            else:
                self.wanted[row] = value

    def failed(self) -> tuple[set[RowKey], set[str]]:
        """Rows and whole tables that must be tried again."""
        return set(self._failures), set(self._stray_failures)

    def affected(self, devices: Collection[str]) -> set[RowKey]:
        """Rows that can, or must, be written otherwise since these links are there."""
        if not devices:
            return set()
        found = set(self._failures)
        for device in self._packer.detours.keys() & devices:
            found |= self._packer.detours.pop(device)
        return found

    @staticmethod
    def device_tables() -> frozenset[str]:
        """What must be compared whole when a link has got another ifindex."""
        return _DEVICE_TABLES

    def plan(self, rows: Iterable[RowKey], tables: set[str]) -> dict[str, TablePlan]:
        """How to make these rows, and these tables as a whole, right."""
        plans = self._plan_tables(tables)
        for row in rows:
            if row.table not in tables:
                self._plan_row(plans.setdefault(row.table, TablePlan()), row)
        return {table: plans[table] for table in TABLE_ORDER if plans.get(table)}

    def _plan_tables(self, tables: set[str]) -> dict[str, TablePlan]:
        wanted: dict[str, dict[bytes, bytes]] = {table: {} for table in tables}
        origin: dict[str, dict[bytes, RowKey]] = {table: {} for table in tables}
        if tables:
            for row, value in self.wanted.items():
                packed = self._pack(row, value) if row.table in tables else None
                if packed is not None:
                    wanted[row.table][packed[0]] = packed[1]
                    origin[row.table][packed[0]] = row
        differences = {table: diff_table(wanted[table], self._held[table]) for table in tables}
        return {
            table: TablePlan(plan.new, plan.changed, plan.removed, origin[table])
            for table, plan in differences.items()
        }

    def _plan_row(self, plan: TablePlan, row: RowKey) -> None:
        held = self._held[row.table]
        value = self.wanted.get(row)
        if value is not None:
            packed = self._pack(row, value)
            if packed is not None:
                plan.want(*packed, held.get(packed[0]))
                plan.origin[packed[0]] = row
            return
        try:
            key = self._packer.key(row.table, row.key)
        except MissingLinkError:
            return  # then it was never written
        if key in held:
            plan.removed.append(key)
            plan.origin[key] = row

    def _pack(self, row: RowKey, value: RowValue) -> tuple[bytes, bytes] | None:
        """Key and value; None when that can't be done, which is noted."""
        try:
            packed = self._packer.key(row.table, row.key), self._packer.value(row, value)
        except KernelError as error:
            self._failures[row] = str(error)
            return None
        self._failures.pop(row, None)
        return packed

    # ---- doing it --------------------------------------------------------

    def write(self, plans: Mapping[str, TablePlan], report: Report) -> None:
        """In the order that ``order.py`` gives."""
        for table in plans:
            self._stray_failures.pop(table, None)
        self._clear_counters(report)
        for verb, table, plan in steps(plans, self._moves(plans), self._group_of):
            if verb == "-":
                self._remove(table, plan, report)
            else:
                self._put(verb, table, plan.new if verb == "+" else plan.changed, plan, report)

    def _moves(self, plans: Mapping[str, TablePlan]) -> Moves:
        """Of ports between security groups, when rules change as well."""
        if "ports" not in plans or not has_rules(plans):
            return Moves()
        unpack, held = self._packer.unpack_value, self._held["ports"]
        changed = plans["ports"].changed.items()
        return moves_between(
            (unpack("ports", held[key]), unpack("ports", value)) for key, value in changed
        )

    def _group_of(self, table: str, key: bytes) -> int:
        group: int = self._kernel.abi.table_types(table)[0].unpack(key)["group"]
        return group

    def slot_of(self, device: str) -> int:
        """A device's counter slot. KernelError when there are no more."""
        return self._slots.slot_of(device)

    def release_slots(self, rows: Iterable[RowKey]) -> None:
        """Give back the counters of ports that are wanted no more."""
        for row in rows:
            if row.table == "ports" and row not in self.wanted and isinstance(row.key, Device):
                self._slots.release(row.key)

    def pending(self) -> dict[str, str]:
        """Errors by device, or by row where there is none."""
        errors = {
            owner(row, self.wanted.get(row)): f"{describe(row)}: {error}"
            for row, error in self._failures.items()
        }
        return errors | {f"table {table}": text for table, text in self._stray_failures.items()}

    def _clear_counters(self, report: Report) -> None:
        fresh = self._slots.take_fresh()
        if fresh:
            try:
                self._kernel.clear_counters(fresh)
            except KernelError as error:  # counts of an earlier port are no reason to stop
                report.failures["counters"] = str(error)

    def _put(
        self, verb: Verb, table: str, rows: Mapping[bytes, bytes], plan: TablePlan, report: Report
    ) -> None:
        if not rows:
            return
        failures = self._kernel.write_rows(table, rows)
        self._note(table, plan, failures)
        held = self._held[table]
        if failures:
            rows = {key: value for key, value in rows.items() if key not in failures}
        held.update(rows)
        self._digests.pop(table, None)
        report.add_all(verb, table, rows, lambda key: describe_key(plan.origin[key].key))

    def _remove(self, table: str, plan: TablePlan, report: Report) -> None:
        if not plan.removed:
            return
        failures = self._kernel.delete_rows(table, plan.removed)
        self._note(table, plan, failures)
        removed = [key for key in plan.removed if key not in failures]
        for key in removed:
            self._held[table].pop(key, None)
        self._digests.pop(table, None)
        report.add_all("-", table, removed, lambda key: self._name_of(table, key, plan))

    def _note(self, table: str, plan: TablePlan, failures: Mapping[bytes, str]) -> None:
        for key, error in failures.items():
            row = plan.origin.get(key)
            if row is None or row not in self.wanted:
                self._stray_failures[table] = error
            else:
                self._failures[row] = error

    def _name_of(self, table: str, key: bytes, plan: TablePlan) -> str:
        """A removed row in words, also one that nobody ever wanted."""
        row = plan.origin.get(key)
        if row is not None:
            return describe_key(row.key)
        unpacked = self._kernel.abi.table_types(table)[0].unpack(key)
        if not isinstance(unpacked, dict):
            return str(unpacked)
        return " ".join(f"{name}={_plain(value)}" for name, value in unpacked.items())


def _plain(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
