"""A port's guaranteed minimum among greedy ones, when together they may send
what the host's capacity is."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from bench.policy_limits import state_capacity
from bench.policy_meters import stream
from bench.policy_product import OPEN, start_pairs
from bench.report import Figure, Measured, at_least

CAPACITY = 1000  # Mbit/s
MINIMUM = 400
GREEDY = 4  # neighbours, each of which could use all of the capacity
MILLISECONDS = 4000


def measure() -> Measured:
    state_capacity(f"{CAPACITY}mbit")
    sender, receiver = OPEN
    greedy = ({**sender, "rate": {"from_vm": f"{CAPACITY}mbit"}}, receiver)
    guaranteed = ({**sender, "rate": {"minimum": f"{MINIMUM}mbit"}}, receiver)
    names = [f"greedy {number}" for number in range(GREEDY)]
    pairs = start_pairs((), {"guaranteed": guaranteed, **dict.fromkeys(names, greedy)})
    alone = stream(pairs["guaranteed"], MILLISECONDS) / 1e6
    with ThreadPoolExecutor(len(pairs)) as pool:
        rates = dict(
            zip(
                pairs,
                pool.map(lambda pair: stream(pair, MILLISECONDS), pairs.values()),
                strict=True,
            )
        )
    told = {"guaranteed, alone": alone, **{name: rate / 1e6 for name, rate in rates.items()}}
    return Measured({"guarantee-among-greedy": told["guaranteed"] / MINIMUM}, "Mbit/s", told)


FIGURE = Figure(
    "policy-guarantee",
    f"A minimum of {MINIMUM} Mbit/s beside {GREEDY} greedy ports, capacity {CAPACITY} Mbit/s",
    {"guarantee-among-greedy": at_least(0.95, "of the guaranteed rate")},
    measure,
)
