"""64-byte frames among 10,000 ports and 100,000 live flows, and among ten.

The other ports are NICs of stopped VMs. The pair that is measured among many
was made when half of them were there: the kernel finds the device of a port in
a list of which the newest is the first, so the age of a port counts. Both
halves are measured beside nftables, so that the moods of the machine between
them cancel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bench.policy_meters import FlowMeter
from bench.policy_peers import nftables_forwarding
from bench.policy_product import in_group, load, start_pairs
from bench.ports import Plan
from bench.report import Figure, Measured, at_least
from bench.rounds import Samples, interleave, medians, ratio
from heddle.intent.model import AnyResource, Router

ROUNDS = 15
ROUNDS_IN_TURN = 3  # of frames of all flows
MILLISECONDS = 120
FEW, MANY = 10, 10_000  # ports
FEW_FLOWS, MANY_FLOWS = 10, 100_000
_PAIR = 2  # ports of a pair that is measured
_ROUTERS = 1000  # numbers of the plan's routers, beyond that of the pairs'
_HEDDLE, _PEER = "heddle", "IP forwarding, nftables"


def measure() -> Measured:
    peer, oldest = FlowMeter(nftables_forwarding()), _newest_of("oldest")
    load(_ports(FEW - _PAIR))
    few = interleave({_HEDDLE: _cost(oldest), _PEER: _cost(peer)}, ROUNDS)
    load(_ports(MANY // 2))
    middle = _newest_of("oldest", "middle")
    load(_ports(MANY - 2 * _PAIR))
    in_turn = {_HEDDLE: _cost(middle, MANY_FLOWS), _PEER: _cost(peer, MANY_FLOWS)}
    all_flows = interleave(in_turn, ROUNDS_IN_TURN)  # which opens them
    contenders = {
        _HEDDLE: _cost(middle),
        f"{_HEDDLE}, the oldest port": _cost(oldest),
        _PEER: _cost(peer),
    }
    many = interleave(contenders, ROUNDS)
    values = {"policy-frames-among-many": _speed(many) / _speed(few)}
    return Measured(
        values,
        "ns per frame",
        {f"{name}, among few": cost for name, cost in medians(few).items()}
        | medians(many)
        | {f"{name}, all flows in turn": cost for name, cost in medians(all_flows).items()},
    )


def _newest_of(*names: str) -> FlowMeter:
    """Of these pairs, the last, which is made now."""
    pairs = start_pairs(("group",), {name: in_group("group") for name in names})
    return FlowMeter(pairs[names[-1]])


def _ports(count: int) -> Iterator[AnyResource]:
    for resource in Plan(count).resources:
        if isinstance(resource, Router):
            yield resource.model_copy(update={"number": resource.number + _ROUTERS})
        else:
            yield resource


def _cost(meter: FlowMeter, flows: int = FEW_FLOWS) -> Callable[[], float]:
    return lambda: meter.cost(MILLISECONDS, flows).established


def _speed(samples: Samples) -> float:
    """As a multiple of the peer's in the same minute."""
    return ratio(samples[_PEER], samples[_HEDDLE])


FIGURE = Figure(
    "policy-scale",
    "64-byte frames among 10,000 ports and 100,000 live flows",
    {"policy-frames-among-many": at_least(0.9, "of the same among 10 ports and 10 flows")},
    measure,
)
