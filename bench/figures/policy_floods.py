"""A neighbour's guarantee while another container floods the switch.

The neighbour may send so much and is guaranteed as much. The flooder sits in
its network and keeps every core busy with 64-byte frames, sent to the
neighbour's peer or to all. The neighbour opens its connection at the height of
the flood, so that it would fail at a flow table that is full.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from bench.commands import BenchError, progress
from bench.peers import Pair
from bench.policy_meters import FLOOD_CPUS, flood, stream
from bench.policy_peers import TCP_PORTS, UDP_PORTS
from bench.policy_product import in_group, start_pairs
from bench.report import Figure, Measured, at_least

GUARANTEE = 500  # Mbit/s
MILLISECONDS = 1500
HEIGHT_SECONDS = 0.8  # after which a flood has done what harm it can
FLOOD_MILLISECONDS = 3500
BROADCAST = ("ff:ff:ff:ff:ff:ff", "10.83.1.255")  # of the senders' subnet, which rules allow
_UDP, _TCP = 17, 6


@dataclass(frozen=True, slots=True)
class Kind:
    """What a flood consists of: ``flows`` different ones in turn."""

    title: str
    protocol: int = _UDP
    first_port: int = UDP_PORTS[0]
    flows: int = 1
    is_broadcast: bool = False


KINDS = {
    "guarantee-in-frame-flood": Kind("64-byte frames of one flow"),
    "guarantee-in-syn-flood": Kind("TCP SYNs", _TCP, TCP_PORTS[0], 400_000),
    "guarantee-in-flow-flood": Kind("a new UDP flow with each frame", flows=400_000),
    "guarantee-in-broadcast-storm": Kind("broadcasts", is_broadcast=True),
}


def measure() -> Measured:
    neighbour, flooder = _start()
    rates = {"heddle, no flood": _rate(neighbour)}
    values = {}
    for name, kind in KINDS.items():
        rates[f"heddle, {kind.title}"] = rate = _rate_during(kind, neighbour, flooder)
        values[name] = rate / GUARANTEE
    return Measured(values, f"Mbit/s of {GUARANTEE}", rates)


def _start() -> tuple[Pair, Pair]:
    """The neighbour and the flooder."""
    plain, _ = in_group("group")
    rate = {"from_vm": f"{GUARANTEE}mbit", "minimum": f"{GUARANTEE}mbit"}
    nics = {"neighbour": ({**plain, "rate": rate}, plain), "flooder": in_group("group")}
    pairs = start_pairs(("group",), nics)
    return pairs["neighbour"], pairs["flooder"]


def _rate(neighbour: Pair) -> float:
    """Mbit/s that a stream brings."""
    return stream(neighbour, MILLISECONDS) / 1e6


def _rate_during(kind: Kind, neighbour: Pair, flooder: Pair) -> float:
    mac, address = flooder.next_hop_mac, neighbour.receiver_ip
    if kind.is_broadcast:
        mac, address = BROADCAST
    with ThreadPoolExecutor(len(FLOOD_CPUS)) as pool:
        floods = [
            pool.submit(
                flood,
                flooder,
                mac,
                address,
                cpu=cpu,
                protocol=kind.protocol,
                flows=kind.flows,
                first_flow=number * kind.flows,
                first_port=kind.first_port,
                milliseconds=FLOOD_MILLISECONDS,
            )
            for number, cpu in enumerate(FLOOD_CPUS)
        ]
        time.sleep(HEIGHT_SECONDS)
        rate = _rate_or_nothing(neighbour)
        frames = sum(done.result() for done in floods)
    progress(f"{kind.title}: {frames} frames in {FLOOD_MILLISECONDS / 1000} s")
    return rate


def _rate_or_nothing(neighbour: Pair) -> float:
    try:
        return _rate(neighbour)
    except BenchError as error:  # the stream could not even begin
        progress(str(error))
        return 0.0


FIGURE = Figure(
    "policy-floods",
    f"A neighbour's guarantee of {GUARANTEE} Mbit/s during floods on all cores",
    {name: at_least(0.95, "of the guaranteed rate") for name in KINDS},
    measure,
)
