"""Limits of bandwidth, ours and those of the kernel's own queues: how to make
them, and to measure what they let through."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import NamedTuple

from bench.commands import BenchError, run
from bench.meters import meter
from bench.peers import DEVICE, Pair, netns_path, run_in
from bench.policy_meters import STREAM_CPUS, stream
from bench.policy_product import OPEN, Nic, start_pairs
from heddle.intent.rates import default_burst, parse_bit_rate
from heddle.paths import settings_file

DIRECTIONS = ("from_vm", "to_vm")
DATAGRAM_BYTES = 1422  # as many as an MTU of 1450 holds
_PING_SECONDS = 0.02  # from one to the next
_PING_AVERAGE = re.compile(r"min/avg/max/mdev = [\d.]+/([\d.]+)/")
_SETTLE_MILLISECONDS = 500  # of a stream before it is pinged past


@dataclass(frozen=True, slots=True)
class Limit:
    """A rate (``10mbit``), and the direction in which it holds."""

    direction: str
    rate: str

    def __str__(self) -> str:
        return f"{self.rate} {self.direction}"

    @property
    def bits_per_second(self) -> int:
        return parse_bit_rate(self.rate)


def limited_pairs(rates: Sequence[str]) -> dict[Limit, Pair]:
    """Of each, the sender may send or the receiver be sent no more."""
    limits = [Limit(direction, rate) for direction in DIRECTIONS for rate in rates]
    pairs = start_pairs((), {str(limit): _ends(limit) for limit in limits})
    return {limit: pairs[str(limit)] for limit in limits}


def _ends(limit: Limit) -> tuple[Nic, Nic]:
    sender, receiver = OPEN
    rate = {"rate": {limit.direction: limit.rate}}
    if limit.direction == "from_vm":
        return {**sender, **rate}, receiver
    return sender, {**receiver, **rate}


def state_capacity(rate: str) -> None:
    """Before the agent starts: what the ports of the private host may send together."""
    file = settings_file()
    file.parent.mkdir(parents=True)
    file.write_text(f'capacity = "{rate}"\n', encoding="utf-8")


def plain_htb(pair: Pair, rate: str) -> Pair:
    """Joined veths with HTB at the sender's end, with the queue that it brings."""
    _queue(pair, "root", "handle", "1:", "htb", "default", "1")
    limit = ("parent", "1:", "classid", "1:1", "htb", *_tokens(rate))
    run("tc", "-n", pair.sender, "class", "add", "dev", DEVICE, *limit)
    return replace(pair, name="HTB")


def plain_tbf(pair: Pair, rate: str) -> Pair:
    """The same with TBF and a queue of 50 ms."""
    _queue(pair, "root", "tbf", *_tokens(rate), "latency", "50ms")
    return replace(pair, name="TBF")


def _queue(pair: Pair, *words: str) -> None:
    run("tc", "-n", pair.sender, "qdisc", "replace", "dev", DEVICE, *words)


def _tokens(rate: str) -> tuple[str, ...]:
    """The same rate and burst as ours."""
    return ("rate", rate, "burst", str(default_burst(parse_bit_rate(rate))))


class Stream(NamedTuple):
    """What a TCP stream brings, and how long a ping takes past it."""

    bits_per_second: float
    ping_ms: float


def stream_and_ping(pair: Pair, milliseconds: int) -> Stream:
    """Both at the same time."""
    with ThreadPoolExecutor(1) as beside:
        ping = beside.submit(_ping, pair, milliseconds - _SETTLE_MILLISECONDS)
        return Stream(stream(pair, milliseconds), ping.result())


def _ping(pair: Pair, milliseconds: int) -> float:
    time.sleep(_SETTLE_MILLISECONDS / 2000)
    count = int(milliseconds / 1000 / _PING_SECONDS)
    told = run_in(
        pair.sender, "ping", "-q", "-i", str(_PING_SECONDS), "-c", str(count), pair.receiver_ip
    )
    found = _PING_AVERAGE.search(told)
    if found is None:
        raise BenchError(f"{pair.name}: no ping came back past a TCP stream")
    return float(found[1])


def datagrams(pair: Pair, bits_per_second: int, segments: int, milliseconds: int) -> float:
    """Bits per second that arrive of UDP sent at a rate; BenchError when this
    machine can't send so much."""
    answer = meter(
        "datagrams",
        sender_netns=netns_path(pair.sender),
        receiver_netns=netns_path(pair.receiver),
        destination_ip=pair.receiver_ip,
        bits_per_second=bits_per_second,
        datagram_bytes=DATAGRAM_BYTES,
        segments=segments,
        sender_cpu=STREAM_CPUS[0],
        receiver_cpu=STREAM_CPUS[1],
        milliseconds=milliseconds,
    )
    return answer["received"] * 8e9 / answer["wall_ns"]
