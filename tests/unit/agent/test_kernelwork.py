"""The thread that compiles and carries out: who waits for whom, and who may ask what."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Mapping
from typing import cast

from heddle.agent.kernelwork import KernelWork
from heddle.agent.notifications import LinkNotifications
from heddle.applier.applier import Applier
from heddle.applier.report import Report
from heddle.compiler.fragment import UNLIMITED
from heddle.compiler.state import HostDelta, Link

_PATIENCE = 10.0  # seconds


class NothingToTell:
    """The kernel's notifications."""

    def __init__(self) -> None:
        self._end, self._other = socket.socketpair()

    def fileno(self) -> int:
        return self._end.fileno()

    def drain(self) -> bool:
        return False

    def close(self) -> None:
        self._end.close()
        self._other.close()


class SlowApplier:
    """Says in which order it was asked, and works on links until it may go on."""

    envelopes = "direct"

    def __init__(self) -> None:
        self.done: list[str] = []
        self.begun, self.may_go_on = threading.Event(), threading.Event()

    @property
    def pending(self) -> Mapping[str, str]:
        assert threading.current_thread().name.startswith("kernel")
        return {"after": self.done[-1]}

    def foresee(self, link: Link) -> None:
        raise AssertionError(f"nobody wants {link}")

    def apply(self, delta: HostDelta) -> Report:
        assert not delta.rows
        return self._note("a change")

    def audit_parts(self) -> tuple[Callable[[], Report], ...]:
        return self._audit_links, lambda: self._note("tables")

    def _audit_links(self) -> Report:
        self.begun.set()
        assert self.may_go_on.wait(_PATIENCE)
        return self._note("links")

    def _note(self, what: str) -> Report:
        self.done.append(what)
        return Report(failures={what: "not yet"})


async def audited(applier: SlowApplier) -> tuple[Report, Mapping[str, str]]:
    """With a change that comes while the links are looked at. What was done, and
    what is wrong then."""
    notifications = NothingToTell()
    told = cast(LinkNotifications, notifications)
    work = KernelWork("h1", cast(Applier, applier), UNLIMITED, told)
    audit = asyncio.create_task(work.audit())
    assert await asyncio.to_thread(applier.begun.wait, _PATIENCE)
    step = asyncio.create_task(work.step([]))
    await asyncio.sleep(0)
    assert work.pending == {}
    applier.may_go_on.set()
    await step
    report = await audit
    work.close()
    notifications.close()
    return report, work.pending


def test_a_change_need_not_wait_for_a_whole_audit() -> None:
    applier = SlowApplier()
    report, _ = asyncio.run(audited(applier))
    assert applier.done == ["links", "a change", "tables"]
    assert report.failures == {"tables": "not yet"}


def test_what_is_wrong_is_told_without_asking_a_job_that_runs() -> None:
    _, pending = asyncio.run(audited(SlowApplier()))
    assert pending == {"after": "tables"}
