"""Rates and bursts as a topology file writes them: the units of ``tc``.

The parsers raise ValueError with "what is wrong; what would be right".
"""

from __future__ import annotations

import re
from fractions import Fraction

from heddle.intent.problems import shown

# HTB counts bytes per second: below this, rounding shows.
RATE_MIN = 8_000
RATE_MAX = 10**12
# The kernel keeps a burst as 32 bits of time in ticks of 64 ns
# (include/net/pkt_sched.h, PSCHED_SHIFT), which are 274 s.
BURST_SECONDS_MAX = 240

# One packet of 64 KiB as TCP hands it over (GSO). The kernel counts the headers
# of each of its segments (qdisc_pkt_len_init), at most 8 KiB of them.
GSO_BYTES = 72 << 10
BURST_MILLISECONDS = 10

PACKET_BURST_MIN = 64  # so many segments a GSO packet has
PACKET_BURST_MAX = 1_000_000

_RATE = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)\s*([kmgt]?)(i?)bit", re.IGNORECASE | re.ASCII)
_BYTE_RATE = re.compile(r"[\d.]+\s*[kmgt]?i?bps", re.IGNORECASE | re.ASCII)
_BURST = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)\s*([kmg]?)(?:i?b)?", re.IGNORECASE | re.ASCII)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def parse_bit_rate(value: object) -> int:
    """Bits per second from ``500mbit``, ``1.5gbit`` or a plain number."""
    rate = _bits(value)
    if rate < RATE_MIN:
        raise ValueError(f"{value} is less than the kernel can keep; give 8kbit or more")
    if rate > RATE_MAX:
        raise ValueError(f"{value} is more than any link has; give 1tbit or less, or leave it out")
    return rate


def _bits(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    text = value.strip() if isinstance(value, str) else ""
    if text.isdecimal() and text.isascii() and len(text) <= 15:
        return int(text)
    if _BYTE_RATE.fullmatch(text):
        raise ValueError(f'"{text}" could be bits or bytes; write bits, such as 500mbit')
    match = _RATE.fullmatch(text)
    if match is None:
        raise ValueError(f"{shown(value)} is no rate; write one such as 500mbit or 1gbit")
    base = 1024 if match[3] else 1000
    return int(Fraction(match[1]) * base ** _POWERS[match[2].lower()])


def parse_burst(value: object) -> int:
    """Bytes from ``64k``, ``1mb`` (binary units) or a plain number of bytes."""
    usable = isinstance(value, str | int) and not isinstance(value, bool)
    match = _BURST.fullmatch(str(value).strip()) if usable else None
    if match is None:
        raise ValueError(f"{shown(value)} is no number of bytes; write one such as 64k or 1mb")
    burst = int(Fraction(match[1]) * 1024 ** _POWERS[match[2].lower()])
    if burst < 1:
        raise ValueError(f"{value} is less than a packet; write one such as 64k or 1mb")
    return burst


def default_burst(rate: int) -> int:
    """Bytes that may pass at once under a rate (bits per second)."""
    return max(GSO_BYTES, rate * BURST_MILLISECONDS // 8000)


def default_packet_burst(rate: int) -> int:
    """Packets that may pass at once under a rate (packets per second)."""
    return min(max(PACKET_BURST_MIN, rate * BURST_MILLISECONDS // 1000), PACKET_BURST_MAX)


def rate_text(rate: int) -> str:
    """``1.5mbit`` for 1500000."""
    for unit in ("t", "g", "m", "k"):
        size: int = 1000 ** _POWERS[unit]
        if rate >= size and rate * 1000 % size == 0:
            return f"{rate / size:.3f}".rstrip("0").rstrip(".") + f"{unit}bit"
    return f"{rate}bit"


def bytes_text(number: int) -> str:
    """``1mb`` for 1048576."""
    for unit in ("g", "m", "k"):
        size: int = 1024 ** _POWERS[unit]
        if number >= size and number % size == 0:
            return f"{number // size}{unit}b"
    return f"{number} bytes"
