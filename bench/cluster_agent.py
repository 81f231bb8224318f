"""``python -m bench.cluster_agent FIRST COUNT``: the agents of so many simulated
hosts, from that number on, in one process.

Says "started" before any of them runs, then a line for each thing that one of
them was told and has carried out, "HOST WHAT REVISION SECONDS": WHAT is
``ready`` for all that the store holds for it, ``change``, ``outage`` and
``back``; SECONDS are of CLOCK_MONOTONIC. Runs until it is killed.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.cluster_plan import host_name
from bench.simulated import agent_of
from heddle.agent import loop
from heddle.agent.memory import expect_many_objects
from heddle.store.interface import Batch, Followed, Snapshot

# The kernel in memory is no measure of what looking at it costs.
AUDIT_SECONDS = 3600.0


def _report(host: str, told: Followed, at: float) -> None:
    match told:
        case Snapshot():
            words: tuple[str, int] = "ready", told.revision
        case Batch():
            words = "change", told.revision
        case _:
            words = "outage" if told.reason else "back", 0
    print(host, *words, f"{at:.6f}", flush=True)


async def _run(first: int, count: int, folder: Path) -> None:
    threads = ThreadPoolExecutor(count + 4)  # each agent keeps one to wait for changes
    asyncio.get_running_loop().set_default_executor(threads)
    print("started", flush=True)
    async with asyncio.TaskGroup() as group:
        for number in range(first, first + count):
            group.create_task(agent_of(host_name(number), folder, _report).run())
            await asyncio.sleep(0)


if __name__ == "__main__":
    expect_many_objects()
    logging.getLogger("heddle").addHandler(logging.NullHandler())  # hundreds say the same
    loop.AUDIT_SECONDS = AUDIT_SECONDS
    with tempfile.TemporaryDirectory() as temporary:
        asyncio.run(_run(int(sys.argv[1]), int(sys.argv[2]), Path(temporary)))
