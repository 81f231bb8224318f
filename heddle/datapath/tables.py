"""Maps by name: bytes in, bytes out. What the bytes mean, codecs know."""

from __future__ import annotations

import errno
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from heddle.datapath.libbpf import CData, check, ffi, lib, map_info, reason
from heddle.errors import KernelError

BATCH = 4096  # entries per system call
_PER_CPU_TYPES = (5, 6, 10)  # BPF_MAP_TYPE_PERCPU_HASH, PERCPU_ARRAY, LRU_PERCPU_HASH
# What the kernel keeps a batch's position in: a key, or the number of a bucket.
_POSITION_BYTES = 8

Value = TypeVar("Value")


def open_table(name: str, fd: int) -> Table | PerCpuTable:
    """The table behind a file descriptor, which is the table's from then on."""
    return PerCpuTable(name, fd) if map_info(fd).type in _PER_CPU_TYPES else Table(name, fd)


class AnyTable(ABC, Generic[Value]):
    """What all tables can do. ``value_size`` is that of one CPU's value."""

    def __init__(self, name: str, fd: int) -> None:
        info = map_info(fd)
        self.name = name
        self.fd = fd
        self.id: int = info.id
        self.key_size: int = info.key_size
        self.value_size: int = info.value_size
        self.max_entries: int = info.max_entries
        self._stored_size = self._size_in_kernel()
        self._buffer = ffi.new("unsigned char[]", self._stored_size)

    # ---- one entry -----------------------------------------------------

    def get(self, key: bytes) -> Value | None:
        """The value of a key, or None."""
        self._check_sizes(key)
        result = lib.bpf_map_lookup_elem(self.fd, key, self._buffer)
        if result == -errno.ENOENT:
            return None
        check(result, f"table {self.name}: read")
        return self._decode(bytes(ffi.buffer(self._buffer)))

    def put(self, key: bytes, value: bytes) -> None:
        """Write one entry. In a per-CPU table every CPU gets the value."""
        self._check_sizes(key, value)
        result = lib.bpf_map_update_elem(self.fd, key, self._encode(value), 0)
        check(result, f"table {self.name}: write")

    def delete(self, key: bytes) -> bool:
        """Remove one entry; False when there was none."""
        self._check_sizes(key)
        result = lib.bpf_map_delete_elem(self.fd, key)
        return result != -errno.ENOENT and check(result, f"table {self.name}: delete") == 0

    # ---- many entries --------------------------------------------------

    def items(self) -> Iterator[tuple[bytes, Value]]:
        """All entries, read in batches. Entries that come or go meanwhile may
        be missed or met twice, as the kernel's batch operation has it."""
        for keys, values, count in self._batches():
            cut = _cut(values, self._stored_size, count)
            yield from zip(_cut(keys, self.key_size, count), map(self._decode, cut), strict=True)

    def digest(self) -> int:
        """A number that differs, in this process, when the content does. Costs a
        fraction of reading all entries one by one."""
        parts = (
            (keys[: count * self.key_size], values[: count * self._stored_size])
            for keys, values, count in self._batches()
        )
        return hash(tuple(parts))

    def put_many(self, entries: Iterable[tuple[bytes, bytes]]) -> None:
        """Write entries in batches; stops at the first that the kernel refuses."""
        pending = list(entries)
        for key, value in pending:
            self._check_sizes(key, value)
        for start in range(0, len(pending), BATCH):
            part = pending[start : start + BATCH]
            count = ffi.new("uint32_t *", len(part))
            keys = b"".join(key for key, _ in part)
            values = b"".join(self._encode(value) for _, value in part)
            result = lib.bpf_map_update_batch(self.fd, keys, values, count, ffi.NULL)
            check(result, f"table {self.name}: write {len(part)} entries, {count[0]} done")

    def delete_many(self, keys: Iterable[bytes]) -> int:
        """Remove entries; returns how many there were."""
        pending, removed = list(keys), 0
        for key in pending:
            self._check_sizes(key)
        while pending:
            part = pending[:BATCH]
            count = ffi.new("uint32_t *", len(part))
            result = lib.bpf_map_delete_batch(self.fd, b"".join(part), count, ffi.NULL)
            removed += count[0]
            stopped_at_missing = result == -errno.ENOENT
            if not stopped_at_missing:
                check(result, f"table {self.name}: delete {len(part)} entries")
            pending = pending[count[0] + stopped_at_missing :]
        return removed

    def close(self) -> None:
        os.close(self.fd)

    # ---- inside --------------------------------------------------------

    @abstractmethod
    def _size_in_kernel(self) -> int: ...

    @abstractmethod
    def _encode(self, value: bytes) -> bytes: ...

    @abstractmethod
    def _decode(self, stored: bytes) -> Value: ...

    def _check_sizes(self, key: bytes, value: bytes | None = None) -> None:
        """The kernel would read past the end of a short one."""
        if len(key) != self.key_size:
            raise ValueError(f"table {self.name}: key of {len(key)} bytes, not {self.key_size}")
        if value is not None and len(value) != self.value_size:
            raise ValueError(
                f"table {self.name}: value of {len(value)} bytes, not {self.value_size}"
            )

    def _batches(self) -> Iterator[tuple[bytes, bytes, int]]:
        room = min(BATCH, self.max_entries)
        previous, position = ffi.NULL, self._new_position()
        while True:
            keys = ffi.new("unsigned char[]", room * self.key_size)
            values = ffi.new("unsigned char[]", room * self._stored_size)
            count = ffi.new("uint32_t *", room)
            result = lib.bpf_map_lookup_batch(
                self.fd, previous, position, keys, values, count, ffi.NULL
            )
            if result == -errno.ENOSPC:  # one bucket of the hash holds more
                room *= 2
                continue
            if result == -errno.EINTR:  # entries were deleted under our eyes: the same again
                continue
            if result != -errno.ENOENT:
                check(result, f"table {self.name}: read all")
            yield bytes(ffi.buffer(keys)), bytes(ffi.buffer(values)), count[0]
            if result == -errno.ENOENT:  # that was the last one
                return
            previous, position = position, self._new_position()

    def _new_position(self) -> CData:
        return ffi.new("unsigned char[]", max(self.key_size, _POSITION_BYTES))


class Table(AnyTable[bytes]):
    """A table with one value per key."""

    def _size_in_kernel(self) -> int:
        return self.value_size

    def _encode(self, value: bytes) -> bytes:
        return value

    def _decode(self, stored: bytes) -> bytes:
        return stored


class PerCpuTable(AnyTable[list[bytes]]):
    """A table with one value per key and possible CPU."""

    def _size_in_kernel(self) -> int:
        return self._slot * check(lib.libbpf_num_possible_cpus(), "count the CPUs")

    @property
    def _slot(self) -> int:
        return (self.value_size + 7) // 8 * 8

    def _encode(self, value: bytes) -> bytes:
        return value.ljust(self._slot, b"\0") * (self._stored_size // self._slot)

    def _decode(self, stored: bytes) -> list[bytes]:
        slot, size = self._slot, self.value_size
        return [stored[start : start + size] for start in range(0, len(stored), slot)]


class RingBuffer:
    """Records that the data plane sends. ``fileno`` becomes readable when some
    wait, so an event loop can watch it."""

    def __init__(self, name: str, fd: int) -> None:
        self._fd = fd
        self._records: list[bytes] = []
        # libbpf holds only the address of the callback: keep it alive.
        self._callback = ffi.callback("int(void *, void *, size_t)", self._sample)
        self._ring = lib.ring_buffer__new(fd, self._callback, ffi.NULL, ffi.NULL)
        if not self._ring:
            raise KernelError(f"ring buffer {name}: {reason(-ffi.errno)}")

    def fileno(self) -> int:
        descriptor: int = lib.ring_buffer__epoll_fd(self._ring)
        return descriptor

    def consume(self) -> list[bytes]:
        """Take all records that wait, oldest first."""
        check(lib.ring_buffer__consume(self._ring), "ring buffer: read")
        records, self._records = self._records, []
        return records

    def close(self) -> None:
        lib.ring_buffer__free(self._ring)
        os.close(self._fd)

    def _sample(self, _context: CData, data: CData, size: int) -> int:
        self._records.append(bytes(ffi.buffer(data, size)))
        return 0


def _cut(data: bytes, size: int, count: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, count * size, size)]
