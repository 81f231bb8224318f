"""Many TAPs: a process begins with them while the rest is still being found out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from applier_host import ApplierHost, Intent, run
from lab import eventually

from heddle.applier import tap
from heddle.applier.applier import Applier
from heddle.applier.taps import LOT
from heddle.compiler.state import HostDelta, HostState

MANY = [f"v{number}" for number in range(LOT + 44)]  # not a whole number of lots


_BEGIN = """
import sys, time
sys.path.insert(0, sys.argv[1])
from applier_host import Intent
from heddle.applier.applier import Applier
from heddle.applier.linux import LinuxKernel
from heddle.datapath.loader import Datapath
applier = Applier(LinuxKernel(Datapath.load(sys.argv[2])))
applier.begin()
state = Intent(salt=sys.argv[3]).state(*sys.argv[4:])
for link in state.links.values():
    applier.foresee(link)
"""
_SYNCHRONIZE = """
assert not applier.synchronize(state).failures
"""
_WAIT = """
time.sleep(60)
"""


@contextmanager
def foreseen(host: ApplierHost, state: HostState) -> Iterator[Applier]:
    """An applier that has begun, when the first of the links are there."""
    applier = host.start()
    applier.begin()
    for link in state.links.values():
        applier.foresee(link)
    eventually(host.links, "the first links")
    yield applier


def indexes(host: ApplierHost) -> dict[str, int]:
    return {name: link["ifindex"] for name, link in host.links().items()}


def assert_all_there(host: ApplierHost, state: HostState) -> None:
    """Up, with filter and rows, as a fresh applier sees it; and free to be opened."""
    found = host.links()
    assert sorted(found) == sorted(state.links)
    assert all("UP" in link["flags"] for link in found.values())
    assert not host.start().synchronize(state)
    for device in state.links:
        os.close(tap.attach(device))


def the_process() -> int:
    """The one child of ours that makes TAPs."""
    (child,) = [
        pid
        for children in Path("/proc/self/task").glob("*/children")
        for pid in map(int, children.read_text().split())
        if b"tap_process" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    return child


def test_what_was_made_ahead_is_used(host: ApplierHost, intent: Intent) -> None:
    state = intent.state(*MANY)
    with foreseen(host, state) as applier:
        early = indexes(host)
        assert not applier.synchronize(state).failures
    assert early.items() <= indexes(host).items()
    assert_all_there(host, state)


def test_few_descriptors_are_enough(host: ApplierHost, intent: Intent) -> None:
    python = ["prlimit", "--nofile=900", sys.executable, "-c", _BEGIN + _SYNCHRONIZE]
    run(*python, str(Path(__file__).parent), host.name, intent.salt, *MANY)
    assert_all_there(host, intent.state(*MANY))


def test_a_change_that_brings_many_foresees_them_too(host: ApplierHost, intent: Intent) -> None:
    applier = host.start()
    applier.synchronize(intent.state("v0"))
    state = intent.state(*MANY)
    for link in state.links.values():
        applier.foresee(link)
    eventually(lambda: len(host.links()) > 1, "the first links")
    first = indexes(host)
    report = applier.apply(HostDelta(rows=dict(state.rows), links=dict(state.links), touched={7}))
    assert not report.failures
    assert first.items() <= indexes(host).items()
    assert_all_there(host, state)


def test_those_in_place_are_not_made_again(host: ApplierHost, intent: Intent) -> None:
    state = intent.state(*MANY)
    host.start().synchronize(state)
    with foreseen(host, state) as applier:
        assert not applier.synchronize(state)


def test_what_nobody_wants_after_all_is_removed(host: ApplierHost, intent: Intent) -> None:
    with foreseen(host, intent.state(*MANY)) as applier:
        intent.mtu = 1400
        state = intent.state("v1", "v2", "c1")
        assert not applier.synchronize(state).failures
    host.assert_has(state)


def test_nothing_is_left_open_by_one_that_looks_again(host: ApplierHost, intent: Intent) -> None:
    """As after an error in the middle of it all."""
    state = intent.state(*MANY)
    with foreseen(host, state) as applier:
        applier.begin()
        assert not applier.synchronize(state).failures
    assert_all_there(host, state)


def test_a_killed_process_is_made_up_for(host: ApplierHost, intent: Intent) -> None:
    state = intent.state(*MANY)
    with foreseen(host, state) as applier:
        os.kill(the_process(), signal.SIGKILL)
        assert not applier.synchronize(state).failures
    assert_all_there(host, state)


def test_a_foreign_link_among_them_is_named_and_left_alone(
    host: ApplierHost, intent: Intent
) -> None:
    state = intent.state(*MANY)
    taken = intent.device("v7")
    run("ip", "tuntap", "add", taken, "mode", "tap")
    applier = host.start()
    applier.begin()
    for link in state.links.values():
        applier.foresee(link)
    failures = applier.synchronize(state).failures
    assert list(failures) == [taken]
    assert "exists and is not heddle's" in failures[taken]
    run("ip", "link", "delete", taken)
    assert not applier.audit().failures
    assert_all_there(host, state)


def test_the_next_agent_copes_with_a_process_that_outlives_its_own(
    host: ApplierHost, intent: Intent
) -> None:
    state = intent.state(*MANY)
    arguments = [str(Path(__file__).parent), host.name, intent.salt, *MANY]
    agent = subprocess.Popen([sys.executable, "-c", _BEGIN + _WAIT, *arguments])
    eventually(host.links, "the first links")
    agent.kill()
    agent.wait()
    applier = host.start()
    applier.synchronize(state)
    eventually(lambda: not applier.audit().failures, "all of them")
    assert_all_there(host, state)
