"""A host of a cluster makes itself known: its agent commits the Host object."""

from __future__ import annotations

import random
import time

from heddle.errors import ConflictError
from heddle.intent.hosts import registered_host
from heddle.intent.model import EnvelopeWay, Kind
from heddle.paths import machine_id
from heddle.settings import HostSettings
from heddle.store.interface import Store, Transaction

_PAUSE_SECONDS = 0.05
_ATTEMPTS = 20  # when others commit between our reading and writing, as at a common start


def register(store: Store, host: str, settings: HostSettings) -> None:
    """Make the stored object say what the settings of this host do. ConflictError
    when another machine has the name, or another host the VTEP; StoreError."""
    if settings.etcd is None and not settings.vtep:
        return  # a host by itself
    for _ in range(_ATTEMPTS - 1):
        try:
            return _commit(store, host, settings)
        except _LostRaceError:
            time.sleep(random.uniform(0, _PAUSE_SECONDS))  # noqa: S311 (no secret)
    return _commit(store, host, settings)


class _LostRaceError(ConflictError):
    """Somebody else committed meanwhile."""


def _commit(store: Store, host: str, settings: HostSettings) -> None:
    snapshot = store.snapshot(Kind.HOST)
    wanted = registered_host(
        snapshot,
        host,
        vtep=settings.vtep,
        udp_port=settings.udp_port,
        machine_id=machine_id(),
        envelopes=EnvelopeWay(settings.envelopes),
    )
    # In etcd names, numbers and VTEPs are claimed: a thousand agents that start at
    # once must not wait for each other's commits.
    expected = snapshot.revision if settings.etcd is None else None
    try:
        store.commit(Transaction(put=[wanted], expected_revision=expected))
    except ConflictError as error:
        raise _LostRaceError(str(error)) from error
