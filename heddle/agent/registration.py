"""A host of a cluster makes itself known: its agent commits the Host object."""

from __future__ import annotations

from pathlib import Path

from heddle.errors import ConflictError
from heddle.intent.hosts import registered_host
from heddle.settings import HostSettings
from heddle.store.interface import Store, Transaction

MACHINE_ID = Path("/etc/machine-id")
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
            continue
    return _commit(store, host, settings)


class _LostRaceError(ConflictError):
    """Somebody else committed meanwhile."""


def _commit(store: Store, host: str, settings: HostSettings) -> None:
    snapshot = store.snapshot()
    wanted = registered_host(
        snapshot,
        host,
        vtep=settings.vtep,
        udp_port=settings.udp_port,
        machine_id=_machine_id(),
    )
    try:
        store.commit(Transaction(put=[wanted], expected_revision=snapshot.revision))
    except ConflictError as error:
        raise _LostRaceError(str(error)) from error


def _machine_id() -> str:
    """Empty where the machine has none."""
    try:
        return MACHINE_ID.read_text().strip()
    except OSError:
        return ""
