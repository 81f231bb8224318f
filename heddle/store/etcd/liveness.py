"""Which hosts are up, as leases: no clock of any host has a part in it.

Each agent keeps two leases. ``alive/HOST`` ends with the short one when the
agent is silent. ``seen/HOST`` is under one that lasts for days and is kept at
the same time: what is left of it tells how long ago that was. Keeping a lease
writes nothing, and nobody watches either key.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from heddle.errors import ConflictError
from heddle.store.etcd.client import EtcdClient
from heddle.store.etcd.layout import ALIVE, SEEN, alive_key, host_of, seen_key
from heddle.store.etcd.messages import (
    LEASE_GRANT,
    LEASE_KEEP_ALIVE,
    LEASE_TIME_TO_LIVE,
    end_of,
    grant_lease,
    is_absent,
    is_of,
    lease_id,
    put,
    read,
    read_lease,
)
from heddle.store.reader import Life

ALIVE_SECONDS = 15
_SEEN_SECONDS = 30 * 24 * 3600


class Pulse:
    """Says that one host is up. Used by one thread at a time."""

    def __init__(self, client: EtcdClient, host: str, machine_id: str) -> None:
        self._client = client
        self._host = host
        self._machine_id = machine_id
        self._lease = self._seen = 0

    def beat(self, note: Mapping[str, Any]) -> None:
        """Say so for the next ``ALIVE_SECONDS``. ConflictError when another
        machine of this name says so."""
        if not (self._lease and self._kept(self._lease) and self._kept(self._seen)):
            self._begin(note)

    def _begin(self, note: Mapping[str, Any]) -> None:
        key, seen_at = alive_key(self._host), seen_key(self._host)
        alive, seen = self._client.reads([read(key), read(seen_at)]).ranges
        held = alive.items[0] if alive.items else None
        if held is not None:
            self._check_own(_note(held.value))
        lease = self._granted(ALIVE_SECONDS)
        known = seen.items[0].lease if seen.items else 0
        self._seen = known if known and self._kept(known) else self._granted(_SEEN_SECONDS)
        value = json.dumps({**note, "machine_id": self._machine_id}).encode()
        condition = is_absent(key) if held is None else is_of(key, held.mod_revision)
        steps = [put(key, value, lease), put(seen_at, b"", self._seen)]
        if self._client.transaction([condition], steps).succeeded:
            self._lease = lease

    def _check_own(self, other: Mapping[str, Any]) -> None:
        """An agent that was restarted is the same machine."""
        if other.get("machine_id") != self._machine_id:
            theirs, ours = other.get("machine_id") or "unknown", self._machine_id or "unknown"
            raise ConflictError(
                f"host {self._host}: another machine with this name is up (machine {theirs}; "
                f"this is {ours}); set HEDDLE_HOST to give one of them another name"
            )

    def _granted(self, seconds: int) -> int:
        return read_lease(self._client.read(LEASE_GRANT, grant_lease(seconds))).id

    def _kept(self, lease: int) -> bool:
        return read_lease(self._client.read(LEASE_KEEP_ALIVE, lease_id(lease))).seconds > 0


def read_lives(client: EtcdClient) -> dict[str, Life]:
    """Hosts that ever were up, by name."""
    alive, seen = client.reads([read(ALIVE, end_of(ALIVE)), read(SEEN, end_of(SEEN))]).ranges
    lives = {host_of(item.key): _down(client, item.lease) for item in seen.items}
    for item in alive.items:
        lives[host_of(item.key)] = Life(True, str(_note(item.value).get("since", "")))
    return lives


def _note(value: bytes) -> Mapping[str, Any]:
    """What a host says of itself; nothing when it is spoilt."""
    try:
        found = json.loads(value)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _down(client: EtcdClient, lease: int) -> Life:
    answer = read_lease(client.read(LEASE_TIME_TO_LIVE, lease_id(lease)))
    ago = max(answer.granted - answer.seconds, 0)
    since = datetime.fromtimestamp(time.time() - ago, UTC)
    return Life(False, since.isoformat(timespec="seconds"))
