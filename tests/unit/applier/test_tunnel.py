"""How the tunnel is kept, against a kernel in memory."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest
from applier_states import delta_between
from host_checks import held_rows

from heddle.applier.applier import Action, Applier
from heddle.applier.fake import Died, FakeKernel
from heddle.compiler.state import Device, EndpointRow, HostState, MacKey, RowKey, Symbol, Tunnel
from heddle.intent.names import TUNNEL, tunnel_alias

WANTED = Tunnel(4789, "198.18.0.1", tunnel_alias("h1"))
ROW = RowKey("macs", MacKey(7, bytes(6)))


def state(tunnel: Tunnel | None = WANTED) -> HostState:
    """A tunnel, and a row that names its device."""
    if tunnel is None:
        return HostState()
    endpoint = EndpointRow(Symbol("endpoint_kind", ("ENDPOINT_PORT",)), Device(TUNNEL))
    return HostState(rows={ROW: endpoint}, tunnel=tunnel)


def applied(tunnel: Tunnel | None = WANTED) -> tuple[FakeKernel, Applier]:
    kernel = FakeKernel()
    applier = Applier(kernel)
    assert not applier.synchronize(state(tunnel)).failures
    return kernel, applier


def assert_holds(kernel: FakeKernel, tunnel: Tunnel | None) -> None:
    """Device and row are there, or neither is."""
    if tunnel is None:
        assert kernel.tunnel is None
        assert not held_rows(kernel)
        return
    assert kernel.tunnel is not None
    assert (kernel.tunnel.tunnel, kernel.tunnel.faults) == (tunnel, ())
    (row,) = held_rows(kernel).values()
    assert f"'target': {kernel.tunnel.index}" in str(row)


@pytest.mark.parametrize("before", [None, WANTED])
@pytest.mark.parametrize("after", [None, WANTED, replace(WANTED, udp_port=8472)])
def test_apply_leads_from_any_tunnel_to_any_other(
    before: Tunnel | None, after: Tunnel | None
) -> None:
    kernel, applier = applied(before)
    assert not applier.apply(delta_between(state(before), state(after))).failures
    assert_holds(kernel, after)
    assert not applier.audit()


@pytest.mark.parametrize("after", [None, WANTED, replace(WANTED, udp_port=8472)])
def test_a_restart_leads_to_any_tunnel(after: Tunnel | None) -> None:
    kernel, _ = applied()
    assert not Applier(kernel).synchronize(state(after)).failures
    assert_holds(kernel, after)


def test_a_restart_writes_nothing_that_is_right() -> None:
    kernel, _ = applied()
    written = list(kernel.steps)
    assert not Applier(kernel).synchronize(state())
    assert kernel.steps == written


def test_an_audit_mends_and_tells() -> None:
    kernel, applier = applied()
    assert kernel.tunnel is not None
    kernel.tunnel.faults = ("down", "filter")
    assert applier.audit().changes == [Action("~", f"link {TUNNEL}: down, filter")]
    assert_holds(kernel, WANTED)


def test_a_deleted_device_is_made_anew_and_its_rows_follow() -> None:
    kernel, applier = applied()
    kernel.tunnel = None
    kernel._last_index += 1  # the next device has another ifindex
    assert Action("+", f"link {TUNNEL}") in applier.audit().changes
    assert_holds(kernel, WANTED)


def test_what_stands_in_the_way_is_pending_until_it_has_gone() -> None:
    kernel = FakeKernel(refuse=lambda step: step.startswith("tunnel"))
    applier = Applier(kernel)
    report = applier.synchronize(state())
    assert report.failures.keys() == {TUNNEL}
    assert not applier.audit().changes
    assert applier.pending.keys() == {TUNNEL}
    kernel.refuse = lambda step: False
    assert Action("+", f"link {TUNNEL}") in applier.audit().changes
    assert not applier.pending
    assert_holds(kernel, WANTED)


def test_death_at_any_step_leaves_what_a_restart_puts_right() -> None:
    _, steps = applied()[0], len(applied()[0].steps)
    for death in range(steps):
        kernel = FakeKernel(die_at=death)
        with suppress(Died):
            Applier(kernel).synchronize(state())
        kernel.die_at = None
        assert not Applier(kernel).synchronize(state()).failures
        assert_holds(kernel, WANTED)
