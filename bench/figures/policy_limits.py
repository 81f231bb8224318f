"""Limits of bandwidth: what TCP and UDP get under them, and what a ping takes
through a port that its own TCP stream holds at its limit, beside the same limit
by plain HTB and TBF between joined veths."""

from __future__ import annotations

from bench.commands import progress
from bench.peers import joined_veths
from bench.policy_limits import (
    Limit,
    datagrams,
    goodput_and_ping,
    limited_pairs,
    plain_htb,
    plain_tbf,
)
from bench.report import Figure, Measured, at_most

RATES = ("10mbit", "100mbit", "1gbit", "5gbit")
MILLISECONDS = 4000
UDP_MILLISECONDS = 2500
# Handed over in one packet, where one by one this machine could not send enough.
_SEGMENTS = {"1gbit": 10, "5gbit": 45}


def measure_tcp() -> Measured:
    """Goodput and ping of the same streams; peers in turn, rate by rate."""
    pairs, joined = limited_pairs(RATES), joined_veths()
    goodputs: dict[Limit, float] = {}
    pings: dict[str, float] = {}
    ratios = []
    for rate in RATES:
        ours = [limit for limit in pairs if limit.rate == rate]
        for limit in ours:
            goodputs[limit], pings[f"heddle, {limit}"] = goodput_and_ping(
                pairs[limit], MILLISECONDS
            )
        peers = []
        for make in (plain_htb, plain_tbf):
            peer = make(joined, rate)
            _, ping = goodput_and_ping(peer, MILLISECONDS)
            pings[f"{peer.name}, {rate}"] = ping
            peers.append(ping)
        ratios += [pings[f"heddle, {limit}"] / max(peers) for limit in ours]
    for limit, goodput in goodputs.items():
        progress(f"  TCP under {limit}: {goodput / limit.bits_per_second:.4f} of the limit")
    values = {
        "limit-tcp": max(_error(goodput, limit) for limit, goodput in goodputs.items()),
        "limit-ping": max(ratios),
    }
    return Measured(values, "ms", pings)


def measure_udp() -> Measured:
    """Twice the limit is offered."""
    got = {}
    for limit, pair in limited_pairs(RATES).items():
        offered = 2 * limit.bits_per_second
        got[limit] = datagrams(pair, offered, _SEGMENTS.get(limit.rate, 1), UDP_MILLISECONDS)
    shares = {str(limit): bits / limit.bits_per_second for limit, bits in got.items()}
    return Measured({"limit-udp": max(_error(b, limit) for limit, b in got.items())}, "", shares)


def _error(bits_per_second: float, limit: Limit) -> float:
    """Distance from the limit in percent of it."""
    return abs(bits_per_second / limit.bits_per_second - 1) * 100


TCP = Figure(
    "policy-limits-tcp",
    "Limits of 10 and 100 Mbit/s, 1 and 5 Gbit/s: TCP stream, and ping past it",
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
