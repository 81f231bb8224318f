"""The first packet of a flow: what it costs more than a later one, with rules
of several numbers and kinds at both ends, and without any.

Each flow goes to another port of the receiver, so that its rules have not been
asked the same before; beside that, flows of which all but the first have been.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from bench.peers import Pair
from bench.policy_meters import FlowMeter
from bench.policy_product import FEW, OPEN, in_group, load, start_pairs
from bench.policy_rules import RuleBook
from bench.report import Figure, Measured, at_most
from bench.rounds import interleave, medians

ROUNDS = 11
MILLISECONDS = 0  # for frames after those that are compared
NEW_FLOWS = 2000  # per round
MANY = 10_000
NESTED = 1000  # with as many kinds of ports for each prefix as there can be
GROUPS = ("few", "many", "nested")
_TITLES = {
    "open": "heddle, policy off",
    "few": "heddle, 10 rules",
    "many": "heddle, 10,000 rules",
    "nested": "heddle, 1,000 rules about the peer",
}


def measure() -> Measured:
    pairs = start_pairs(GROUPS, {"open": OPEN, **{name: in_group(name) for name in GROUPS}})
    books = {name: RuleBook(name, book) for book, name in enumerate(GROUPS)}
    load(book.allowing(pairs[name].sender_ip) for name, book in books.items())
    load(books["many"].scattered(MANY - FEW))
    load(books["nested"].nested(pairs["nested"].sender_ip, NESTED - FEW))
    contenders = {_TITLES[name]: _added(pair, own_ports=True) for name, pair in pairs.items()}
    contenders[f"{_TITLES['many']}, asked before"] = _added(pairs["many"], own_ports=False)
    micro = medians(interleave(contenders, ROUNDS))
    return Measured({"policy-first-packet": micro[_TITLES["many"]]}, "us added", micro)


def _added(pair: Pair, *, own_ports: bool) -> Callable[[], float]:
    """Microseconds of CPU time by which a first frame exceeds a later one."""
    meter, numbers = FlowMeter(pair), count(step=NEW_FLOWS)

    def added() -> float:
        cost = meter.cost(MILLISECONDS, NEW_FLOWS, next(numbers), own_ports=own_ports)
        return cost.added_to_first / 1000

    return added


FIGURE = Figure(
    "policy-first",
    "First packet of a flow: CPU time added to that of a later packet",
    {"policy-first-packet": at_most(20, "us added, with 10,000 rules at both ends")},
    measure,
)
