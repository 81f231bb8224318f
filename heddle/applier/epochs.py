"""Epochs: how flows learn that policy has changed.

An epoch is odd while rows are being written and even when they are in place:
the mark that tells the next start that a writer died in between. A flow that
was decided meanwhile carries the odd value and is decided again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from heddle.applier.kernel import Kernel

_WRAP = 1 << 32


class Epochs:
    """The ``epochs`` table. ``begin`` before the rows, ``finish`` after them."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._key, self._value = kernel.abi.table_types("epochs")
        self._count = kernel.abi.value("EPOCH_SLOTS")
        self._values: dict[int, int] = {}
        # Slots that must still be advanced: odd, or refused by the kernel.
        self._owed: set[int] = set()
        self.error = ""

    def read(self) -> None:
        """Learn the kernel's values."""
        unpack_key, unpack = self._key.unpack, self._value.unpack
        stored = self._kernel.read_table("epochs")
        self._values = {unpack_key(key): unpack(value) for key, value in stored.items()}
        self._owed = {slot for slot, value in self._values.items() if value % 2}

    def slots_of(self, networks: Iterable[int]) -> set[int]:
        return {vni % self._count for vni in networks}

    def all_slots(self) -> set[int]:
        return set(range(self._count))

    def unfinished(self) -> set[int]:
        """Slots whose rows may be half written."""
        return set(self._owed)

    def begin(self, slots: Collection[int]) -> None:
        self._owed.update(slots)
        self._write({slot: self._at(slot) | 1 for slot in slots if not self._at(slot) % 2})

    def finish(self, slots: Collection[int]) -> None:
        """Advance to the next even value."""
        self._owed.update(slots)
        self._owed -= self._write({slot: ((self._at(slot) | 1) + 1) % _WRAP for slot in slots})

    def _at(self, slot: int) -> int:
        return self._values.get(slot, 0)

    def _write(self, values: Mapping[int, int]) -> set[int]:
        """Returns the slots that were written."""
        keys = {self._key.pack(slot): slot for slot in values}
        rows = {key: self._value.pack(values[slot]) for key, slot in keys.items()}
        failures = self._kernel.write_rows("epochs", rows) if rows else {}
        self.error = next(iter(failures.values()), "")
        written = {slot for key, slot in keys.items() if key not in failures}
        self._values.update({slot: values[slot] for slot in written})
        return written
