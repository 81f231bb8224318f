"""What a store fills in when it writes an object, and when there is nothing to write."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import ValidationError

from heddle.errors import ConflictError
from heddle.intent.model import MODELS, AnyResource, Kind
from heddle.store.reader import unreadable


def now() -> str:
    """The time as objects carry it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def next_value(resource: AnyResource, old: AnyResource | None, stored: str, at: str) -> str | None:
    """What to store for the resource, given what is stored (``old``, and the
    same as JSON); None when that is no different."""
    if old is None:
        return _stamped(resource, at, at, 1)
    if _stamped(resource, old.created_at, old.updated_at, old.revision_number) == stored:
        return None
    return _stamped(resource, old.created_at, at, old.revision_number + 1)


def check_as_read(resource: AnyResource, old: AnyResource | None) -> None:
    """ConflictError when the stored object is not the one of which ``resource``
    is a changed copy."""
    stored = old.revision_number if old is not None else 0
    if stored != resource.revision_number:
        name = f"{resource.kind.value} {resource.name}"
        what = "changed" if old is not None else "removed"
        raise ConflictError(f"{name}: someone else has {what} it meanwhile; try again")


def parse(kind: str, value: str | bytes, store: str) -> AnyResource:
    """An object from its JSON; ``store`` names the store in the StoreError."""
    try:
        return MODELS[Kind(kind)].model_validate_json(value)
    except (ValueError, KeyError, ValidationError) as error:
        raise unreadable(kind, store) from error


def _stamped(resource: AnyResource, created: str, updated: str, revision_number: int) -> str:
    stamps = {"created_at": created, "updated_at": updated, "revision_number": revision_number}
    return resource.model_copy(update=stamps).model_dump_json()
