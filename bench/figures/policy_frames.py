"""64-byte frames of established flows, with security groups at both ends: CPU
time per frame, generator included, beside peers that track connections."""

from __future__ import annotations

from collections.abc import Callable

from bench.policy_meters import FlowMeter
from bench.policy_peers import nftables_bridge, nftables_forwarding, open_vswitch
from bench.policy_product import FEW, in_group, load, start_pairs
from bench.policy_rules import RuleBook
from bench.report import Figure, Measured, at_least
from bench.rounds import interleave, medians, ratio

ROUNDS = 15
MILLISECONDS = 150
FLOWS = 10
MANY = 10_000


def measure() -> Measured:
    ours = start_pairs(("few", "many"), {name: in_group(name) for name in ("few", "many")})
    load(RuleBook("many").scattered(MANY - FEW))
    vswitch, daemon = open_vswitch()
    peers = (nftables_forwarding(), nftables_bridge())
    contenders = {
        "heddle": _meter(FlowMeter(ours["few"])),
        "heddle, 10,000 rules": _meter(FlowMeter(ours["many"])),
        **{pair.name: _meter(FlowMeter(pair)) for pair in peers},
        vswitch.name: _meter(FlowMeter(vswitch, daemon)),
    }
    samples = interleave(contenders, ROUNDS)
    few, many = samples["heddle"], samples["heddle, 10,000 rules"]
    values = {
        "policy-frames-of-nftables": min(ratio(samples[pair.name], few) for pair in peers),
        "policy-frames-of-open-vswitch": ratio(samples[vswitch.name], few),
        "policy-frames-with-10000-rules": ratio(few, many),
    }
    return Measured(values, "ns per frame", medians(samples))


def _meter(meter: FlowMeter) -> Callable[[], float]:
    return lambda: meter.cost(MILLISECONDS, FLOWS).established


FIGURE = Figure(
    "policy-frames",
    "64-byte frames of established flows, stateful groups, generator included",
    {
        "policy-frames-of-nftables": at_least(1.5, "of nftables on a bridge or IP forwarding"),
        "policy-frames-of-open-vswitch": at_least(3, "of Open vSwitch in user space"),
        "policy-frames-with-10000-rules": at_least(0.95, "of the same with 10 rules"),
    },
    measure,
)
