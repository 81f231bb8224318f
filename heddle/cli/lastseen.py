"""What this host knows by itself, when the store of the cluster is out of reach."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from heddle.agent.client import AgentClient
from heddle.errors import AgentError
from heddle.paths import intent_cache_file
from heddle.store.reader import Life, read_objects, read_revision

_AGENT_SECONDS = 2.0


class LastSeen:
    """heddle.store.reader.Reader: intent from the agent's cache, facts from the
    agent itself."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def objects(
        self, kind: str | None = None, *, without: Sequence[str] = ()
    ) -> list[dict[str, Any]]:
        return read_objects(self._path, kind, without=without)

    def statuses(self) -> dict[tuple[str, str], dict[str, Any]]:
        with contextlib.suppress(AgentError, TimeoutError), AgentClient() as client:
            for message in client.stream("facts", time.monotonic() + _AGENT_SECONDS):
                return {(kind, name): fact for kind, name, fact in message["facts"] if fact}
        return {}

    def revision(self) -> int:
        return read_revision(self._path)

    def lives(self) -> dict[str, Life]:
        return {}

    def close(self) -> None:
        """Nothing is kept open."""


def last_seen() -> LastSeen | None:
    """None when no agent has seen anything here."""
    path = intent_cache_file()
    return LastSeen(path) if path.exists() else None
