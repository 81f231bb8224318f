"""This host as one of many: known to the others by name and VTEP, and alive."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import Executor

from heddle.agent.troubles import Troubles
from heddle.errors import ConflictError, StoreError
from heddle.store.interface import Store

CONFLICT_SECONDS = 5.0  # from one attempt to be known to the next
RETRY_SECONDS = 1.0  # the same while the store is out of reach
BEAT_SECONDS = 5.0  # a third of the time after which a host counts as down


class Membership:
    """Two tasks of the agent. ``storing`` takes what waits for the store; that it is out
    of reach is told by who follows intent."""

    def __init__(
        self,
        host: str,
        store: Store,
        register: Callable[[], None],
        storing: Executor,
        troubles: Troubles,
    ) -> None:
        self._host = host
        self._store = store
        self._register = register
        self._storing = storing
        self._troubles = troubles

    async def register(self) -> None:
        """Make the host known once the store can be reached. A name or VTEP that
        another has stays an error until one of them has changed."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                await loop.run_in_executor(self._storing, self._register)
                break
            except StoreError:
                await asyncio.sleep(RETRY_SECONDS)
            except ConflictError as error:
                self._troubles.note("registration", str(error))
                await asyncio.sleep(CONFLICT_SECONDS)
        self._troubles.note("registration", "")
        await asyncio.Event().wait()

    async def stay_alive(self, since: str) -> None:
        """Let everybody know that this host is up, as long as it is."""
        loop = asyncio.get_running_loop()
        note = {"since": since, "pid": os.getpid()}
        while True:
            try:
                await loop.run_in_executor(self._storing, self._store.beat, self._host, note)
                self._troubles.note("alive", "")
            except StoreError:
                pass
            except ConflictError as error:
                self._troubles.note("alive", str(error))
            await asyncio.sleep(BEAT_SECONDS)
