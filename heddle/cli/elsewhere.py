"""Facts of other hosts of a cluster, for who waits for them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import closing
from typing import Any

from heddle.paths import host_name, settings_file
from heddle.settings import read_settings
from heddle.store.open import open_reader, open_store

_PAUSE_SECONDS = 0.3
_SHARE = 4  # of the time may go into reading, one in so many

Facts = dict[tuple[str, str], dict[str, Any]]


class Elsewhere:
    """What the store says of these hosts; nothing when it is a file of this host.

    Their agents are asked to say that they are up to date, too.
    """

    def __init__(self, hosts: Iterable[str]) -> None:
        others = set(hosts) - {host_name()}
        shared = bool(others) and read_settings(settings_file()).etcd is not None
        self._reader = open_reader() if shared else None
        self.pause = _PAUSE_SECONDS if shared else None
        self._facts: Facts = {}
        self._due = 0.0
        if shared:
            with closing(open_store()) as store:
                for host in others:
                    store.catch_up(host)

    def facts(self) -> Facts:
        """Read anew when that is due."""
        began = time.monotonic()
        if self._reader is not None and began >= self._due:
            self._facts = self._reader.statuses()
            took = time.monotonic() - began
            self._due = time.monotonic() + max(_PAUSE_SECONDS, took * _SHARE)
        return self._facts

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
