"""Maps by name: bytes in, bytes out. What the bytes mean, codecs know."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Sequence

from heddle.datapath.libbpf import CData, check, ffi, lib, map_info, reason
from heddle.errors import KernelError

BATCH = 4096  # entries per system call
_PER_CPU_TYPES = (5, 6, 10)  # BPF_MAP_TYPE_PERCPU_HASH, PERCPU_ARRAY, LRU_PERCPU_HASH


class Table:
    """One map. Values are ``bytes``; in a per-CPU table read ``get_per_cpu`` and
    ``items_per_cpu``, which give one value for each possible CPU."""

    def __init__(self, name: str, fd: int) -> None:
        info = map_info(fd)
        self.name = name
        self.fd = fd
        self.id: int = info.id
        self.key_size: int = info.key_size
        self.value_size: int = info.value_size
        self.max_entries: int = info.max_entries
        self.per_cpu = info.type in _PER_CPU_TYPES
        self._slot = self.value_size
        if self.per_cpu:
            self._slot = (self.value_size + 7) // 8 * 8
        self._cpus = lib.libbpf_num_possible_cpus() if self.per_cpu else 1
        self._buffer = ffi.new("unsigned char[]", self._slot * self._cpus)

    # ---- one entry -----------------------------------------------------

    def get(self, key: bytes) -> bytes | None:
        """The value of a key, or None."""
        return bytes(ffi.buffer(self._buffer)) if self._read(key) else None

    def get_per_cpu(self, key: bytes) -> list[bytes] | None:
        """The value of a key on each possible CPU, or None."""
        return self._split(bytes(ffi.buffer(self._buffer))) if self._read(key) else None

    def put(self, key: bytes, value: bytes) -> None:
        """Write one entry. In a per-CPU table every CPU gets the value."""
        self._check_sizes(key, value)
        result = lib.bpf_map_update_elem(self.fd, key, self._spread(value), 0)
        check(result, f"table {self.name}: write")

    def delete(self, key: bytes) -> bool:
        """Remove one entry; False when there was none."""
        self._check_sizes(key)
        result = lib.bpf_map_delete_elem(self.fd, key)
        return result != -errno.ENOENT and check(result, f"table {self.name}: delete") == 0

    # ---- many entries --------------------------------------------------

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """All entries, read in batches. Entries that come or go meanwhile may
        be missed or met twice, as the kernel's batch operation has it."""
        for keys, values, count in self._batches():
            yield from zip(
                _cut(keys, self.key_size, count),
                _cut(values, self._slot * self._cpus, count),
                strict=True,
            )

    def items_per_cpu(self) -> Iterator[tuple[bytes, list[bytes]]]:
        """All entries of a per-CPU table."""
        for key, values in self.items():
            yield key, self._split(values)

    def put_many(self, entries: Iterable[tuple[bytes, bytes]]) -> None:
        """Write entries in batches; stops at the first that the kernel refuses."""
        pending = list(entries)
        for start in range(0, len(pending), BATCH):
            part = pending[start : start + BATCH]
            for key, value in part:
                self._check_sizes(key, value)
            count = ffi.new("uint32_t *", len(part))
            keys = b"".join(key for key, _ in part)
            values = b"".join(self._spread(value) for _, value in part)
            result = lib.bpf_map_update_batch(self.fd, keys, values, count, ffi.NULL)
            check(result, f"table {self.name}: write {len(part)} entries, {count[0]} done")

    def delete_many(self, keys: Iterable[bytes]) -> int:
        """Remove entries; returns how many there were."""
        pending, removed = list(keys), 0
        while pending:
            part = pending[:BATCH]
            for key in part:
                self._check_sizes(key)
            count = ffi.new("uint32_t *", len(part))
            result = lib.bpf_map_delete_batch(self.fd, b"".join(part), count, ffi.NULL)
            removed += count[0]
            if result != -errno.ENOENT:
                check(result, f"table {self.name}: delete {len(part)} entries")
            # The kernel stops at a key that is not there; go on after it.
            pending = pending[count[0] + (result == -errno.ENOENT) :]
        return removed

    def close(self) -> None:
        os.close(self.fd)

    # ---- inside --------------------------------------------------------

    def _read(self, key: bytes) -> bool:
        self._check_sizes(key)
        result = lib.bpf_map_lookup_elem(self.fd, key, self._buffer)
        return result != -errno.ENOENT and check(result, f"table {self.name}: read") == 0

    def _check_sizes(self, key: bytes, value: bytes | None = None) -> None:
        """The kernel would read past the end of a short one."""
        if len(key) != self.key_size:
            raise ValueError(f"table {self.name}: key of {len(key)} bytes, not {self.key_size}")
        if value is not None and len(value) != self.value_size:
            raise ValueError(
                f"table {self.name}: value of {len(value)} bytes, not {self.value_size}"
            )

    def _spread(self, value: bytes) -> bytes:
        return value.ljust(self._slot, b"\0") * self._cpus if self.per_cpu else value

    def _split(self, values: bytes) -> list[bytes]:
        return [
            values[start : start + self.value_size] for start in range(0, len(values), self._slot)
        ]

    def _batches(self) -> Iterator[tuple[bytes, bytes, int]]:
        room = min(BATCH, self.max_entries)
        previous, position = ffi.NULL, ffi.new("unsigned char[]", max(self.key_size, 8))
        while True:
            keys = ffi.new("unsigned char[]", room * self.key_size)
            values = ffi.new("unsigned char[]", room * self._slot * self._cpus)
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
            if result == -errno.ENOENT:
                return
            previous, position = position, ffi.new("unsigned char[]", max(self.key_size, 8))


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

    def _sample(self, _context: CData, data: CData, size: int) -> int:
        self._records.append(bytes(ffi.buffer(data, size)))
        return 0

    def close(self) -> None:
        lib.ring_buffer__free(self._ring)
        os.close(self._fd)


def _cut(data: bytes, size: int, count: int) -> Sequence[bytes]:
    return [data[start : start + size] for start in range(0, count * size, size)]
