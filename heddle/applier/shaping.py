"""What limits of bandwidth become: classes of HTB with the queue in front. Pure.

Numbers are the kernel's: bytes per second, and bursts as the time that they
take at that rate, in ticks of 64 ns (include/net/pkt_sched.h, PSCHED_SHIFT).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # who reads drops asks for limits, and shall not wait
    from heddle.compiler.state import Rate, Shaping

# More than any link of a host carries: 8 Tbit/s.
UNLIMITED = 10**12
# A share of what nobody is guaranteed: HTB knows no class without a rate.
_LEAST = 1000
_TICK_NS = 64
_TICKS_MAX = 2**32 - 1

# How long a packet may wait in a full queue. A TCP stream fills it, and every
# other packet of the port waits behind that. At least 2 ms; slow ports get up to
# 12, but not more bytes than that: one of TCP's largest packets and a third of another.
_QUEUE_MS = 2
_SLOW_QUEUE_MS = 12
_SLOW_QUEUE = 88_000
_QUEUE_MAX = 64 << 20
# A queue holds ten full frames, enough for TCP to keep going when the other
# end is near, and any frame that a network can have.
_QUEUE_MIN = 15_000
# A larger packet (TCP's are up to 64 KiB, with their headers) than this, or
# than the whole queue, is cut into its segments; no whole one is larger.
_PIECE_MAX = 72 << 10

_BURST_MS = 5  # of a host's capacity


class Allowance(NamedTuple):
    """A class: what it is guaranteed and what it may use at most, in bytes per
    second, both with a burst in ticks; and the bytes that may wait."""

    rate: int
    ceil: int
    burst: int
    ceil_burst: int
    queue: int

    @property
    def piece(self) -> int:
        """Bytes of the largest packet that is not cut. Follows from the queue,
        since the kernel does not tell it."""
        return min(self.queue, _PIECE_MAX)


# One that somebody has altered beyond comparison.
DAMAGED = Allowance(0, 0, 0, 0, 0)


class ShaperFact(NamedTuple):
    """The pair of links through which shaped ports send: ifindexes of the end
    with the classes and of the other, whether all but the classes of ports is
    right, and those by minor number (DAMAGED: to be made anew)."""

    ends: tuple[int, int]
    whole: bool
    allowances: dict[int, Allowance]


def allowance_to_vm(rate: Rate) -> Allowance:
    """The only class of a device."""
    return _allowance(rate.bits_per_second // 8, rate.bits_per_second // 8, rate.burst)


def allowance_from_vm(shaping: Shaping, capacity: int) -> Allowance | None:
    """A port's class among those of its host, whose capacity is in bits per
    second (0: unknown). None: it needs none."""
    limit, minimum = shaping.from_vm, shaping.minimum // 8
    if limit is None and not minimum:
        return None
    ceil = limit.bits_per_second // 8 if limit else capacity // 8 or UNLIMITED
    burst = limit.burst if limit else _burst_of(ceil)
    if not capacity and limit:
        minimum = ceil  # nothing to be shared
    return _allowance(minimum or _LEAST, ceil, burst)


def allowance_of_host(capacity: int) -> Allowance:
    """The class above those of all ports."""
    rate = capacity // 8 or UNLIMITED
    return _allowance(rate, rate, _burst_of(rate))


def without_limit() -> Allowance:
    """For a class that is to go when what waits in it has left."""
    return allowance_of_host(0)


def _allowance(rate: int, ceil: int, burst: int) -> Allowance:
    rate = min(rate, ceil)
    return Allowance(
        rate=rate,
        ceil=ceil,
        burst=_ticks(burst, rate),
        ceil_burst=_ticks(burst, ceil),
        queue=_queue(ceil),
    )


def _queue(ceil: int) -> int:
    """Bytes that may wait."""
    slow = min(ceil * _SLOW_QUEUE_MS // 1000, _SLOW_QUEUE)
    return min(max(ceil * _QUEUE_MS // 1000, slow, _QUEUE_MIN), _QUEUE_MAX)


def _burst_of(rate: int) -> int:
    return max(rate * _BURST_MS // 1000, _PIECE_MAX)


def _ticks(size: int, rate: int) -> int:
    """Time that so many bytes take, rounded up."""
    return min(-(-size * 10**9 // (rate * _TICK_NS)), _TICKS_MAX)


def size_table() -> list[int]:
    """What packets of 0-7, 8-15, ... IP bytes count for.

    A packet counts for its IP bytes, but a large one for 30 less: about what
    TCP spends on headers. When it hands over many segments as one packet their
    headers are counted once and cost next to nothing; so what a limit lets
    through is the same whether it does or not, and near the limit either way.
    Above the table, whole tables are added (net/sched/sch_api.c,
    __qdisc_calculate_pkt_len): a packet of 64 KiB counts for 0.4 % less.
    """
    return [round(n - 30 * min(max((n - 600) / 680, 0), 1)) for n in range(4, 8192, CELL_BYTES)]


CELL_BYTES = 8
