"""``python -m bench.cluster_agent HOST ETCD``: an agent as it is, but for the
kernel and the machines, which it has in memory.

Says "ready REVISION" once it has carried out what the store holds for its host,
and the same with each later revision, and runs until it is killed.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from heddle.agent.loop import Agent, Parts
from heddle.agent.memory import expect_many_objects
from heddle.applier.applier import Applier
from heddle.applier.fake import FakeKernel
from heddle.compiler.fragment import UNLIMITED
from heddle.compiler.state import MachineSpec
from heddle.hypervisor.machines import MachineStatus
from heddle.settings import EtcdSettings, Member
from heddle.store.etcd.store import EtcdStore

_STOPPED = MachineStatus("stopped", False, None)


class _NoMachines:
    """Machines that do not run."""

    def reconcile(self, specs: Mapping[str, MachineSpec]) -> dict[str, MachineStatus]:
        return dict.fromkeys(specs, _STOPPED)

    def retry(self) -> None:
        pass


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


def etcd_at(port: int) -> EtcdSettings:
    return EtcdSettings((Member(f"http://127.0.0.1:{port}", "127.0.0.1", port, False),))


async def _run(host: str, port: int, folder: Path) -> None:
    silence = _Silence()
    parts = Parts(
        store=EtcdStore(etcd_at(port), host, folder / "cache"),
        applier=Applier(FakeKernel()),
        limits=UNLIMITED,
        machines=_NoMachines(),
        drops=silence,
        decode_event=lambda record: None,  # type: ignore[arg-type, return-value] # none come
        notifications=silence,  # type: ignore[arg-type] # of the same shape
        send=lambda device, frame: None,
        index_of=lambda device: None,
    )
    agent = Agent(host, parts, folder / "agent.sock")
    running = asyncio.create_task(agent.run())
    told = None
    while not running.done():
        revision = agent.describe()["revision"]
        if revision is not None and revision != told:
            told = revision
            print("ready", revision, flush=True)
        await asyncio.sleep(0.01)


if __name__ == "__main__":
    expect_many_objects()
    with tempfile.TemporaryDirectory() as temporary:
        asyncio.run(_run(sys.argv[1], int(sys.argv[2]), Path(temporary)))
