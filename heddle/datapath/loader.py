"""Loads the data plane, and finds it again.

Program and maps are pinned under paths.pin_dir(host), so that they outlive the
agent. Beside them stands a record of which object they come from: the same
object is never loaded twice, another one takes over the maps as they are.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, overload

from heddle.datapath.abi import Abi
from heddle.datapath.libbpf import (
    CData,
    captured_log,
    check,
    ffi,
    lib,
    libc,
    map_info,
    program_info,
    program_map_ids,
    reason,
)
from heddle.datapath.tables import PerCpuTable, RingBuffer, Table, open_table
from heddle.errors import KernelError, OperationError
from heddle.paths import BPFFS, pin_dir

OBJECT = Path(__file__).parent / "objects" / "from_vm.bpf.o"
PROGRAM = "from_vm"
_NEXT_PROGRAM = "from_vm_next"  # dots are refused in the BPF file system
_RECORD = "loaded_object"
_ARRAY = 2  # BPF_MAP_TYPE_ARRAY
_KERNEL_NAME_LENGTH = 15
_VERIFIER_LINES = 8


@dataclass(frozen=True, slots=True)
class _Object:
    """A compiled object and what the record says of it."""

    path: Path
    abi: Abi
    digest: bytes
    layout: bytes

    @classmethod
    def read(cls, path: Path) -> _Object:
        try:
            image = path.read_bytes()
        except OSError as error:
            raise KernelError(f"{path}: {error.strerror}; build it with scripts/build") from error
        abi = Abi.from_image(image)
        return cls(path, abi, hashlib.sha256(image).digest(), abi.layout_digest())


class Datapath:
    """The pinned program and maps of one host."""

    def __init__(self, host: str, abi: Abi, program_fd: int) -> None:
        self.host = host
        self.abi = abi
        self.program_fd = program_fd
        self.program_id: int = program_info(program_fd).id
        self._tables: dict[str, Table | PerCpuTable] = {}

    @classmethod
    def load(cls, host: str, object_path: Path = OBJECT) -> Datapath:
        """Make sure that the object's program is the pinned one.

        Maps that are pinned already stay, with all they hold. KernelError with
        the verifier's last lines when the kernel refuses, or with the remedy
        when the maps were made by a version with another layout.
        """
        wanted, folder = _Object.read(object_path), pin_dir(host)
        with _as_root(folder):
            _mount_bpffs()
            folder.mkdir(parents=True, exist_ok=True)
            with locked(host):
                if not _is_loaded(folder, wanted):
                    _check_layout(folder, wanted)
                    _load(folder, wanted)
                return cls(host, wanted.abi, _get(folder / PROGRAM))

    @classmethod
    def open(cls, host: str, object_path: Path = OBJECT) -> Datapath:
        """Open what is pinned, to read it. OperationError when nothing is."""
        folder = pin_dir(host)
        with _as_root(folder):
            if not (folder / PROGRAM).exists():
                raise OperationError(f"host {host}: no data plane is loaded; start `heddle agent`")
            wanted = _Object.read(object_path)
            _check_layout(folder, wanted)
            return cls(host, wanted.abi, _get(folder / PROGRAM))

    @staticmethod
    def unpin(host: str) -> None:
        """Remove all pins of a host. What is attached runs on until it is detached."""
        folder = pin_dir(host)
        with _as_root(folder):
            if not folder.exists():
                return
            for pin in folder.iterdir():
                pin.unlink()
            folder.rmdir()

    @overload
    def table(  # type: ignore[overload-overlap]  # a literal name is the more special case
        self, name: Literal["counters", "drops"]
    ) -> PerCpuTable: ...

    @overload
    def table(self, name: str) -> Table: ...

    def table(self, name: str) -> Table | PerCpuTable:
        """A map by name. Values of a per-CPU one are lists, one item per CPU."""
        if name not in self._tables:
            self._tables[name] = open_table(name, _get(pin_dir(self.host) / name))
        return self._tables[name]

    def ring_buffer(self, name: str) -> RingBuffer:
        """A ring buffer by name; it has one reader, the caller closes it."""
        return RingBuffer(name, _get(pin_dir(self.host) / name))

    def load_beside(self, object_path: Path, name: str) -> SideProgram:
        """Load a program that works on this host's tables and runs on no device.

        KernelError when the kernel refuses, or the object is of another version.
        """
        wanted, folder = _Object.read(object_path), pin_dir(self.host)
        with _as_root(folder), locked(self.host):
            return SideProgram(*_load_beside(folder, wanted, name))

    def close(self) -> None:
        for table in self._tables.values():
            table.close()
        self._tables.clear()
        os.close(self.program_fd)


class SideProgram:
    """A program of our own process. What timers it has set outlive it."""

    def __init__(self, loaded: CData, fd: int) -> None:
        self._loaded = loaded
        self.fd = fd

    def close(self) -> None:
        lib.bpf_object__close(self._loaded)


@contextmanager
def locked(host: str) -> Iterator[None]:
    """Keep others from loading (or tracing) on this host at the same time."""
    descriptor = os.open(pin_dir(host), os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _as_root(folder: Path) -> Iterator[None]:
    """Say what is missing when somebody else tries."""
    try:
        yield
    except PermissionError as error:
        raise KernelError(f"{folder}: {error.strerror}; run as root") from error


def _mount_bpffs() -> None:
    """Mount the BPF file system where none is."""
    with open("/proc/self/mounts", encoding="ascii") as mounts:
        if any(line.split()[1:3] == [str(BPFFS), "bpf"] for line in mounts):
            return
    BPFFS.mkdir(parents=True, exist_ok=True)
    if libc.mount(b"bpf", str(BPFFS).encode(), b"bpf", 0, ffi.NULL) != 0:
        check(-ffi.errno, f"mount the BPF file system at {BPFFS}")


def _get(pin: Path) -> int:
    result: int = lib.bpf_obj_get(str(pin).encode())
    if result == -errno.ENOENT:
        raise KernelError(f"{pin} is gone; restart `heddle agent` to load the data plane again")
    return check(result, f"open {pin}")


# ---- the record of what is loaded -------------------------------------------


def _record(folder: Path) -> bytes:
    """Digest of the object and of its layouts; zeros while a load is under way."""
    if not (folder / _RECORD).exists():
        return bytes(64)
    table = Table(_RECORD, _get(folder / _RECORD))
    try:
        return table.get(bytes(4)) or bytes(64)
    finally:
        table.close()


def _write_record(folder: Path, value: bytes) -> None:
    if (folder / _RECORD).exists():
        fd = _get(folder / _RECORD)
    else:
        fd = lib.bpf_map_create(_ARRAY, _RECORD.encode(), 4, 64, 1, ffi.NULL)
        check(fd, "make the record of the loaded object")
        check(lib.bpf_obj_pin(fd, str(folder / _RECORD).encode()), f"pin {folder / _RECORD}")
    table = Table(_RECORD, fd)
    table.put(bytes(4), value)
    table.close()


def _is_loaded(folder: Path, wanted: _Object) -> bool:
    """Whether the pins are the object's, complete and belong together."""
    if _record(folder) != wanted.digest + wanted.layout or not (folder / PROGRAM).exists():
        return False
    pinned = set()
    for name in wanted.abi.table_names():
        if not (folder / name).exists():
            return False
        fd = _get(folder / name)
        pinned.add(map_info(fd).id)
        os.close(fd)
    return _names(_used_maps(folder) - pinned).isdisjoint(
        name[:_KERNEL_NAME_LENGTH] for name in wanted.abi.table_names()
    )


def _used_maps(folder: Path) -> set[int]:
    fd = _get(folder / PROGRAM)
    try:
        return program_map_ids(fd)
    finally:
        os.close(fd)


def _names(map_ids: set[int]) -> set[str]:
    """Names of maps, as far as the kernel keeps them."""
    names = set()
    for map_id in map_ids:
        fd = check(lib.bpf_map_get_fd_by_id(map_id), f"open map {map_id}")
        names.add(ffi.string(map_info(fd).name).decode())
        os.close(fd)
    return names


def _check_layout(folder: Path, wanted: _Object) -> None:
    recorded = _record(folder)[32:]
    if recorded not in (bytes(32), wanted.layout):
        raise KernelError(
            f"the tables in {folder} were made by a heddle with another layout: "
            f"stop the agent, run `rm -r {folder}` and start it again (its tables are rebuilt "
            "from intent; counters and flows start anew)"
        )


# ---- loading ----------------------------------------------------------------


def _load(folder: Path, wanted: _Object) -> None:
    """Load with the pinned maps and put the program in place of the old one.

    A crash at any step leaves a program that works and a record that makes the
    next start load again.
    """
    _write_record(folder, bytes(32) + wanted.layout)
    with captured_log() as log:
        loaded = lib.bpf_object__open_file(str(wanted.path).encode(), ffi.NULL)
        if not loaded:
            raise KernelError(f"{wanted.path}: {reason(-ffi.errno)}; build it with scripts/build")
        try:
            for pinned_map in _maps(loaded):
                _set_pin_path(folder, pinned_map)
            _check_loaded(lib.bpf_object__load(loaded), wanted, log)
            _pin_program(folder, loaded)
        finally:
            lib.bpf_object__close(loaded)
    _write_record(folder, wanted.digest + wanted.layout)


def _load_beside(folder: Path, wanted: _Object, name: str) -> tuple[CData, int]:
    """The loaded object and its program; the tables must be there already."""
    for table in wanted.abi.table_names():
        if not (folder / table).exists():
            raise KernelError(
                f"{folder / table} is gone; restart `heddle agent` to load the data plane again"
            )
    with captured_log() as log:
        loaded = lib.bpf_object__open_file(str(wanted.path).encode(), ffi.NULL)
        if not loaded:
            raise KernelError(f"{wanted.path}: {reason(-ffi.errno)}; build it with scripts/build")
        try:
            for pinned_map in _maps(loaded):
                _set_pin_path(folder, pinned_map)
            _check_loaded(lib.bpf_object__load(loaded), wanted, log)
            program = lib.bpf_object__find_program_by_name(loaded, name.encode())
            if not program:
                raise KernelError(f"{wanted.path} has no program {name}: build it again")
        except KernelError:
            lib.bpf_object__close(loaded)
            raise
    return loaded, lib.bpf_program__fd(program)


def _maps(loaded: CData) -> Iterator[CData]:
    current = lib.bpf_object__next_map(loaded, ffi.NULL)
    while current:
        yield current
        current = lib.bpf_object__next_map(loaded, current)


def _set_pin_path(folder: Path, pinned_map: CData) -> None:
    if lib.bpf_map__pin_path(pinned_map):  # asked for with LIBBPF_PIN_BY_NAME
        name = ffi.string(lib.bpf_map__name(pinned_map)).decode()
        path = str(folder / name).encode()
        check(lib.bpf_map__set_pin_path(pinned_map, path), f"choose the pin of table {name}")


def _check_loaded(result: int, wanted: _Object, log: list[str]) -> None:
    if result < 0:
        raise KernelError(
            f"the kernel refused {wanted.path.name}: {reason(result)}; needs Linux 6.1 or newer "
            f"and root (`heddle doctor` checks). It said: {_last_words(log)}"
        )


def _last_words(log: list[str]) -> str:
    """The end of the verifier's log, or of libbpf's where there is none."""
    end = next((i for i, line in enumerate(log) if "END PROG LOAD LOG" in line), len(log))
    lines = [line.strip() for line in log[:end] if line.strip()]
    return "; ".join(lines[-_VERIFIER_LINES:])


def _pin_program(folder: Path, loaded: CData) -> None:
    program = lib.bpf_object__find_program_by_name(loaded, PROGRAM.encode())
    if not program:
        raise KernelError(f"BPF object has no program {PROGRAM}: build it again")
    following = folder / _NEXT_PROGRAM
    following.unlink(missing_ok=True)
    check(lib.bpf_obj_pin(lib.bpf_program__fd(program), str(following).encode()), "pin the program")
    following.replace(folder / PROGRAM)
