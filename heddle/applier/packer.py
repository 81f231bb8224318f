"""Rows to bytes: references become what only the kernel can know."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from heddle.applier.kernel import Abi
from heddle.applier.slots import CounterSlots
from heddle.compiler.state import (
    CounterSlot,
    Device,
    PortRow,
    RowKey,
    RowKeyPart,
    RowValue,
    Symbol,
    TunnelNetworkRow,
)
from heddle.datapath.codec import Codec, Row
from heddle.errors import KernelError


class MissingLinkError(KernelError):
    """A row refers to a link that is not there."""

    def __init__(self, device: str) -> None:
        super().__init__(f"link {device} is not there")
        self.device = device


class RowPacker:
    """Packs rows with the ifindexes and counter slots of the moment.

    ``rows`` is what is wanted: when the next or first port of a flooding ring has
    no link, the ring is closed behind it, so that one failed port does not keep
    others from flooding. ``detours`` notes who was led past whom.
    """

    def __init__(
        self,
        abi: Abi,
        indexes: Mapping[str, int],
        slots: CounterSlots,
        rows: Mapping[RowKey, RowValue],
    ) -> None:
        self.detours: dict[str, set[RowKey]] = {}
        self._abi = abi
        self._indexes = indexes
        self._rows = rows
        self._codecs: dict[str, tuple[Codec, Codec]] = {}
        self._symbols: dict[Symbol, int] = {}
        self._converters: dict[type, Callable[[Any], int]] = {
            Device: self._index,
            CounterSlot: slots.slot_of,
            Symbol: self._symbol,
        }

    def key(self, table: str, key: RowKeyPart) -> bytes:
        """MissingLinkError when it names a link that is not there."""
        return self._codec(table)[0].pack(self._resolve(key))

    def value(self, row: RowKey, value: RowValue) -> bytes:
        """MissingLinkError likewise; KernelError when counter slots run out."""
        if isinstance(value, PortRow) and value.flood_next not in self._indexes:
            value = value._replace(flood_next=self._in_place(row, value.flood_next))
        elif isinstance(value, TunnelNetworkRow) and isinstance(value.first_port, Device):
            value = value._replace(first_port=self._first_in_place(row, value.first_port))
        return self._codec(row.table)[1].pack(self._resolve(value))

    def unpack_value(self, table: str, value: bytes) -> Row:
        return self._codec(table)[1].unpack(value)

    def _codec(self, table: str) -> tuple[Codec, Codec]:
        found = self._codecs.get(table)
        if found is None:
            found = self._codecs[table] = self._abi.table_types(table)
        return found

    def _resolve(self, row: Row) -> Row:
        """The same kind of row with numbers for references."""
        convert = self._converters.get(type(row))
        if convert is not None:
            return convert(row)
        if not isinstance(row, tuple):
            return row
        converters = self._converters
        return type(row)._make(  # type: ignore[attr-defined]  # a NamedTuple
            [
                converters[type(value)](value) if type(value) in converters else value
                for value in row
            ]
        )

    def _index(self, device: Device) -> int:
        index = self._indexes.get(device)
        if index is None:
            raise MissingLinkError(device)
        return index

    def _symbol(self, symbol: Symbol) -> int:
        bits = self._symbols.get(symbol)
        if bits is None:
            bits = self._symbols[symbol] = self._abi.bits(symbol.enum, symbol.names)
        return bits

    def _first_in_place(self, row: RowKey, device: Device) -> Device | int:
        """The first port of a ring that has a link, 0: none has."""
        try:
            return self._in_place(row, device)
        except MissingLinkError:
            return 0

    def _in_place(self, row: RowKey, device: Device) -> Device:
        """The port, or the first further round the ring that has a link."""
        passed = set[str]()
        while device not in self._indexes:
            self.detours.setdefault(device, set()).add(row)
            following = self._rows.get(RowKey("ports", device))
            if not isinstance(following, PortRow) or device in passed:
                raise MissingLinkError(device)
            passed.add(device)
            device = following.flood_next
        return device
