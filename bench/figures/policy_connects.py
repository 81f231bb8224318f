"""New TCP connections on one core, with security groups and beside nftables:
between two containers, and what of their cost is the switch's alone.

Most of a connection's time goes into TCP at its two ends. Two directly joined
veth ends show what no switch can exceed, and what is left of a connection's time
when theirs is taken off is the network's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from statistics import median

from bench import peers
from bench.peers import Pair
from bench.policy_meters import FlowMeter, connects_per_second
from bench.policy_peers import nftables_bridge, nftables_forwarding
from bench.policy_product import in_group, start_pairs
from bench.report import Figure, Measured, at_least
from bench.rounds import Samples, interleave, medians, ratio

ROUNDS = 13
MILLISECONDS = 150
_JOINED = "joined veth ends"
FRAMES_OF = 64 * 50  # connections per round, of which the frames alone are sent


def measure() -> Measured:
    heddle = start_pairs(("group",), {"pair": in_group("group")})["pair"]
    others = {pair.name: pair for pair in (nftables_forwarding(), nftables_bridge())}
    pairs = {"heddle": heddle, **others}
    contenders = {name: _connects(pair) for name, pair in pairs.items()}
    contenders[_JOINED] = _connects(peers.joined_veths())
    connects = interleave(contenders, ROUNDS)
    handshakes = interleave({name: _handshakes(pair) for name, pair in pairs.items()}, ROUNDS)
    values = {
        "policy-connects-of-nftables": _of_best(connects, others),
        "policy-connects-beyond-veths": _beyond(connects, others),
        "policy-handshakes-of-nftables": _of_best(handshakes, others),
    }
    frames_alone = {f"{name}, frames alone": rate for name, rate in medians(handshakes).items()}
    return Measured(values, "connections/s", medians(connects) | frames_alone)


def _connects(pair: Pair) -> Callable[[], float]:
    return lambda: connects_per_second(pair, MILLISECONDS)


def _handshakes(pair: Pair) -> Callable[[], float]:
    meter, numbers = FlowMeter(pair), count(step=FRAMES_OF)
    return lambda: meter.handshakes_per_second(FRAMES_OF, next(numbers))


def _of_best(samples: Samples, others: Mapping[str, Pair]) -> float:
    return min(ratio(samples["heddle"], samples[name]) for name in others)


def _beyond(samples: Samples, others: Mapping[str, Pair]) -> float:
    """As ``_of_best``, of the time that a connection takes beyond that of joined veths."""
    own = {name: _own_seconds(samples, name) for name in ("heddle", *others)}
    return min(own[name] for name in others) / own["heddle"]


def _own_seconds(samples: Samples, name: str) -> float:
    rounds = zip(samples[name], samples[_JOINED], strict=True)
    return median(1 / rate - 1 / joined for rate, joined in rounds)


FIGURE = Figure(
    "policy-connects",
    "New TCP connections, opened and closed, per second of CPU time",
    {
        "policy-connects-of-nftables": at_least(1.3, "of nftables on a bridge or IP forwarding"),
        "policy-connects-beyond-veths": at_least(1.3, "of the same, less what joined veths take"),
        "policy-handshakes-of-nftables": at_least(1.3, "of the same, without TCP at the ends"),
    },
    measure,
)
