"""Counters of ports and drops, summed over CPUs, and the rates between two
readings."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from heddle.applier import links
from heddle.applier.netlink import Netlink
from heddle.applier.shaping_kernel import read_queue_drops
from heddle.datapath.loader import Datapath
from heddle.events.reasons import PREFIX
from heddle.intent.names import TUNNEL

# Up to this many ports, reading their slots one by one is cheaper than the
# whole array of counters.
_FEW_PORTS = 500


class PortCounters(NamedTuple):
    """Since the port came to be. from_vm: what its machine sent."""

    from_vm_packets: int
    from_vm_bytes: int
    to_vm_packets: int
    to_vm_bytes: int


class DropCount(NamedTuple):
    ifindex: int
    reason: str  # an enumerator of drop_reason without DROP_
    packets: int
    bytes: int | None  # None: not counted


class Rates(NamedTuple):
    """Per second."""

    from_vm_packets: float
    from_vm_bits: float
    to_vm_packets: float
    to_vm_bits: float


@dataclass(frozen=True, slots=True)
class Sample:
    """All ports' counters at one moment, by ifindex."""

    at: float  # time.monotonic()
    ports: dict[int, PortCounters]


def read_ports(datapath: Datapath) -> Sample:
    """The counters of every port."""
    slots = _slots_of_ports(datapath)
    values = _slots(datapath, set(slots.values()))
    ports = {ifindex: values[slot] for ifindex, slot in slots.items() if slot in values}
    return Sample(time.monotonic(), ports)


def read_drops(datapath: Datapath) -> list[DropCount]:
    """What was dropped, most first."""
    key_codec, value_codec = datapath.abi.table_types("drops")
    reasons = datapath.abi.enum("drop_reason")
    counts = []
    for raw_key, raw_values in datapath.table("drops").items():
        key = key_codec.unpack(raw_key)
        cpus = [value_codec.unpack(raw) for raw in raw_values]
        packets, size = sum(c["packets"] for c in cpus), sum(c["bytes"] for c in cpus)
        reason = reasons(key["reason"]).name.removeprefix(PREFIX)
        counts.append(DropCount(key["ifindex"], reason, packets, size))
    counts += _read_queues(datapath)
    counts += _read_devices(datapath)
    return sorted(counts, key=lambda count: -count.packets)


def _read_queues(datapath: Datapath) -> Iterator[DropCount]:
    """What the queues of bandwidth limits had no room for. They are the kernel's."""
    queues = read_queue_drops(datapath.abi.value("SHAPER_MAJOR"))
    if any(queues.from_vm.values()):
        ports = {slot + 1: ifindex for ifindex, slot in _slots_of_ports(datapath).items()}
        for minor, packets in queues.from_vm.items():
            if packets and minor in ports:
                yield DropCount(ports[minor], "BANDWIDTH_FROM_VM", packets, None)
    for ifindex, packets in queues.to_vm.items():
        if packets:
            yield DropCount(ifindex, "BANDWIDTH_TO_VM", packets, None)


def _read_devices(datapath: Datapath) -> Iterator[DropCount]:
    """What the devices of ports had no room for, as nobody takes it from them, and
    what the tunnel's found too short to hold a packet."""
    with Netlink() as netlink:
        bodies = netlink.dump(links.get_all_with_statistics())
    ports, tunnel = _slots_of_ports(datapath).keys(), _tunnel_device()
    for found in map(links.parse_drops, bodies):
        if found.not_taken and found.ifindex in ports:
            yield DropCount(found.ifindex, "NOT_TAKEN_TO_VM", found.not_taken, None)
        if found.too_short and found.ifindex == tunnel:
            yield DropCount(found.ifindex, "TUNNEL_MALFORMED", found.too_short, None)


def _tunnel_device() -> int:
    """ifindex of the VXLAN device; 0 without one."""
    with suppress(OSError):
        return socket.if_nametoindex(TUNNEL)
    return 0


def _slots_of_ports(datapath: Datapath) -> dict[int, int]:
    """Counter slots by ifindex."""
    index, port = datapath.abi.table_types("ports")
    return {
        index.unpack(key): port.unpack(value)["counter_slot"]
        for key, value in datapath.table("ports").items()
    }


def rates(before: Sample, after: Sample) -> dict[int, Rates]:
    """Of the ports in both; a counter that went back (a new port in its slot)
    counts from zero."""
    seconds = max(after.at - before.at, 1e-9)
    result = {}
    for ifindex, new in after.ports.items():
        old = before.ports.get(ifindex)
        if old is None:
            continue
        if any(a < b for a, b in zip(new, old, strict=True)):
            old = PortCounters(0, 0, 0, 0)
        packets_out, bytes_out, packets_in, bytes_in = (
            (a - b) / seconds for a, b in zip(new, old, strict=True)
        )
        result[ifindex] = Rates(packets_out, bytes_out * 8, packets_in, bytes_in * 8)
    return result


def _slots(datapath: Datapath, wanted: set[int]) -> dict[int, PortCounters]:
    table = datapath.table("counters")
    key_codec, value_codec = datapath.abi.table_types("counters")
    if len(wanted) <= _FEW_PORTS:
        rows = [(slot, table.get(key_codec.pack(slot))) for slot in wanted]
    else:
        rows = [(key_codec.unpack(key), values) for key, values in table.items()]
    result = {}
    for slot, values in rows:
        if slot in wanted and values is not None:
            cpus = [value_codec.unpack(value) for value in values]
            result[slot] = PortCounters(
                *(sum(cpu[field] for cpu in cpus) for field in PortCounters._fields)
            )
    return result
