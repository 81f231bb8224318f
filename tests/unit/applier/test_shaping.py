"""What limits of bandwidth become, and how the shaper is kept."""

from __future__ import annotations

import pytest
from applier_states import Plug, delta_between, host_state
from host_checks import assert_holds
from hypothesis import given
from hypothesis import strategies as st

from heddle.applier.applier import Action, Applier
from heddle.applier.fake import FakeKernel
from heddle.applier.shaping import (
    CELL_BYTES,
    DAMAGED,
    UNLIMITED,
    allowance_from_vm,
    allowance_of_host,
    allowance_to_vm,
    size_table,
)
from heddle.compiler.state import HostState, Rate, Shaping
from heddle.intent.names import SHAPER

MEGABIT = 1_000_000
SLOW, FAST = Rate(10 * MEGABIT, 80_000), Rate(40_000 * MEGABIT, 50_000_000)
SENDER = Plug(1, shaping=Shaping(from_vm=SLOW))
RECEIVER = Plug(2, shaping=Shaping(to_vm=SLOW))
FREE = Plug(3)


def applied(*plugs: Plug, capacity: int = 0) -> tuple[FakeKernel, Applier, HostState]:
    kernel, state = FakeKernel(), host_state(plugs)
    applier = Applier(kernel, capacity)
    assert not applier.synchronize(state).failures
    return kernel, applier, state


# ---- numbers ---------------------------------------------------------------


def test_a_burst_is_kept_as_the_time_it_takes() -> None:
    # 80,000 bytes at 1,250,000 bytes per second are 64 ms: a million ticks of 64 ns.
    assert allowance_to_vm(SLOW).ceil_burst == 1_000_000


def test_a_limited_port_needs_nobody_where_nothing_is_shared() -> None:
    allowance = allowance_from_vm(Shaping(from_vm=SLOW), capacity=0)
    assert allowance is not None
    assert (allowance.rate, allowance.ceil) == (1_250_000, 1_250_000)


def test_where_capacity_is_shared_only_the_minimum_is_guaranteed() -> None:
    shaping = Shaping(from_vm=SLOW, minimum=2 * MEGABIT)
    allowance = allowance_from_vm(shaping, capacity=1000 * MEGABIT)
    assert allowance is not None
    assert (allowance.rate, allowance.ceil) == (250_000, 1_250_000)


@pytest.mark.parametrize(
    ("capacity", "ceil"), [(0, UNLIMITED), (100 * MEGABIT, 100 * MEGABIT // 8)]
)
def test_a_minimum_alone_may_use_what_the_host_has(capacity: int, ceil: int) -> None:
    allowance = allowance_from_vm(Shaping(minimum=8 * MEGABIT), capacity)
    assert allowance is not None
    assert (allowance.rate, allowance.ceil) == (MEGABIT, ceil)


@given(st.integers(8_000, 10**12), st.integers(1500, 1 << 28))
def test_a_queue_holds_any_packet_in_one_piece_or_cut(rate: int, burst: int) -> None:
    allowance = allowance_to_vm(Rate(rate, burst))
    assert 9216 + 14 < allowance.piece <= allowance.queue < 1 << 32
    assert 0 < allowance.ceil_burst < 1 << 32
    assert allowance_of_host(rate).queue < 1 << 32


@pytest.mark.parametrize(
    ("ip_bytes", "counts_for"), [(50, 50), (576, 576), (1450, 1420), (9000, 9000)]
)
def test_packets_count_for_their_bytes_and_large_ones_for_a_little_less(
    ip_bytes: int, counts_for: int
) -> None:
    table = size_table()
    whole, rest = divmod(ip_bytes // CELL_BYTES, len(table))
    counted = table[-1] * whole + table[rest]  # as __qdisc_calculate_pkt_len reckons
    assert abs(counted - counts_for) <= max(CELL_BYTES // 2, 50 * whole)


# ---- the shaper ------------------------------------------------------------


def test_there_is_no_shaper_where_nobody_needs_one() -> None:
    kernel, _, _ = applied(RECEIVER, FREE)
    assert kernel.shaper is None
    assert not any("shaper" in step for step in kernel.steps)


def test_a_class_is_there_before_the_row_that_leads_to_it_and_goes_after() -> None:
    kernel, applier, before = applied(FREE)
    after = host_state([FREE, SENDER])
    kernel.steps.clear()
    applier.apply(delta_between(before, after))
    steps = [step.split()[0] for step in kernel.steps]
    assert steps.index("shaper") < steps.index("allowance") < steps.index("ports")
    kernel.steps.clear()
    applier.apply(delta_between(after, before))
    steps = [step.split()[0] for step in kernel.steps]
    assert steps.index("ports") < steps.index("shaper")
    assert_holds(kernel, before)


def test_a_changed_rate_changes_the_class_and_nothing_else() -> None:
    kernel, applier, before = applied(SENDER, RECEIVER, FREE)
    after = host_state([SENDER._replace(shaping=Shaping(from_vm=FAST)), RECEIVER, FREE])
    kernel.steps.clear()
    report = applier.apply(delta_between(before, after))
    assert report.changes == [Action("~", f"bandwidth from {SENDER.device}")]
    assert [step.split()[0] for step in kernel.steps if "epochs" not in step] == ["allowance"]
    assert_holds(kernel, after)


def test_a_limit_of_what_a_vm_is_sent_appears_changes_and_goes() -> None:
    kernel, applier, state = applied(FREE)
    for shaping in (Shaping(to_vm=SLOW), Shaping(to_vm=FAST), Shaping()):
        after = host_state([FREE._replace(shaping=shaping)])
        report = applier.apply(delta_between(state, after))
        assert report.changes == [Action("~", f"link {FREE.device}: bandwidth")]
        assert_holds(kernel, after)
        state = after


def test_an_altered_a_missing_and_a_foreign_class_are_put_right() -> None:
    senders = [Plug(n, shaping=Shaping(from_vm=SLOW)) for n in (1, 2, 3)]
    kernel, applier, state = applied(*senders)
    shaper = kernel.shaper
    assert shaper is not None
    minors = sorted(shaper.allowances)
    shaper.allowances[minors[0]] = DAMAGED
    del shaper.allowances[minors[1]]
    shaper.allowances[77] = allowance_to_vm(SLOW)
    kernel.damage_shaper(shaper)
    report = applier.audit()
    assert {action.verb for action in report.changes} == {"+", "~"}
    assert_holds(kernel, state)
    assert not applier.audit()


def test_a_shaper_that_somebody_deleted_is_made_anew_with_rows_that_lead_to_it() -> None:
    kernel, applier, state = applied(SENDER, FREE)
    kernel.damage_shaper(None)
    report = applier.audit()
    assert Action("+", f"link {SHAPER}") in report.changes
    assert Action("~", f"ports {SENDER.device}") in report.changes
    assert_holds(kernel, state)


def test_a_refused_limit_leaves_the_port_open_and_is_tried_again() -> None:
    kernel = FakeKernel(refuse=lambda step: step.startswith(("allowance", "link bandwidth")))
    applier = Applier(kernel)
    state = host_state([SENDER, RECEIVER])
    report = applier.synchronize(state)
    assert report.failures.keys() == {SENDER.device, RECEIVER.device}
    assert len(kernel.tables["ports"]) == 2
    kernel.refuse = lambda step: False
    assert not applier.audit().failures
    assert_holds(kernel, state)


def test_a_shaper_without_classes_lets_everything_pass() -> None:
    kernel = FakeKernel(refuse=lambda step: step.startswith(("shaper ~", "allowance")))
    applier = Applier(kernel)
    state = host_state([SENDER])
    assert applier.synchronize(state).failures.keys() == {SHAPER, SENDER.device}
    assert len(kernel.tables["ports"]) == 1
    kernel.refuse = lambda step: False
    assert not applier.audit().failures
    assert_holds(kernel, state)


def test_another_capacity_changes_the_class_of_the_host_at_the_next_start() -> None:
    kernel, _, state = applied(SENDER)
    Applier(kernel, 500 * MEGABIT).synchronize(state)
    assert kernel.shaper is not None
    assert kernel.shaper.host == allowance_of_host(500 * MEGABIT)
