"""What up, apply, down and vm wait for, in words."""

from __future__ import annotations

import pytest

from heddle.cli.waiting import Facts, applied, gone, in_state, ready, runs
from heddle.errors import HypervisorError

LOOK = 5
MACHINES = {"m1": "vm0", "m2": "vm1"}
PORTS = {"p1": "vm0/web"}


@pytest.fixture(autouse=True)
def host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEDDLE_HOST", "h1")


def facts(revision: int | None = 7, **more: dict[str, object]) -> Facts:
    """Facts by ``kind_id``."""
    found: Facts = {("agent", "h1"): {"revision": revision}}
    for name, fact in more.items():
        kind, _, key = name.partition("_")
        found[(kind, key)] = fact
    return found


READY = {"state": "running", "ready": True, "error": None}
BOOTING = {"state": "booting", "ready": False, "error": None}
ACTIVE = {"state": "active", "error": None}


@pytest.mark.parametrize(
    ("revision", "words"),
    [(None, "applying revision 7"), (6, "applying revision 7"), (7, ""), (8, "")],
)
def test_applied(revision: int | None, words: str) -> None:
    assert applied(7)(facts(revision), LOOK) == words


def test_applied_without_a_word_from_the_agent() -> None:
    assert applied(7)({}, LOOK) == "applying revision 7"


def test_ready_goes_from_revision_to_machines_to_ports() -> None:
    missing = ready(7, MACHINES, PORTS)
    assert missing(facts(6), LOOK) == "applying revision 7"
    assert missing(facts(), LOOK) == "0 of 2 machines ready, waiting for vm0, vm1"
    some = facts(machine_m1=READY, machine_m2=BOOTING)
    assert missing(some, LOOK) == "1 of 2 machines ready, waiting for vm1"
    no_port = facts(machine_m1=READY, machine_m2=READY)
    assert missing(no_port, LOOK) == "0 of 1 ports active, waiting for vm0/web"
    assert missing(no_port | facts(port_p1=ACTIVE), LOOK) == ""


def test_what_is_wrong_with_a_port_is_told() -> None:
    broken = facts(machine_m1=BOOTING, port_p1={"state": "error", "error": "name taken"})
    words = ready(7, MACHINES, PORTS)(broken, LOOK)
    assert words.endswith("waiting for vm0, vm1; port vm0/web: name taken")


def test_a_failure_of_this_try_ends_the_wait() -> None:
    failed = {"state": "error", "error": "no image", "look": LOOK, "revision": 7}
    with pytest.raises(HypervisorError, match="machine vm0: no image"):
        ready(7, MACHINES, PORTS)(facts(machine_m1=failed), LOOK)


@pytest.mark.parametrize("old", [{"look": LOOK - 1, "revision": 7}, {"look": 9, "revision": 6}])
def test_a_failure_of_an_earlier_try_does_not(old: dict[str, object]) -> None:
    failed = {"state": "error", "error": "no image", **old}
    assert "waiting for vm0" in ready(7, MACHINES, PORTS)(facts(machine_m1=failed), LOOK)


def test_in_state() -> None:
    missing = in_state(7, "m1", "vm0", "stopped")
    assert missing(facts(machine_m1=READY), LOOK) == "machine vm0 is running"
    assert missing(facts(machine_m1={"state": "stopped"}), LOOK) == ""


@pytest.mark.parametrize("fact", [READY, BOOTING])
def test_one_that_runs_need_not_be_ready(fact: dict[str, object]) -> None:
    """A guest whose address has been changed while it was saved never is."""
    missing = runs(7, "m1", "vm0")
    assert missing(facts(6, machine_m1=fact), LOOK) == "applying revision 7"
    saved = facts(machine_m1={"state": "saved", "ready": False, "error": None})
    assert missing(saved, LOOK) == "0 of 1 machines ready, waiting for vm0"
    assert missing(facts(machine_m1=fact), LOOK) == ""


def test_gone() -> None:
    missing = gone(7, [("machine", "m1"), ("port", "p1")])
    assert missing(facts(machine_m1=READY), LOOK) == "1 of 2 machines and ports still there"
    assert missing(facts(), LOOK) == ""
