"""Loading, finding again, upgrading and reading what is pinned."""

from __future__ import annotations

import os
import secrets
import select
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from heddle.datapath.btf import btf_section
from heddle.datapath.loader import OBJECTS, PROGRAMS, Datapath
from heddle.datapath.tables import BATCH, Table
from heddle.datapath.testrun import run
from heddle.errors import KernelError, OperationError
from heddle.paths import pin_dir

NOBODY = 65534
PORT = {"network": 7, "mtu": 1450}


@pytest.fixture
def host() -> Iterator[str]:
    name = f"loader-{os.getpid()}-{secrets.token_hex(4)}"
    yield name
    Datapath.unpin(name)


@pytest.fixture
def datapath(host: str) -> Iterator[Datapath]:
    loaded = Datapath.load(host)
    yield loaded
    loaded.close()


@pytest.fixture
def objects(tmp_path: Path) -> Path:
    """A folder with a copy of all objects."""
    for program in PROGRAMS:
        shutil.copy(OBJECTS / f"{program}.bpf.o", tmp_path)
    return tmp_path


@pytest.fixture(params=PROGRAMS)
def other_objects(objects: Path, request: pytest.FixtureRequest) -> Path:
    """The same programs, one of them in a file with another digest."""
    path = objects / f"{request.param}.bpf.o"
    path.write_bytes(path.read_bytes() + b"\0")
    return objects


@pytest.fixture(params=PROGRAMS)
def broken_objects(objects: Path, request: pytest.FixtureRequest) -> Path:
    """One of the programs ends with its first instruction."""
    path = objects / f"{request.param}.bpf.o"
    image = path.read_bytes()
    code = btf_section(image, "tc")
    path.write_bytes(image.replace(code, b"\x95" + bytes(7) + code[8:]))
    return objects


def put_port(datapath: Datapath, ifindex: int) -> bytes:
    key, value = datapath.abi.table_types("ports")
    row = value.pack(PORT)
    datapath.table("ports").put(key.pack(ifindex), row)
    return row


def ids(datapath: Datapath) -> set[int]:
    return {program.id for program in datapath.programs}


# ---- loading ---------------------------------------------------------------------


def test_all_tables_are_pinned(datapath: Datapath, host: str) -> None:
    pins = {path.name for path in pin_dir(host).iterdir()}
    assert pins == {*datapath.abi.table_names(), *PROGRAMS, "loaded_object"}


def test_the_same_object_is_not_loaded_twice(datapath: Datapath, host: str) -> None:
    row = put_port(datapath, 5)
    again = Datapath.load(host)
    assert ids(again) == ids(datapath)
    assert again.table("ports").get((5).to_bytes(4, "little")) == row
    again.close()


def test_upgrade_keeps_the_tables(datapath: Datapath, host: str, other_objects: Path) -> None:
    row, tables = put_port(datapath, 5), datapath.table("ports").id
    upgraded = Datapath.load(host, other_objects)
    assert ids(upgraded).isdisjoint(ids(datapath))
    assert upgraded.table("ports").id == tables
    assert upgraded.table("ports").get((5).to_bytes(4, "little")) == row
    upgraded.close()


@pytest.mark.parametrize("lost", ["from_vm", "from_tunnel", "ports", "loaded_object", "events"])
def test_a_lost_pin_is_made_anew(datapath: Datapath, host: str, lost: str) -> None:
    """Program and tables that do not belong together are never used."""
    (pin_dir(host) / lost).unlink()
    repaired = Datapath.load(host)
    assert ids(repaired).isdisjoint(ids(datapath))
    assert (pin_dir(host) / lost).exists()
    put_port(repaired, 2)
    repaired.close()


def test_load_that_was_killed_is_done_again(datapath: Datapath, host: str) -> None:
    """The record is blank while a load is under way."""
    record = Datapath.open(host).table("loaded_object")
    record.put(bytes(4), bytes(32) + (record.get(bytes(4)) or b"")[32:])
    again = Datapath.load(host)
    assert ids(again).isdisjoint(ids(datapath))
    again.close()


def test_other_layout_is_refused_with_the_remedy(datapath: Datapath, host: str) -> None:
    record = datapath.table("loaded_object")
    record.put(bytes(4), bytes([1] * 64))
    for action in (Datapath.load, Datapath.open):
        with pytest.raises(KernelError, match=r"another layout.*rm -r"):
            action(host)


def test_what_the_verifier_refuses_is_shown(host: str, broken_objects: Path) -> None:
    """The verifier's own words."""
    with pytest.raises(KernelError, match=r"refused \w+.bpf.o.*unreachable insn") as raised:
        Datapath.load(host, broken_objects)
    assert "\n" not in str(raised.value)


def test_refused_upgrade_leaves_the_old_program(
    datapath: Datapath, host: str, broken_objects: Path
) -> None:
    """All of them: two versions never work side by side."""
    with pytest.raises(KernelError):
        Datapath.load(host, broken_objects)
    reader = Datapath.open(host)
    assert ids(reader) == ids(datapath)
    reader.close()


def test_missing_object_says_how_to_build_it(host: str, objects: Path) -> None:
    (objects / "from_tunnel.bpf.o").unlink()
    with pytest.raises(KernelError, match="scripts/build"):
        Datapath.load(host, objects)


def test_open_without_a_data_plane(host: str) -> None:
    with pytest.raises(OperationError, match="heddle agent"):
        Datapath.open(host)


def test_unpin_leaves_nothing(host: str) -> None:
    Datapath.load(host).close()
    Datapath.unpin(host)
    assert not pin_dir(host).exists()
    Datapath.unpin(host)  # and once more is no error


@pytest.mark.parametrize("action", [Datapath.load, Datapath.open, Datapath.unpin])
def test_only_root_may(datapath: Datapath, host: str, action: Callable[[str], object]) -> None:
    os.seteuid(NOBODY)
    try:
        with pytest.raises(KernelError, match="run as root"):
            action(host)
    finally:
        os.seteuid(0)
    assert (pin_dir(host) / "from_vm").exists()


# ---- tables ------------------------------------------------------------------------


def numbered(count: int, start: int = 0) -> list[bytes]:
    return [number.to_bytes(4, "little") for number in range(start, start + count)]


def test_one_entry(datapath: Datapath) -> None:
    table, key = datapath.table("ports"), bytes(4)
    assert table.get(key) is None
    assert table.delete(key) is False
    table.put(key, bytes(table.value_size))
    assert table.get(key) == bytes(table.value_size)
    assert table.delete(key) is True
    assert table.get(key) is None


@pytest.mark.parametrize("count", [0, 1, BATCH - 1, BATCH, BATCH + 1, 10_000])
def test_many_entries(datapath: Datapath, count: int) -> None:
    table = datapath.table("ports")
    wanted = {key: key.ljust(table.value_size, b"\1") for key in numbered(count)}
    table.put_many(wanted.items())
    assert dict(table.items()) == wanted
    assert table.delete_many(wanted) == count
    assert dict(table.items()) == {}


def test_delete_many_skips_what_is_not_there(datapath: Datapath) -> None:
    table = datapath.table("ports")
    present = numbered(100)
    table.put_many((key, bytes(table.value_size)) for key in present)
    asked = [key for pair in zip(numbered(100, start=500), present, strict=True) for key in pair]
    assert table.delete_many(asked) == 100
    assert list(table.items()) == []


@pytest.mark.parametrize("name", ["routes", "source_prefixes", "addresses", "epochs"])
def test_every_kind_of_map_can_be_listed(datapath: Datapath, name: str) -> None:
    table = datapath.table(name)
    key = (32).to_bytes(4, "little").ljust(table.key_size, b"\0")
    table.put(key, b"\1" * table.value_size)
    assert (key, b"\1" * table.value_size) in list(table.items())


def test_per_cpu_table_has_a_value_for_each_cpu(datapath: Datapath) -> None:
    table, key = datapath.table("drops"), b"\1" * 8
    assert table.get(key) is None
    table.put(key, b"\2" * table.value_size)
    values = table.get(key)
    assert values is not None
    assert set(values) == {b"\2" * table.value_size}
    assert len(values) >= (os.cpu_count() or 1)
    assert list(table.items()) == [(key, values)]


def test_full_table_says_so(datapath: Datapath) -> None:
    table = datapath.table("ports")
    value = bytes(table.value_size)
    table.put_many((key, value) for key in numbered(table.max_entries))
    with pytest.raises(KernelError, match=r"table ports: write.*full"):
        table.put(b"\xff" * 4, value)
    with pytest.raises(KernelError, match=r"table ports: write.*full"):
        table.put_many([(b"\xff" * 4, value)])


@pytest.mark.parametrize(("key", "value"), [(b"short"[:3], b""), (bytes(5), b""), (bytes(4), b"x")])
def test_wrong_sizes_never_reach_the_kernel(datapath: Datapath, key: bytes, value: bytes) -> None:
    table: Table = datapath.table("ports")
    with pytest.raises(ValueError, match="table ports"):
        table.put(key, value)
    with pytest.raises(ValueError, match="table ports"):
        table.put_many([(key, value)])


def test_table_that_is_gone(datapath: Datapath, host: str) -> None:
    (pin_dir(host) / "ports").unlink()
    with pytest.raises(KernelError, match="ports is gone; restart"):
        datapath.table("ports")


# ---- runs and events -----------------------------------------------------------------


def test_ring_buffer_wakes_its_reader(datapath: Datapath) -> None:
    ring = datapath.ring_buffer("events")
    readable = select.poll()
    readable.register(ring.fileno(), select.POLLIN)
    assert readable.poll(0) == []
    run(datapath.from_vm.fd, bytes(60), ifindex=0)  # of a device without a port
    assert readable.poll(0) != []
    (record,) = ring.consume()
    event = datapath.abi.codec("drop_event").unpack(record)
    assert event["reason"] == datapath.abi.value("DROP_UNKNOWN_PORT")
    assert ring.consume() == []
    ring.close()


def test_run_on_a_device_that_is_not_there(datapath: Datapath) -> None:
    with pytest.raises(KernelError, match="from device 1234567"):
        run(datapath.from_vm.fd, bytes(60), ifindex=1234567)
