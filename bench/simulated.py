"""A host that is simulated: the agent as it is, but for the kernel, the machines
and the other hosts' answers to its probes, which it has in memory."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path

from bench import etcd
from heddle.agent.loop import Agent, Parts
from heddle.agent.prober import Prober
from heddle.applier.applier import Applier
from heddle.applier.fake import FakeKernel
from heddle.compiler.fragment import UNLIMITED
from heddle.compiler.state import MachineSpec
from heddle.hypervisor.machines import MachineStatus
from heddle.settings import EtcdSettings
from heddle.store.etcd.store import EtcdStore
from heddle.store.interface import Followed

_STOPPED = MachineStatus("stopped", False, None)
_ROUND_TRIP_SECONDS = 0.001

Report = Callable[[str, Followed, float], None]
"""Called with a host, what it was told, and when it had carried that out (of
CLOCK_MONOTONIC)."""


def agent_of(host: str, folder: Path, report: Report) -> Agent:
    """The agent of a host; the files that it keeps lie in the folder."""
    silence = _Silence()
    answers = _Answers()
    parts = Parts(
        store=_ReportingStore(etcd.settings(), host, folder / f"{host}.cache", report),
        applier=Applier(FakeKernel()),
        limits=UNLIMITED,
        machines=_NoMachines(),
        drops=silence,
        decode_event=lambda record: None,  # type: ignore[arg-type, return-value] # none come
        notifications=silence,  # type: ignore[arg-type] # of the same shape
        send=lambda device, frame: None,
        index_of=lambda device: None,
        prober=answers.prober(folder / f"{host}.paths"),
    )
    return Agent(host, parts, folder / f"{host}.sock")


class _ReportingStore(EtcdStore):
    """Tells when the agent has carried out what it was told: it asks for more then."""

    def __init__(self, settings: EtcdSettings, host: str, cache: Path, report: Report) -> None:
        super().__init__(settings, host, cache)
        self._report = report

    async def follow(self, host: str) -> AsyncGenerator[Followed, None]:
        async for told in super().follow(host):
            yield told
            self._report(host, told, time.monotonic())


class _Answers:
    """Other hosts, which answer each probe at once."""

    def prober(self, memory: Path) -> Prober:
        self._prober = Prober(self, lambda vtep: self, memory)
        return self._prober

    def request(self, host: int, sequence: int, size: int, relay_to: int = 0) -> bytes:
        return sequence.to_bytes(8, "big")

    def send(self, payload: bytes, address: str, port: int) -> bool:
        sequence = int.from_bytes(payload, "big")
        asyncio.get_running_loop().call_later(_ROUND_TRIP_SECONDS, self._answer, sequence)
        return True

    def close(self) -> None:
        pass

    def _answer(self, sequence: int) -> None:
        self._prober.answered(sequence, time.monotonic())


class _NoMachines:
    """Machines that do not run."""

    def reconcile(self, specs: Mapping[str, MachineSpec]) -> dict[str, MachineStatus]:
        return dict.fromkeys(specs, _STOPPED)

    def retry(self) -> None:
        pass

    def definition(self, spec: MachineSpec) -> str:
        return ""


class _Silence:
    """A source of events that has none."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()

    def fileno(self) -> int:
        return self._read

    def consume(self) -> list[bytes]:
        return []

    def drain(self) -> bool:
        return False
