"""The applier against a kernel in memory."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise

import pytest
from applier_states import Plug, delta_between, host_state
from host_checks import (
    assert_flooding_reaches_all,
    assert_holds,
    assert_rings_are_whole,
    counter_slots,
    epochs,
    first_ports,
    held_rows,
    row_key,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from heddle.applier.applier import Action, Applier
from heddle.applier.fake import Died, FakeKernel
from heddle.compiler.state import (
    QUEUE,
    TABLE_ORDER,
    Device,
    HostState,
    PortRow,
    Rate,
    RowKey,
    Shaping,
    Symbol,
)

A, B, C = Plug(1), Plug(2), Plug(3)
BOX = Plug(4, container=True)
OTHER = Plug(5, network=8)

SHAPINGS = [
    Shaping(),
    Shaping(from_vm=Rate(10_000_000, 80_000)),
    Shaping(to_vm=Rate(20_000_000, 80_000), minimum=1_000_000),
]
PLUGS = st.builds(
    Plug,
    number=st.integers(1, 5),
    network=st.integers(7, 8),
    container=st.booleans(),
    multiqueue=st.booleans(),
    mtu=st.sampled_from([1280, 1450]),
    queue=st.sampled_from([QUEUE, 4 * QUEUE]),
    routed=st.booleans(),
    shaping=st.sampled_from(SHAPINGS),
    owner=st.just(0),  # hypothesis makes up what a NamedTuple has defaults for
).map(lambda plug: plug._replace(multiqueue=plug.multiqueue and not plug.container))
PORTS = st.lists(PLUGS, max_size=5, unique_by=lambda plug: plug.number)
STATES = PORTS.map(host_state)
# Two states that have ports in common.
RELATED = PORTS.flatmap(
    lambda ports: (
        st.tuples(*[st.sets(st.sampled_from(ports)).map(host_state)] * 2)
        if ports
        else st.just((HostState(), HostState()))
    )
)


def applied(state: HostState) -> tuple[FakeKernel, Applier]:
    """A kernel that has this state, and its applier."""
    kernel = FakeKernel()
    applier = Applier(kernel)
    report = applier.synchronize(state)
    assert not report.failures
    return kernel, applier


# ---- from one state to another -------------------------------------------


@given(STATES)
def test_synchronize_makes_the_whole_state(state: HostState) -> None:
    kernel, _ = applied(state)
    assert_holds(kernel, state)
    assert_rings_are_whole(kernel)


@given(st.lists(STATES, min_size=2, max_size=5))
def test_apply_leads_from_any_state_to_any_other(states: list[HostState]) -> None:
    kernel, applier = applied(states[0])
    for before, after in pairwise(states):
        report = applier.apply(delta_between(before, after))
        assert not report.failures
        assert_holds(kernel, after)
        assert_rings_are_whole(kernel)
    assert not applier.audit()


@given(STATES, STATES)
def test_a_restart_leads_from_any_state_to_any_other(before: HostState, after: HostState) -> None:
    kernel, _ = applied(before)
    assert not Applier(kernel).synchronize(after).failures
    assert_holds(kernel, after)


@given(STATES)
def test_a_restart_writes_nothing_that_is_right(state: HostState) -> None:
    kernel, _ = applied(state)
    written = list(kernel.steps)
    report = Applier(kernel).synchronize(state)
    assert kernel.steps == written
    assert not report


def test_a_delta_is_carried_out_without_reading_the_kernel() -> None:
    kernel, applier = applied(host_state([A, B]))
    kernel.reads.clear()
    applier.apply(delta_between(host_state([A, B]), host_state([A, B, C])))
    assert kernel.reads == []


def test_a_delta_touches_only_what_it_names() -> None:
    kernel, applier = applied(host_state([A, B, OTHER]))
    kernel.steps.clear()
    applier.apply(delta_between(host_state([A, B, OTHER]), host_state([A, B, C, OTHER])))
    named = [step for step in kernel.steps if not step.startswith("epochs")]
    assert {step.split()[0] for step in named} == {
        "link",
        "counters",
        "addresses",
        "macs",
        "ports",
    }
    assert len([step for step in named if step.startswith("ports")]) == 2  # itself, the one before


def test_a_report_tells_what_was_done() -> None:
    _, applier = applied(host_state([A]))
    report = applier.apply(delta_between(host_state([A]), host_state([B])))
    assert report.changes == [
        Action("+", f"link {B.device}"),
        Action("+", "addresses 10.0.0.2 in network 7"),
        Action("+", "macs fa:16:3e:00:00:02 in network 7"),
        Action("+", f"ports {B.device}"),
        Action("~", "tunnel_networks 7"),
        Action("-", f"ports {A.device}"),
        Action("-", "macs fa:16:3e:00:00:01 in network 7"),
        Action("-", "addresses 10.0.0.1 in network 7"),
        Action("-", f"link {A.device}"),
    ]


# ---- order ---------------------------------------------------------------


def test_writes_come_in_the_declared_order() -> None:
    kernel, applier = applied(host_state([A]))
    kernel.steps.clear()
    applier.apply(delta_between(host_state([A]), host_state([A, BOX])))
    order = ["namespace", "link", "link", "epochs", *TABLE_ORDER, "epochs", "link"]
    position = 0
    for step in (step.split()[0] for step in kernel.steps if not step.startswith("counters")):
        position = order.index(step, position)
    assert position == len(order) - 1


def test_a_limit_goes_when_no_flow_leads_through_it() -> None:
    """What was decided while rows were written is decided again by then."""
    before = host_state([A._replace(shaping=Shaping(to_vm=Rate(20_000_000, 80_000)))])
    kernel, applier = applied(before)
    kernel.steps.clear()
    applier.apply(delta_between(before, host_state([A])))
    kinds = [step.split()[0] for step in kernel.steps]
    assert kinds[0] == "epochs"
    assert kinds[-2:] == ["epochs", "link"]


def test_removal_goes_the_other_way_round() -> None:
    kernel, applier = applied(host_state([A, BOX]))
    kernel.steps.clear()
    applier.apply(delta_between(host_state([A, BOX]), host_state([A])))
    removals = [step.split()[0] for step in kernel.steps if " - " in step]
    assert removals == ["ports", "macs", "addresses", "link", "namespace"]
    assert kernel.steps[-2:] == [f"link - {BOX.device}", f"namespace - {BOX.namespace}"]


@given(RELATED, st.integers(0, 40))
def test_flooding_never_breaks_off_between_ports_that_stay(
    states: tuple[HostState, HostState], step: int
) -> None:
    before, after = states
    kernel, applier = applied(before)
    kernel.die_at = len(kernel.steps) + step
    with suppress(Died):
        applier.apply(delta_between(before, after))
    staying = {
        row.key
        for row in before.rows.keys() & after.rows.keys()
        if row.table == "ports" and before.links[str(row.key)] == after.links[str(row.key)]
    }
    assert_flooding_reaches_all(kernel, [str(device) for device in staying])


# ---- death at any step ---------------------------------------------------


@settings(max_examples=300)
@given(STATES, STATES, STATES, st.integers(0, 100), st.booleans())
def test_death_at_any_step_is_made_good_by_the_next_start(
    before: HostState, meant: HostState, after: HostState, step: int, whole: bool
) -> None:
    kernel, applier = applied(before)
    kernel.die_at = len(kernel.steps) + step
    with suppress(Died):
        if whole:
            Applier(kernel).synchronize(meant)
        else:
            applier.apply(delta_between(before, meant))
    kernel.die_at = None
    assert not Applier(kernel).synchronize(after).failures
    assert_holds(kernel, after)
    assert_rings_are_whole(kernel)
    assert all(value % 2 == 0 for value in epochs(kernel).values())


@pytest.mark.parametrize("whole", [False, True])
def test_death_between_rows_and_epoch_makes_flows_stale_at_the_next_start(whole: bool) -> None:
    before, after = host_state([A, B]), host_state([A, B, C])
    kernel, applier = applied(before)
    kernel.steps.clear()
    applier.apply(delta_between(before, after))
    last_row = max(i for i, step in enumerate(kernel.steps) if step.split()[0] in TABLE_ORDER)

    kernel, applier = applied(before)
    kernel.die_at = len(kernel.steps) + last_row + 1
    with pytest.raises(Died):
        applier.apply(delta_between(before, after))
    decided_under = epochs(kernel)[7]
    kernel.die_at = None
    Applier(kernel).synchronize(after if whole else before)
    assert epochs(kernel)[7] not in (decided_under, 0)


def test_a_change_advances_the_epochs_it_touches_and_no_others() -> None:
    kernel, applier = applied(host_state([A, OTHER]))
    before = epochs(kernel)
    changed = A._replace(mtu=1280)
    delta = delta_between(host_state([A, OTHER]), host_state([changed, OTHER]))
    delta.touched = {7}
    applier.apply(delta)
    after = epochs(kernel)
    assert {slot for slot in after if after[slot] != before.get(slot, 0)} == {7}


# ---- failures ------------------------------------------------------------


def test_what_fails_stays_pending_and_the_rest_goes_on() -> None:
    kernel = FakeKernel(refuse=lambda step: step == f"link + {B.device}")
    applier = Applier(kernel)
    report = applier.synchronize(host_state([A, B, C]))
    assert report.failures == applier.pending
    assert applier.pending == {B.device: f"link + {B.device}: refused"}
    assert_rings_are_whole(kernel)
    assert len(counter_slots(kernel)) == 2

    kernel.refuse = lambda step: False
    assert Action("+", f"link {B.device}") in applier.audit().changes
    assert applier.pending == {}
    assert_holds(kernel, host_state([A, B, C]))


def test_a_link_that_turns_up_after_all_is_in_its_ring_at_once() -> None:
    """As when a process that made it was still at it."""
    kernel = FakeKernel(refuse=lambda step: step == f"link + {B.device}")
    applier = Applier(kernel)
    applier.synchronize(host_state([A, B, C]))
    kernel.refuse = lambda step: False
    kernel.make_links([host_state([B]).links[B.device]])
    kernel.overrun = True
    applier.audit()
    assert applier.pending == {}
    assert_holds(kernel, host_state([A, B, C]))


def test_what_other_hosts_flood_begins_with_a_port_that_is_there() -> None:
    kernel = FakeKernel(refuse=lambda step: step == f"link + {A.device}")
    applier = Applier(kernel)
    applier.synchronize(host_state([A, B]))
    assert applier.pending == {A.device: f"link + {A.device}: refused"}
    assert first_ports(kernel) == {7: kernel.link(B.device).index}

    kernel.refuse = lambda step: False
    applier.audit()
    assert first_ports(kernel) == {7: kernel.link(A.device).index}
    assert_holds(kernel, host_state([A, B]))


def test_without_any_link_it_goes_nowhere() -> None:
    kernel = FakeKernel(refuse=lambda step: step.startswith("link +"))
    Applier(kernel).synchronize(host_state([A, B]))
    assert first_ports(kernel) == {7: 0}


@given(STATES, st.integers(0, 60))
def test_any_single_refusal_is_made_good_by_an_audit(state: HostState, number: int) -> None:
    asked = 0

    def refuse(_: str) -> bool:
        nonlocal asked
        asked += 1
        return asked == number

    kernel = FakeKernel(refuse=refuse)
    applier = Applier(kernel)
    applier.synchronize(state)
    if not applier.pending:
        assert_holds(kernel, state)
    applier.audit()
    assert applier.pending == {}
    assert_holds(kernel, state)


def test_a_link_that_can_be_made_after_all_gets_its_rows_at_once() -> None:
    kernel = FakeKernel(refuse=lambda step: step == f"link + {B.device}")
    applier = Applier(kernel)
    applier.synchronize(host_state([A, B, C]))
    kernel.refuse = lambda step: False
    after = host_state([A, B._replace(mtu=1280), C])
    delta = delta_between(host_state([A, B, C]), after)
    delta.rows.clear()  # as if the MTU stood in the link alone
    applier.apply(delta)
    assert applier.pending == {}
    assert_rings_are_whole(kernel)
    assert len(counter_slots(kernel)) == 3


def test_what_is_wanted_no_more_is_pending_no_more() -> None:
    kernel = FakeKernel(refuse=lambda step: B.device in step)
    applier = Applier(kernel)
    applier.synchronize(host_state([A, B]))
    assert B.device in applier.pending
    applier.apply(delta_between(host_state([A, B]), host_state([A])))
    assert applier.pending == {}
    assert_holds(kernel, host_state([A]))


def test_a_row_that_the_kernel_refuses_is_told_with_its_port() -> None:
    kernel = FakeKernel(refuse=lambda step: step.startswith("macs"))
    applier = Applier(kernel)
    applier.synchronize(host_state([A]))
    assert list(applier.pending) == [A.device]
    assert applier.pending[A.device].startswith("macs fa:16:3e:00:00:01 in network 7: ")


def test_a_link_that_is_not_ours_is_left_alone() -> None:
    kernel = FakeKernel()
    foreign = kernel.add_foreign(A.device)
    applier = Applier(kernel)
    applier.synchronize(host_state([A, B]))
    assert "is not heddle's" in applier.pending[A.device]
    assert foreign.alias == ""
    assert not foreign.up
    Applier(kernel).synchronize(HostState())
    assert list(kernel.all_links.values()) == [foreign]


def test_a_namespace_that_is_not_ours_is_left_alone() -> None:
    kernel = FakeKernel(spaces={BOX.namespace: False})
    applier = Applier(kernel)
    applier.synchronize(host_state([A, BOX]))
    assert "is not heddle's" in applier.pending[f"namespace {BOX.namespace}"]
    Applier(kernel).synchronize(HostState())
    assert kernel.spaces == {BOX.namespace: False}


# ---- repair --------------------------------------------------------------


def test_an_audit_of_what_is_right_does_nothing() -> None:
    kernel, applier = applied(host_state([A, B, BOX]))
    written = list(kernel.steps)
    assert not applier.audit()
    assert not applier.audit()
    assert kernel.steps == written


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"alias": "mine"}, "alias"),
        ({"alias": ""}, "alias"),
        ({"mtu": 900}, "mtu"),
        ({"up": False}, "up"),
        ({"filtered": False}, "filter"),
        ({"name": "stolen"}, "name"),
        ({"mtu": 900, "filtered": False}, "filter, mtu"),
    ],
)
def test_an_altered_link_is_mended(changes: dict[str, object], told: str) -> None:
    kernel, applier = applied(host_state([A, B]))
    kernel.alter(A.device, **changes)
    assert applier.audit().changes == [Action("~", f"link {A.device}: {told}")]
    assert_holds(kernel, host_state([A, B]))


def test_a_deleted_link_is_made_anew_with_its_rows() -> None:
    kernel, applier = applied(host_state([A, B]))
    slot = counter_slots(kernel)[kernel.link(A.device).index]
    kernel.destroy(A.device)
    report = applier.audit()
    assert Action("+", f"link {A.device}") in report.changes
    assert_holds(kernel, host_state([A, B]))
    assert counter_slots(kernel)[kernel.link(A.device).index] == slot


def test_an_altered_a_missing_and_a_foreign_row_are_put_right() -> None:
    state = host_state([A, B])
    kernel, applier = applied(state)
    right = held_rows(kernel)
    macs, ports = kernel.tables["macs"], kernel.tables["ports"]
    del macs[next(iter(macs))]
    ports[row_key(kernel, RowKey("ports", Device(B.device)))] = b"{'counter_slot': 0}"
    ports[b"4711"] = b"{'counter_slot': 1}"
    report = applier.audit()
    assert report.changes == [
        Action("+", "macs fa:16:3e:00:00:01 in network 7"),
        Action("~", f"ports {B.device}"),
        Action("-", "ports 4711"),
    ]
    assert held_rows(kernel) == right
    assert_holds(kernel, state)


def test_a_repair_of_rows_makes_all_flows_stale() -> None:
    kernel, applier = applied(host_state([A]))
    before = epochs(kernel)
    kernel.tables["macs"].clear()
    applier.audit()
    assert all(value > before.get(slot, 0) for slot, value in epochs(kernel).items())
    assert len(epochs(kernel)) == kernel.abi.value("EPOCH_SLOTS")


def test_a_first_frame_of_a_port_that_stands_by_is_no_damage() -> None:
    """An audit between the frame and the agent's own word must not undo it."""
    state = host_state([A, B])
    row = RowKey("ports", Device(A.device))
    port = state.rows[row]
    assert isinstance(port, PortRow)
    state.rows[row] = port._replace(flags=Symbol("port_flag", ("PORT_OPEN", "PORT_STANDBY")))
    kernel, applier = applied(state)
    key, codec = row_key(kernel, row), kernel.abi.table_types("ports")[1]
    fields, open_port = codec.unpack(kernel.tables["ports"][key]), ("PORT_OPEN",)
    awake = codec.pack({**fields, "flags": kernel.abi.bits("port_flag", open_port)})
    kernel.tables["ports"][key] = awake
    for _ in range(2):
        assert not applier.audit()
        assert kernel.tables["ports"][key] == awake
    after = host_state([A, B])
    after.rows[row] = port._replace(flags=Symbol("port_flag", open_port))
    assert Action("~", f"ports {A.device}") in applier.apply(delta_between(state, after)).changes
    kernel.tables["ports"][key] = codec.pack({**fields, "flags": 0})
    assert Action("~", f"ports {A.device}") in applier.audit().changes


def test_a_namespace_removed_by_somebody_is_made_anew_with_its_links() -> None:
    kernel, applier = applied(host_state([A, BOX]))
    kernel.remove_namespace(BOX.namespace)
    report = applier.audit()
    assert Action("+", f"namespace {BOX.namespace}") in report.changes
    assert_holds(kernel, host_state([A, BOX]))


def test_a_veth_whose_other_end_is_lost_is_replaced() -> None:
    kernel, applier = applied(host_state([A, BOX]))
    del kernel.spaces[BOX.namespace]  # while a process in it keeps the veth alive
    lost = kernel.link(BOX.device).index
    report = applier.audit()
    assert Action("~", f"link {BOX.device}") in report.changes
    assert lost not in kernel.all_links
    assert_holds(kernel, host_state([A, BOX]))


def test_a_nic_that_goes_makes_room_for_one_of_its_name() -> None:
    successor = Plug(6, network=8, container=True, owner=BOX.number)
    before, after = host_state([A, BOX]), host_state([A, successor])
    kernel, applier = applied(before)
    report = applier.apply(delta_between(before, after))
    assert not report.failures
    assert Action("-", f"link {BOX.device}") in report.changes
    assert_holds(kernel, after)


def test_a_link_left_over_is_removed_at_the_next_start() -> None:
    kernel, _ = applied(host_state([A, B]))
    Applier(kernel).synchronize(host_state([A]))
    assert_holds(kernel, host_state([A]))


# ---- counters ------------------------------------------------------------


@given(RELATED)
def test_ports_keep_their_counters_over_changes_and_restarts(
    states: tuple[HostState, HostState],
) -> None:
    before, after = states
    kernel, applier = applied(before)
    at_first = counter_slots(kernel)
    applier.apply(delta_between(before, after))
    slots = counter_slots(kernel)
    assert all(slots[index] == at_first[index] for index in slots.keys() & at_first.keys())
    Applier(kernel).synchronize(after)
    assert counter_slots(kernel) == slots


def test_a_restart_adopts_the_slots_that_it_finds() -> None:
    kernel, applier = applied(host_state([A, B]))
    applier.apply(delta_between(host_state([A, B]), host_state([B])))
    slots = counter_slots(kernel)
    assert list(slots.values()) == [1]
    Applier(kernel).synchronize(host_state([B, C]))
    assert counter_slots(kernel).items() >= slots.items()


def test_a_new_port_begins_with_counters_at_zero() -> None:
    kernel, applier = applied(host_state([A]))
    slot = counter_slots(kernel)[kernel.link(A.device).index]
    applier.apply(delta_between(host_state([A]), HostState()))
    kernel.counters[slot] = 99
    Applier(kernel).synchronize(host_state([B]))
    assert counter_slots(kernel)[kernel.link(B.device).index] == slot
    assert kernel.counters[slot] == 0
