"""64-byte frames among 10,000 ports and 100,000 live flows, and among ten.

The ports are NICs of stopped VMs. The frames are of all live flows in turn, so
that none finds its flow in a near cache. Both halves are measured beside IP
forwarding, so that the moods of the machine between them cancel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bench import peers
from bench.policy_meters import FlowMeter
from bench.policy_product import in_group, load, start_pairs
from bench.ports import Plan
from bench.report import Figure, Measured, at_least
from bench.rounds import Samples, interleave, medians, ratio
from heddle.intent.model import AnyResource, Router

ROUNDS = 7
MILLISECONDS = 250
FEW, MANY = 10, 10_000  # ports
FEW_FLOWS, MANY_FLOWS = 10, 100_000
_PAIR = 2  # ports of the pair that is measured
_ROUTERS = 1000  # numbers of the plan's routers, beyond that of the pair's


def measure() -> Measured:
    heddle = FlowMeter(start_pairs(("group",), {"pair": in_group("group")})["pair"])
    forwarding = FlowMeter(peers.ip_forwarding())
    load(_ports(FEW - _PAIR))
    few = _samples(heddle, forwarding, FEW_FLOWS)
    load(_ports(MANY - _PAIR))
    many = _samples(heddle, forwarding, MANY_FLOWS)
    values = {"policy-frames-among-many": _speed(many) / _speed(few)}
    detail = {f"{name}, among few": cost for name, cost in medians(few).items()}
    detail |= {f"{name}, among many": cost for name, cost in medians(many).items()}
    return Measured(values, "ns per frame", detail)


def _ports(count: int) -> Iterator[AnyResource]:
    for resource in Plan(count).resources:
        if isinstance(resource, Router):
            yield resource.model_copy(update={"number": resource.number + _ROUTERS})
        else:
            yield resource


def _samples(heddle: FlowMeter, forwarding: FlowMeter, flows: int) -> Samples:
    contenders = {
        "heddle": _meter(heddle, flows),
        "heddle, ten of them": _meter(heddle, FEW_FLOWS),
        "IP forwarding": _meter(forwarding, FEW_FLOWS),
    }
    return interleave(contenders, ROUNDS)


def _meter(meter: FlowMeter, flows: int) -> Callable[[], float]:
    return lambda: meter.cost(MILLISECONDS, flows).established


def _speed(samples: Samples) -> float:
    """As a multiple of IP forwarding's in the same minute."""
    return ratio(samples["IP forwarding"], samples["heddle"])


FIGURE = Figure(
    "policy-scale",
    "64-byte frames among 10,000 ports and 100,000 live flows",
    {"policy-frames-among-many": at_least(0.9, "of the same among 10 ports and 10 flows")},
    measure,
)
