"""Ports that change their security groups while the rules of groups change: no port ever
has a rule that it has neither before nor after."""

from __future__ import annotations

from contextlib import suppress

import pytest
from applier_states import Plug, delta_between, host_state, port_row
from host_checks import assert_holds
from hypothesis import given, settings
from hypothesis import strategies as st

from heddle.applier.applier import Applier
from heddle.applier.fake import Died, FakeKernel
from heddle.compiler.state import HostState, PolicyRuleKey, RowKey, Symbol

TO_VM = Symbol("direction", ("TO_VM",))
PLUGS = (Plug(1), Plug(2), Plug(3))
GROUPS, L4_PORTS = (1, 2, 3), (22, 80, 443)
Rules = dict[int, frozenset[int]]
"""L4 ports that are open, by security group."""
Members = dict[Plug, frozenset[int]]
"""Groups of a port."""
Policy = tuple[Members, Rules]

MEMBERS = st.fixed_dictionaries({p: st.frozensets(st.sampled_from(GROUPS)) for p in PLUGS})
RULES = st.fixed_dictionaries({g: st.frozensets(st.sampled_from(L4_PORTS)) for g in GROUPS})
POLICIES = st.tuples(MEMBERS, RULES)


def state_of(members: Members, rules: Rules) -> HostState:
    state = host_state(PLUGS)
    for plug, groups in members.items():
        row = port_row(state, plug)._replace(group_count=len(groups), groups=tuple(sorted(groups)))
        state.rows[RowKey("ports", plug.device)] = row
    for group, ports in rules.items():
        for port in ports:
            key = PolicyRuleKey(group, 0, TO_VM, 4, 96, 16, bytes(16), 6, port)
            state.rows[RowKey("policy_rules", key)] = 1000 * group + port
    return state


def open_ports(members: Members, rules: Rules) -> dict[Plug, frozenset[int]]:
    return {
        plug: frozenset[int]().union(*(rules[group] for group in groups))
        for plug, groups in members.items()
    }


def in_kernel(kernel: FakeKernel) -> dict[Plug, frozenset[int]]:
    """What is open by the rows that are there."""
    (_, port_codec), (rule_codec, _) = map(kernel.abi.table_types, ("ports", "policy_rules"))
    by_mac = {plug.mac: plug for plug in PLUGS}
    rules = [rule_codec.unpack(key) for key in kernel.tables["policy_rules"]]
    found = {}
    for value in kernel.tables["ports"].values():
        row = port_codec.unpack(value)
        groups = row["groups"][: row["group_count"]]
        found[by_mac[row["mac"]]] = frozenset(r["port"] for r in rules if r["group"] in groups)
    return found


def die_between(before: Policy, after: Policy, step: int, *, whole: bool) -> FakeKernel:
    """A kernel whose agent died on the way from one policy to the other."""
    kernel = FakeKernel()
    applier = Applier(kernel)
    applier.synchronize(state_of(*before))
    kernel.die_at = len(kernel.steps) + step
    with suppress(Died):
        if whole:
            Applier(kernel).synchronize(state_of(*after))
        else:
            applier.apply(delta_between(state_of(*before), state_of(*after)))
    kernel.die_at = None
    return kernel


@settings(max_examples=200)
@given(POLICIES, POLICIES, st.integers(0, 40), st.booleans())
def test_at_no_time_is_more_open(before: Policy, after: Policy, step: int, whole: bool) -> None:
    """One port that moves alone does not lack either what it has before and after."""
    kernel = die_between(before, after, step, whole=whole)
    was, will = open_ports(*before), open_ports(*after)
    moving = sum(before[0][plug] != after[0][plug] for plug in PLUGS)
    for plug, now in in_kernel(kernel).items():
        assert now <= was[plug] | will[plug]
        assert now >= was[plug] & will[plug] or moving > 1
    assert not Applier(kernel).synchronize(state_of(*after)).failures
    assert_holds(kernel, state_of(*after))


@pytest.mark.parametrize("step", range(16))
def test_ports_that_swap_their_groups_meet_no_rules_that_go(step: int) -> None:
    """Where no order is right, rather less is open."""
    first, second, third = PLUGS
    idle = {third: frozenset[int]()}
    before = {first: frozenset({1}), second: frozenset({2}), **idle}
    after = {first: frozenset({2}), second: frozenset({1}), **idle}
    rules = {1: frozenset({80}), 2: frozenset({443}), 3: frozenset[int]()}
    swapped = {**rules, 1: rules[2], 2: rules[1]}
    now = in_kernel(die_between((before, rules), (after, swapped), step, whole=False))
    assert now[first] <= {80}
    assert now[second] <= {443}
