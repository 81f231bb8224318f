"""What heddle needs from a store. SQLite implements it for one host, etcd for many.

Intent is a set of objects with one revision counter for the whole store. Facts
(status, placement) are kept beside it and never mixed into it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from heddle.errors import StoreError

if TYPE_CHECKING:  # the model costs 100 ms to import, and readers do without
    from heddle.intent.model import AnyResource, Kind


class CompactedError(StoreError):
    """The revisions asked for are no longer kept: take a new snapshot."""


@dataclass(frozen=True, slots=True)
class Change:
    """One object written (``value``) or deleted (``value is None``)."""

    revision: int
    kind: Kind
    id: str
    value: AnyResource | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All intent as of one revision."""

    revision: int
    objects: Mapping[Kind, Mapping[str, AnyResource]]


@dataclass(frozen=True, slots=True)
class Batch:
    """What has changed for a host up to a revision; maybe nothing has."""

    revision: int
    changes: Sequence[Change]


@dataclass(frozen=True, slots=True)
class Outage:
    """The store can't be followed, and why; it is tried again and again. An
    empty reason: it can be again."""

    reason: str


Followed = Snapshot | Batch | Outage


@dataclass(frozen=True, slots=True)
class Transaction:
    """Writes that happen together or not at all. With ``expected_revision``
    the commit is refused (ConflictError) when the store has moved on, with
    ``as_read`` when one of the objects that it writes has, since it was read."""

    put: Iterable[AnyResource] = field(default=())
    delete: Iterable[tuple[Kind, str]] = field(default=())
    expected_revision: int | None = None
    as_read: bool = False


class Store(Protocol):
    """Errors: StoreError when the medium fails, ConflictError on a lost race."""

    def snapshot(self, *kinds: Kind) -> Snapshot:
        """All intent, or what there is of some kinds."""
        ...

    def commit(self, transaction: Transaction) -> int:
        """Write durably; return the new revision. Objects get their
        ``revision_number``, ``created_at`` and ``updated_at`` here; an object
        that does not differ from what is stored is left as it is, and a
        transaction without a difference makes no new revision."""
        ...

    def watch(self, after_revision: int) -> AsyncIterator[list[Change]]:
        """Yield, in order, the changes of each revision after the given one,
        first those already there. One list per transaction. CompactedError
        when the given revision is too old."""
        ...

    def follow(self, host: str) -> AsyncGenerator[Followed, None]:
        """What a host needs, for ever: first a snapshot of it, then what
        changes. What the host needs no more comes as a deletion, what it newly
        needs as a write, whenever that was made. A further snapshot replaces
        everything. A store that can be out of reach tells so, and may begin
        with what it had at an earlier time."""
        ...

    def catch_up(self, host: str) -> None:
        """Let who follows for this host soon get a batch of the present
        revision, also when nothing has changed for it."""
        ...

    def beat(self, host: str, note: Mapping[str, Any]) -> None:
        """Say that the agent of a host lives, for some seconds; ``note`` is what
        others may know of it. ConflictError when another machine of this name
        does so."""
        ...

    def put_status(self, statuses: Mapping[tuple[str, str], Mapping[str, Any] | None]) -> None:
        """Record facts of this host by (kind, id); None forgets one."""
        ...

    def statuses(self, host: str | None = None) -> dict[tuple[str, str], dict[str, Any]]:
        """Facts by (kind, id): those that one host recorded, or all."""
        ...

    def close(self) -> None: ...
