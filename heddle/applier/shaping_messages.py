"""Messages about bandwidth: HTB, its classes and their queues (linux/pkt_sched.h).

Under a class stands a queue in two parts: a token bucket filter (TBF) that
lets everything through, but cuts packets above a size into their segments
(net/sched/sch_tbf.c, tbf_segment), and in it a FIFO limited in bytes. All
three can be changed in place, with what waits in them.

    htb 1: - class 1:7 - tbf 8: - class 8:1 - bfifo 5007:
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from heddle.applier.netlink import (
    NLM_F_CREATE,
    NLM_F_REPLACE,
    Request,
    attribute,
    attributes,
    nested,
    number,
    text,
)
from heddle.applier.shaping import CELL_BYTES, Allowance, size_table

RTM_NEWQDISC = 36
_RTM_DELQDISC = 37
_RTM_GETQDISC = 38
_RTM_NEWTCLASS = 40
_RTM_DELTCLASS = 41
_RTM_GETTCLASS = 42

_TCA_KIND = 1
_TCA_OPTIONS = 2
_TCA_STATS2 = 7
_TCA_STAB = 8
_TCA_STAB_BASE = 1
_TCA_STAB_DATA = 2
_TCA_STATS_QUEUE = 3
_TCA_HTB_PARMS = 1
_TCA_HTB_INIT = 2
_TCA_HTB_DIRECT_QLEN = 5
_TCA_HTB_RATE64 = 6
_TCA_HTB_CEIL64 = 7
_TCA_TBF_PARMS = 1
_TCA_TBF_RATE64 = 4
_TCA_TBF_BURST = 6

ROOT = 0xFFFFFFFF  # parent of the qdisc in front of a device
_HTB_VERSION = 3
_LINKLAYER_ETHERNET = 1  # so that the kernel needs no rate tables (sch_htb.c)
_RATE32_MAX = 2**32 - 1
_PORT_HANDLES = 0x5000 << 16  # of the FIFOs

_MESSAGE = struct.Struct("=BxxxiIII")  # struct tcmsg: family, ifindex, handle, parent, info
_RATE = struct.Struct("=BBHhHI")  # tc_ratespec: cell_log, linklayer, overhead, align, mpu, rate
_HTB_GLOBAL = struct.Struct("=5I")  # tc_htb_glob: version, r2q, default, debug, direct packets
_HTB_CLASS = struct.Struct("=12s12s5I")  # tc_htb_opt: rate, ceil, bursts, quantum, level, prio
_TBF = struct.Struct("=12s12s3I")  # tc_tbf_qopt: rate, peak rate, limit, buffer, mtu
_SIZES = struct.Struct("=BBhiIIII")  # tc_sizespec: cell_log, size_log, align, overhead, linklayer,
_QUEUE_STATISTICS = struct.Struct("=III8x")  # ... mpu, mtu, tsize; gnet_stats_queue: qlen,
# ... backlog, drops, requeues, overlimits

# Bytes that a class may send before its neighbour's turn: a whole GSO packet.
# Given, the kernel need not guess from the rate, and warn about its guess.
_QUANTUM = 1 << 16
# Packets without a class that may wait; they never do but for a moment.
_DIRECT_PACKETS = 10_000
# A token bucket that never holds a packet back.
_NEVER_SLOW = 1 << 50

_HTB = text(_TCA_KIND, "htb")
_TBF_KIND = text(_TCA_KIND, "tbf")
_BFIFO = text(_TCA_KIND, "bfifo")
_NOQUEUE = text(_TCA_KIND, "noqueue")
_ETHERNET_HEADER = 14
_TABLE = size_table()
_TABLE_BASE = _SIZES.pack(
    CELL_BYTES.bit_length() - 1, 0, 0, -_ETHERNET_HEADER, _LINKLAYER_ETHERNET, 0, 0, len(_TABLE)
)
_SIZE_TABLE = nested(
    _TCA_STAB,
    attribute(_TCA_STAB_BASE, _TABLE_BASE),
    attribute(_TCA_STAB_DATA, struct.pack(f"={len(_TABLE)}H", *_TABLE)),
)


class Found(NamedTuple):
    """A class or qdisc as the kernel tells it. ``queued``: packets in it;
    ``dropped``: those that it, or what is in it, had no room for."""

    kind: str
    handle: int
    parent: int
    leaf: int  # handle of the qdisc in a class
    options: dict[int, bytes]
    raw_options: bytes
    size_table: bytes  # tc_sizespec of its size table
    queued: int
    dropped: int


# ---- requests --------------------------------------------------------------


def add_root(index: int, handle: int, default: int) -> Request:
    """HTB in front of a device. Packets without a class go into the default
    one; where that is 0 or not there, straight on."""
    options = nested(
        _TCA_OPTIONS,
        attribute(_TCA_HTB_INIT, _HTB_GLOBAL.pack(_HTB_VERSION, 10, default, 0, 0)),
        number(_TCA_HTB_DIRECT_QLEN, _DIRECT_PACKETS),
    )
    body = _MESSAGE.pack(0, index, handle, ROOT, 0) + _HTB + _SIZE_TABLE + options
    return Request(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, body)


def remove_root(index: int) -> Request:
    """No queue in front of a device."""
    body = _MESSAGE.pack(0, index, 0, ROOT, 0) + _NOQUEUE
    return Request(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, body)


def put_class(index: int, handle: int, parent: int, minor: int, wanted: Allowance) -> Request:
    """Make a class, or change it in place. ``parent``: a minor number, or 0."""
    parameters = _HTB_CLASS.pack(
        _rate(wanted.rate), _rate(wanted.ceil), wanted.burst, wanted.ceil_burst, _QUANTUM, 0, 0
    )
    options = nested(
        _TCA_OPTIONS,
        attribute(_TCA_HTB_PARMS, parameters),
        attribute(_TCA_HTB_RATE64, wanted.rate.to_bytes(8, "little")),
        attribute(_TCA_HTB_CEIL64, wanted.ceil.to_bytes(8, "little")),
    )
    body = _MESSAGE.pack(0, index, handle | minor, handle | parent, 0) + _HTB + options
    return Request(_RTM_NEWTCLASS, NLM_F_CREATE, body)


def put_queue(index: int, handle: int, minor: int, wanted: Allowance) -> list[Request]:
    """Give a class its queue, or change it in place."""
    parameters = _TBF.pack(_rate(_NEVER_SLOW), bytes(_RATE.size), wanted.queue, 0, 0)
    cutter = nested(
        _TCA_OPTIONS,
        attribute(_TCA_TBF_PARMS, parameters),
        attribute(_TCA_TBF_RATE64, _NEVER_SLOW.to_bytes(8, "little")),
        number(_TCA_TBF_BURST, wanted.piece),
    )
    replace = NLM_F_CREATE | NLM_F_REPLACE
    outer = _MESSAGE.pack(0, index, cutter_handle(minor), handle | minor, 0)
    inner = _MESSAGE.pack(0, index, fifo_handle(minor), cutter_handle(minor) | 1, 0)
    limit = attribute(_TCA_OPTIONS, wanted.queue.to_bytes(4, "little"))
    return [
        Request(RTM_NEWQDISC, replace, outer + _TBF_KIND + cutter),
        Request(RTM_NEWQDISC, replace, inner + _BFIFO + limit),
    ]


def delete_class(index: int, class_handle: int) -> Request:
    return Request(_RTM_DELTCLASS, 0, _MESSAGE.pack(0, index, class_handle, 0, 0))


def get_qdiscs() -> Request:
    """To be dumped: the qdiscs of all devices. To ask for a single one would
    tell every listener of it, ourselves included, as if it had changed."""
    return Request(_RTM_GETQDISC, 0, _MESSAGE.pack(0, 0, 0, 0, 0))


def get_classes(index: int, handle: int) -> Request:
    """To be dumped: the classes of one qdisc."""
    return Request(_RTM_GETTCLASS, 0, _MESSAGE.pack(0, index, 0, handle, 0))


def cutter_handle(minor: int) -> int:
    return minor + 1 << 16


def fifo_handle(minor: int) -> int:
    return _PORT_HANDLES + (minor << 16)


# ---- answers ---------------------------------------------------------------


def index_of(body: bytes) -> int:
    """ifindex of the device that an answer is about."""
    return int.from_bytes(body[4:8], "little")


def parse(body: bytes) -> Found:
    """From the body of an RTM_NEWQDISC or RTM_NEWTCLASS message."""
    _, _, handle, parent, leaf = _MESSAGE.unpack_from(body)
    found = attributes(body, _MESSAGE.size)
    kind = found.get(_TCA_KIND, b"").rstrip(b"\0").decode(errors="replace")
    options = found.get(_TCA_OPTIONS, b"")
    statistics = attributes(found.get(_TCA_STATS2, b"")).get(
        _TCA_STATS_QUEUE, bytes(_QUEUE_STATISTICS.size)
    )
    table = attributes(found.get(_TCA_STAB, b"")).get(_TCA_STAB_BASE, b"")
    queued, _, dropped = _QUEUE_STATISTICS.unpack_from(statistics)
    inside = {} if kind == "bfifo" else attributes(options)
    return Found(kind, handle, parent, leaf, inside, options, table, queued, dropped)


def dropped_of_queue(body: bytes, major: int) -> tuple[int, int] | None:
    """Of a qdisc that is the queue of a class under this major number: minor
    number of the class, and packets that found the queue full."""
    handle, parent = _MESSAGE.unpack_from(body)[2:4]
    minor = parent & 0xFFFF
    if parent >> 16 != major or handle != cutter_handle(minor):
        return None
    return minor, parse(body).dropped


def is_our_root(found: Found, handle: int, default: int) -> bool:
    """Whether a device's root qdisc is as ``add_root`` makes it."""
    if (found.kind, found.handle, found.size_table) != ("htb", handle, _TABLE_BASE):
        return False
    settings = found.options.get(_TCA_HTB_INIT, bytes(_HTB_GLOBAL.size))
    return int(_HTB_GLOBAL.unpack_from(settings)[2]) == default


def allowance(found: Found, queue: list[Found]) -> Allowance | None:
    """What a class and its queue amount to; None when they are not as we make
    them."""
    minor = found.handle & 0xFFFF
    if [(part.kind, part.handle) for part in queue] != [
        ("tbf", cutter_handle(minor)),
        ("bfifo", fifo_handle(minor)),
    ] or not _lets_all_through(queue[0]):
        return None
    cutter, fifo = queue
    waiting = int.from_bytes(fifo.raw_options[:4], "little")
    if _TBF.unpack_from(cutter.options[_TCA_TBF_PARMS])[2] != waiting:
        return None
    return _of_class(found, waiting)


def bare_allowance(found: Found) -> Allowance | None:
    """What a class amounts to that has no queue of its own but classes below."""
    return _of_class(found, 0)


def _of_class(found: Found, waiting: int) -> Allowance | None:
    parameters = found.options.get(_TCA_HTB_PARMS)
    if parameters is None:
        return None
    rate, ceil, burst, ceil_burst, quantum, _, priority = _HTB_CLASS.unpack_from(parameters)
    if (quantum, priority) != (_QUANTUM, 0):
        return None
    return Allowance(
        rate=_rate_of(rate, found.options.get(_TCA_HTB_RATE64)),
        ceil=_rate_of(ceil, found.options.get(_TCA_HTB_CEIL64)),
        burst=burst,
        ceil_burst=ceil_burst,
        queue=waiting,
    )


def _lets_all_through(cutter: Found) -> bool:
    rate = cutter.options.get(_TCA_TBF_RATE64, b"")
    return _TCA_TBF_PARMS in cutter.options and int.from_bytes(rate, "little") == _NEVER_SLOW


def _rate(bytes_per_second: int) -> bytes:
    return _RATE.pack(0, _LINKLAYER_ETHERNET, 0, 0, 0, min(bytes_per_second, _RATE32_MAX))


def _rate_of(packed: bytes, wide: bytes | None) -> int:
    return int.from_bytes(wide, "little") if wide else int(_RATE.unpack(packed)[5])
