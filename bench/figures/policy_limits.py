"""Limits of bandwidth: what TCP and UDP get under them, and what a ping takes
through a port that its own TCP stream holds at its limit, beside the same limit
by plain HTB and TBF between joined veths."""

from __future__ import annotations

from statistics import mean

from bench.commands import progress
from bench.peers import Pair, joined_veths
from bench.policy_limits import (
    Limit,
    Stream,
    datagrams,
    limited_pairs,
    plain_htb,
    plain_tbf,
    stream_and_ping,
)
from bench.report import Figure, Measured, at_most

RATES = ("10mbit", "100mbit", "1gbit", "5gbit")
ROUNDS = 2
MILLISECONDS = 2500
UDP_MILLISECONDS = 2500
# Handed over in one packet, where one by one this machine could not send enough.
_SEGMENTS = {"1gbit": 10, "5gbit": 45}


def measure_tcp() -> Measured:
    """Goodput and ping of the same streams; ours and the peers take turns."""
    pairs, joined = limited_pairs(RATES), joined_veths()
    streams: dict[str, list[Stream]] = {}
    for rate in RATES:
        for _ in range(ROUNDS):
            for limit in (limit for limit in pairs if limit.rate == rate):
                _measure(streams, f"heddle, {limit}", pairs[limit])
            for peer in (plain_htb(joined, rate), plain_tbf(joined, rate)):
                _measure(streams, f"{peer.name}, {rate}", peer)
    pings = {name: mean(each.ping_ms for each in found) for name, found in streams.items()}
    errors = []
    for limit in pairs:
        goodput = mean(each.bits_per_second for each in streams[f"heddle, {limit}"])
        progress(f"TCP under {limit}: {goodput / limit.bits_per_second:.4f} of the limit")
        errors.append(_error(goodput, limit))
    values = {
        "limit-tcp": max(errors),
        "limit-ping": max(_ping_ratio(pings, limit) for limit in pairs),
    }
    return Measured(values, "ms", pings)


def _measure(streams: dict[str, list[Stream]], name: str, pair: Pair) -> None:
    streams.setdefault(name, []).append(stream_and_ping(pair, MILLISECONDS))


def _ping_ratio(pings: dict[str, float], limit: Limit) -> float:
    peers = (pings[f"{peer}, {limit.rate}"] for peer in ("HTB", "TBF"))
    return pings[f"heddle, {limit}"] / max(peers)


def measure_udp() -> Measured:
    """Twice the limit is offered."""
    got = {}
    for limit, pair in limited_pairs(RATES).items():
        offered = 2 * limit.bits_per_second
        got[limit] = datagrams(pair, offered, _SEGMENTS.get(limit.rate, 1), UDP_MILLISECONDS)
    shares = {str(limit): bits / limit.bits_per_second for limit, bits in got.items()}
    errors = [_error(bits, limit) for limit, bits in got.items()]
    return Measured({"limit-udp": max(errors)}, "of the limit", shares)


def _error(bits_per_second: float, limit: Limit) -> float:
    """Distance from the limit in percent of it."""
    return abs(bits_per_second / limit.bits_per_second - 1) * 100


TCP = Figure(
    "policy-limits-tcp",
    "Limits of 10 and 100 Mbit/s, 1 and 5 Gbit/s: ping past a TCP stream",
    {
        "limit-tcp": at_most(3, "% off the limit, at worst"),
        "limit-ping": at_most(1, "of plain HTB or TBF, at worst"),
    },
    measure_tcp,
)
UDP = Figure(
    "policy-limits-udp",
    "The same limits, UDP offered at twice the limit: share that arrives",
    {"limit-udp": at_most(3, "% off the limit, at worst")},
    measure_udp,
)
