"""What expanding and planning need to know of the store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeVar

from heddle.intent.model import MODELS, AnyResource, Kind

ResourceT = TypeVar("ResourceT", bound=AnyResource)


class Stored(Protocol):
    """All intent as of one revision: heddle.store.interface.Snapshot."""

    @property
    def objects(self) -> Mapping[Kind, Mapping[str, AnyResource]]: ...


def stored_of(stored: Stored, model: type[ResourceT]) -> dict[str, ResourceT]:
    """The stored objects of one model by id."""
    objects = stored.objects.get(model.kind, {})
    return {key: value for key, value in objects.items() if isinstance(value, model)}


KIND_ORDER = {kind: position for position, kind in enumerate(MODELS)}
"""Kinds so that what others refer to comes first."""
