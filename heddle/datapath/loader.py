"""Loads the data plane, and finds it again.

Programs and maps are pinned under paths.pin_dir(host), so that they outlive the
agent. Each program has an object of its own, all of them share the maps. Beside
them stands a record of which objects they come from: the same objects are never
loaded twice, others take over the maps as they are.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, overload

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

OBJECTS = Path(__file__).parent / "objects"
FROM_VM, FROM_TUNNEL, TO_UNDERLAY = "from_vm", "from_tunnel", "to_underlay"
PROGRAMS = (FROM_VM, FROM_TUNNEL, TO_UNDERLAY)  # each is in an object of its name
OBJECT = OBJECTS / f"{FROM_VM}.bpf.o"  # all say the same of enums, structs and tables
_NEXT = "_next"  # dots are refused in the BPF file system
_RECORD = "loaded_object"
_ARRAY = 2  # BPF_MAP_TYPE_ARRAY
_KERNEL_NAME_LENGTH = 15
_VERIFIER_LINES = 8


@dataclass(frozen=True, slots=True)
class _Objects:
    """The compiled objects of a folder and what the record says of them."""

    folder: Path
    abi: Abi
    digest: bytes
    layout: bytes

    @classmethod
    def read(cls, folder: Path) -> _Objects:
        images = [_image(folder, program) for program in PROGRAMS]
        abi = Abi.from_image(images[0])
        return cls(folder, abi, hashlib.sha256(b"".join(images)).digest(), abi.layout_digest())

    def path(self, program: str) -> Path:
        return self.folder / f"{program}.bpf.o"


def _image(folder: Path, program: str) -> bytes:
    path = folder / f"{program}.bpf.o"
    try:
        return path.read_bytes()
    except OSError as error:
        raise KernelError(f"{path}: {error.strerror}; build it with scripts/build") from error


class Program(NamedTuple):
    """A loaded program; ``fd`` is closed with its data plane."""

    name: str
    fd: int
    id: int


class Datapath:
    """The pinned programs and maps of one host."""

    def __init__(self, host: str, abi: Abi) -> None:
        """Opens what is pinned; use ``load`` or ``open``."""
        self.host = host
        self.abi = abi
        self.from_vm = _open_program(host, FROM_VM)
        self.from_tunnel = _open_program(host, FROM_TUNNEL)
        self.to_underlay = _open_program(host, TO_UNDERLAY)
        self._tables: dict[str, Table | PerCpuTable] = {}

    @property
    def programs(self) -> tuple[Program, ...]:
        return self.from_vm, self.from_tunnel, self.to_underlay

    @classmethod
    def load(cls, host: str, objects: Path = OBJECTS) -> Datapath:
        """Make sure that the programs of a folder of objects are the pinned ones.

        Maps that are pinned already stay, with all they hold. KernelError with
        the verifier's last lines when the kernel refuses, or with the remedy
        when the maps were made by a version with another layout.
        """
        wanted, folder = _Objects.read(objects), pin_dir(host)
        with _as_root(folder):
            _mount_bpffs()
            folder.mkdir(parents=True, exist_ok=True)
            with locked(host):
                if not _is_loaded(folder, wanted):
                    _check_layout(folder, wanted)
                    _load(folder, wanted)
                return cls(host, wanted.abi)

    @classmethod
    def open(cls, host: str, objects: Path = OBJECTS) -> Datapath:
        """Open what is pinned, to read it. OperationError when nothing is."""
        folder = pin_dir(host)
        with _as_root(folder):
            if not _has_programs(folder):
                raise OperationError(f"host {host}: no data plane is loaded; start `heddle agent`")
            wanted = _Objects.read(objects)
            _check_layout(folder, wanted)
            return cls(host, wanted.abi)

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
        folder = pin_dir(self.host)
        with _as_root(folder), locked(self.host), ExitStack() as opened:
            _check_tables(folder, self.abi)
            fd = _program_fd(_load_object(folder, object_path, opened), name)
            return SideProgram(fd, opened.pop_all())

    def close(self) -> None:
        for table in self._tables.values():
            table.close()
        self._tables.clear()
        for program in self.programs:
            os.close(program.fd)


class SideProgram:
    """A program of our own process. What timers it has set outlive it."""

    def __init__(self, fd: int, opened: ExitStack) -> None:
        self.fd = fd
        self._opened = opened

    def close(self) -> None:
        self._opened.close()


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


def _open_program(host: str, name: str) -> Program:
    fd = _get(pin_dir(host) / name)
    return Program(name, fd, program_info(fd).id)


def _has_programs(folder: Path) -> bool:
    return all((folder / program).exists() for program in PROGRAMS)


def _get(pin: Path) -> int:
    result: int = lib.bpf_obj_get(str(pin).encode())
    if result == -errno.ENOENT:
        raise KernelError(f"{pin} is gone; restart `heddle agent` to load the data plane again")
    return check(result, f"open {pin}")


# ---- the record of what is loaded -------------------------------------------


def _record(folder: Path) -> bytes:
    """Digest of the objects and of their layouts; zeros while a load is under way."""
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


def _is_loaded(folder: Path, wanted: _Objects) -> bool:
    """Whether the pins are the objects', complete and belong together."""
    if _record(folder) != wanted.digest + wanted.layout or not _has_programs(folder):
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
    used = set()
    for program in PROGRAMS:
        fd = _get(folder / program)
        used |= program_map_ids(fd)
        os.close(fd)
    return used


def _names(map_ids: set[int]) -> set[str]:
    """Names of maps, as far as the kernel keeps them."""
    names = set()
    for map_id in map_ids:
        fd = check(lib.bpf_map_get_fd_by_id(map_id), f"open map {map_id}")
        names.add(ffi.string(map_info(fd).name).decode())
        os.close(fd)
    return names


def _check_layout(folder: Path, wanted: _Objects) -> None:
    recorded = _record(folder)[32:]
    if recorded not in (bytes(32), wanted.layout):
        raise KernelError(
            f"the tables in {folder} were made by a heddle with another layout: "
            f"stop the agent, run `rm -r {folder}` and start it again (its tables are rebuilt "
            "from intent; counters and flows start anew)"
        )


# ---- loading ----------------------------------------------------------------


def _load(folder: Path, wanted: _Objects) -> None:
    """Load with the pinned maps and put the programs in place of the old ones,
    when the kernel takes all of them.

    A crash at any step leaves programs that work and a record that makes the
    next start load again.
    """
    _write_record(folder, bytes(32) + wanted.layout)
    with ExitStack() as opened:
        loaded = {name: _load_object(folder, wanted.path(name), opened) for name in PROGRAMS}
        for name, bpf_object in loaded.items():
            _pin_program(folder, bpf_object, name)
    _write_record(folder, wanted.digest + wanted.layout)


def _check_tables(folder: Path, abi: Abi) -> None:
    for table in abi.table_names():
        if not (folder / table).exists():
            raise KernelError(
                f"{folder / table} is gone; restart `heddle agent` to load the data plane again"
            )


def _load_object(folder: Path, path: Path, opened: ExitStack) -> CData:
    """An object in the kernel, until ``opened`` is closed."""
    with captured_log() as log:
        bpf_object = lib.bpf_object__open_file(str(path).encode(), ffi.NULL)
        if not bpf_object:
            raise KernelError(f"{path}: {reason(-ffi.errno)}; build it with scripts/build")
        opened.callback(lib.bpf_object__close, bpf_object)
        for pinned_map in _maps(bpf_object):
            _set_pin_path(folder, pinned_map)
        _check_loaded(lib.bpf_object__load(bpf_object), path, log)
    return bpf_object


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


def _check_loaded(result: int, path: Path, log: list[str]) -> None:
    if result < 0:
        raise KernelError(
            f"the kernel refused {path.name}: {reason(result)}; needs Linux 6.1 or newer "
            f"and root (`heddle doctor` checks). It said: {_last_words(log)}"
        )


def _last_words(log: list[str]) -> str:
    """The end of the verifier's log, or of libbpf's where there is none."""
    end = next((i for i, line in enumerate(log) if "END PROG LOAD LOG" in line), len(log))
    lines = [line.strip() for line in log[:end] if line.strip()]
    return "; ".join(lines[-_VERIFIER_LINES:])


def _pin_program(folder: Path, bpf_object: CData, name: str) -> None:
    following = folder / (name + _NEXT)
    following.unlink(missing_ok=True)
    fd = _program_fd(bpf_object, name)
    check(lib.bpf_obj_pin(fd, str(following).encode()), f"pin program {name}")
    following.replace(folder / name)


def _program_fd(bpf_object: CData, name: str) -> int:
    """A program's file, which is the object's."""
    program = lib.bpf_object__find_program_by_name(bpf_object, name.encode())
    if not program:
        raise KernelError(f"BPF object has no program {name}: build it again")
    descriptor: int = lib.bpf_program__fd(program)
    return descriptor
