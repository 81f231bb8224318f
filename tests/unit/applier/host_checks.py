"""Compares what a fake kernel holds with what a host must have."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import Any

from heddle.applier.diff import limit
from heddle.applier.fake import FakeKernel
from heddle.applier.shaping import allowance_from_vm
from heddle.compiler.state import CounterSlot, Device, HostState, RowKey, Symbol
from heddle.datapath.codec import Row
from heddle.intent.names import SHAPER


def assert_holds(kernel: FakeKernel, state: HostState) -> None:
    """The kernel has exactly this state: links, namespaces and every row."""
    ours = {link.name: link for link in kernel.all_links.values() if link.mark or link.alias}
    assert sorted(ours) == sorted(state.links)
    for name, link in state.links.items():
        found = ours[name]
        assert (found.alias, found.mtu, found.up, found.filtered) == (
            link.alias,
            link.mtu,
            True,
            True,
        )
        assert (found.is_veth, found.multiqueue) == (link.is_veth, link.multiqueue)
        assert found.queue == link.queue
        assert found.to_vm == limit(link)
        if found.peer is not None:
            assert tuple(found.peer) == (link.namespace, link.peer, link.peer_mac)
    assert {name for name, is_ours in kernel.spaces.items() if is_ours} == state.namespaces
    indexes = {name: link.index for name, link in ours.items()}
    assert_shaper_holds(kernel, state, indexes)
    assert held_rows(kernel) == {
        (row.table, _text(_resolved(row.key, indexes))): _resolved(value, indexes)
        for row, value in state.rows.items()
    }
    slots = counter_slots(kernel)
    assert len(set(slots.values())) == len(slots)


def assert_shaper_holds(kernel: FakeKernel, state: HostState, indexes: dict[str, int]) -> None:
    """There is one if a port needs it, with a class for each port that does, by
    its counter slot. ``indexes`` gets the shaper's."""
    wanted = {
        name: allowance
        for name, link in state.links.items()
        if (allowance := allowance_from_vm(link.shaping, 0)) is not None
    }
    if not wanted:
        assert kernel.shaper is None
        return
    assert kernel.shaper is not None
    assert kernel.shaper.whole
    slots = counter_slots(kernel)
    assert kernel.shaper.allowances == {
        slots[indexes[name]] + 1: allowance for name, allowance in wanted.items()
    }
    indexes[SHAPER] = kernel.shaper.ends[0]


def assert_rings_are_whole(kernel: FakeKernel) -> None:
    """From every port, flooding comes back to it, and meets only ports of its network;
    what other hosts flood begins with one of those."""
    ports = _table(kernel, "ports")
    for start, row in ports.items():
        at, passed = row["flood_next"], 0
        while at != start:
            assert ports[at]["network"] == row["network"]
            at, passed = ports[at]["flood_next"], passed + 1
            assert passed <= len(ports)
    for network, row in _table(kernel, "tunnel_networks").items():
        begin = ports.get(row["first_port"])
        assert begin["network"] == network if begin else row["first_port"] == 0


def assert_flooding_reaches_all(kernel: FakeKernel, devices: Iterable[str]) -> None:
    """Whichever of these ports floods a frame, it goes round to its sender: no
    row on the way is missing."""
    ports = _table(kernel, "ports")
    for device in devices:
        start = at = kernel.link(device).index
        for _ in ports:
            at = ports[at]["flood_next"]
            if at == start:
                break
        assert at == start


def counter_slots(kernel: FakeKernel) -> dict[int, int]:
    """Counter slots by ifindex."""
    return {index: row["counter_slot"] for index, row in _table(kernel, "ports").items()}


def first_ports(kernel: FakeKernel) -> dict[int, int]:
    """Ifindexes by VNI, where what other hosts flood begins."""
    networks = _table(kernel, "tunnel_networks")
    return {network: row["first_port"] for network, row in networks.items()}


def epochs(kernel: FakeKernel) -> dict[int, int]:
    return _table(kernel, "epochs")


def held_rows(kernel: FakeKernel) -> dict[tuple[str, str], Any]:
    """All rows but for the counter slots, which the kernel alone knows."""
    found: dict[tuple[str, str], Any] = {}
    for table, rows in kernel.tables.items():
        if table != "epochs":
            for key, value in rows.items():
                row = _plain(value)
                if isinstance(row, dict):
                    row.pop("counter_slot", None)
                found[table, _text(_plain(key))] = row
    return found


def row_key(kernel: FakeKernel, row: RowKey) -> bytes:
    """The packed key of a wanted row."""
    indexes = {link.name: link.index for link in kernel.all_links.values()}
    return repr(_resolved(row.key, indexes)).encode()


def _table(kernel: FakeKernel, table: str) -> dict[Any, Any]:
    return {_plain(key): _plain(value) for key, value in kernel.tables[table].items()}


def _plain(data: bytes) -> Row:
    return ast.literal_eval(data.decode())


def _text(key: Row) -> str:
    return repr(key)


def _resolved(row: Row, indexes: dict[str, int]) -> Row:
    if isinstance(row, Device):
        return indexes[row]
    if isinstance(row, Symbol):
        return FakeKernel().abi.bits(row.enum, row.names)
    if not hasattr(row, "_asdict"):
        return row
    return {
        name: _resolved(value, indexes)
        for name, value in row._asdict().items()
        if not isinstance(value, CounterSlot)
    }
