"""Whether etcd goes on where a host has left it.

One that has lost its data, or was put back to an earlier state, begins anew with lower
revisions. Watches would be silent until it reaches the old ones, and to take it for what
is wanted would end machines that nobody has removed.
"""

from __future__ import annotations

from heddle.errors import StoreError
from heddle.store.cache import IntentCache
from heddle.store.etcd.client import EtcdClient
from heddle.store.etcd.layout import HEAD
from heddle.store.etcd.messages import RANGE, get, read_range

_PATIENCE_SECONDS = 2.5  # before an agent begins with what it saw last


class Continuity:
    """Of one host, from its first look on: what was lost once does not become right by
    growing."""

    def __init__(self, client: EtcdClient, cache: IntentCache | None) -> None:
        self._client = client
        self._cache = cache
        self._seen: int | None = None
        self.broken = ""
        """What to say of it; empty while all is well."""

    def check(self, told: int) -> None:
        """StoreError when etcd does not answer, or is behind what it told this host."""
        # Linearizable: no member that lags behind answers with less than others have told.
        answer = self._client.read(RANGE, get(HEAD), patience=_PATIENCE_SECONDS)
        if self._seen is None:
            self._seen = self._kept()
        self._seen = max(self._seen, told)
        revision = read_range(answer).revision
        if revision < self._seen and not self.broken:
            self.broken = (
                f"{self._client.name}: its data is lost, or that of an earlier time (revision "
                f"{revision}, and this host has seen {self._seen}): restore its last snapshot; "
                f"then, or if what it holds is right, {self._remedy()}start each host's agent anew"
            )
        if self.broken:
            raise StoreError(self.broken)

    def _kept(self) -> int:
        try:
            return self._cache.revision() if self._cache is not None else 0
        except StoreError:
            return 0  # told when it is read, or written

    def _remedy(self) -> str:
        return f"remove {self._cache.path} and " if self._cache is not None else ""
