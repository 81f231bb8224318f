"""The difference between what a file wants and what the store holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain

from heddle.errors import ConflictError
from heddle.intent.conflicts import find_conflicts
from heddle.intent.describe import describe, describe_change, title
from heddle.intent.model import AnyResource, Host, Kind, Machine, Resource
from heddle.intent.stored import KIND_ORDER, Stored, stored_of

# What the store fills in, and what therefore is no difference.
BOOKKEEPING = {"revision_number", "created_at", "updated_at"}
_COMPARED = {
    model: [name for name in model.model_fields if name not in BOOKKEEPING]
    for model in AnyResource.__args__
}

# Kinds that others' descriptions speak of by name.
_NAMED = (Kind.SECURITY_GROUP, Kind.QOS_POLICY)


@dataclass(frozen=True, slots=True)
class Update:
    """An object that stays, and what becomes of it."""

    old: AnyResource
    new: AnyResource

    @property
    def fields(self) -> list[str]:
        """Names of the fields that change."""
        return changed_fields(self.old, self.new)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to create, update and delete. False when there is nothing to do."""

    create: tuple[AnyResource, ...] = ()
    update: tuple[Update, ...] = ()
    delete: tuple[AnyResource, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Names by id of what ports name, for ``lines``."""
    tells_hosts: bool = field(default=False, compare=False)
    """Whether ``lines`` says where machines are: there are several hosts."""

    def __bool__(self) -> bool:
        return bool(self.create or self.update or self.delete)

    @property
    def put(self) -> tuple[AnyResource, ...]:
        """What to write, for a store's transaction."""
        return (*self.create, *(update.new for update in self.update))

    @property
    def removed(self) -> tuple[tuple[Kind, str], ...]:
        """What to delete, for a store's transaction."""
        return tuple((resource.kind, resource.id) for resource in self.delete)

    def lines(self) -> list[str]:
        """One ``+``, ``~`` or ``-`` line per object."""
        return [
            *(f"+ {self._describe(resource)}" for resource in self.create),
            *(
                f"~ {describe_change(one.old, one.new, one.fields, self.names)}"
                for one in self.update
            ),
            *(f"- {title(resource)}" for resource in self.delete),
        ]

    def _describe(self, resource: AnyResource) -> str:
        text = describe(resource, self.names)
        if self.tells_hosts and isinstance(resource, Machine):
            text += f", on {resource.host}"
        return text


def plan(stored: Stored, wanted: Iterable[AnyResource], origin: str) -> Plan:
    """What makes the objects of ``origin`` in the store those wanted.

    Objects of other origins are left alone, and so are those of the project,
    which are made when they are missing; ConflictError (one line per
    conflict) when the wanted ones contradict them. Nothing wanted: take all
    that the origin owns away.
    """
    wanted_by_id = {(resource.kind, resource.id): resource for resource in wanted}
    conflicts = find_conflicts(stored, wanted_by_id, origin)
    if conflicts:
        raise ConflictError("\n".join(conflicts))
    create, update = [], []
    for (kind, object_id), resource in wanted_by_id.items():
        old = stored.objects.get(kind, {}).get(object_id)
        if old is None:
            create.append(resource)
        elif resource.origin == origin and changed_fields(old, resource):
            update.append(Update(old, resource))
    return Plan(
        create=tuple(sorted(create, key=_order)),
        update=tuple(sorted(update, key=lambda one: _order(one.new))),
        delete=tuple(sorted(_gone(stored, wanted_by_id, origin), key=_order, reverse=True)),
        names=_names(stored, wanted_by_id.values()),
        tells_hosts=sum(not host.foreign for host in stored_of(stored, Host).values()) > 1,
    )


def _names(stored: Stored, wanted: Iterable[AnyResource]) -> dict[str, str]:
    objects = chain(*(stored.objects.get(kind, {}).values() for kind in _NAMED), wanted)
    return {resource.id: resource.name for resource in objects if resource.kind in _NAMED}


def changed_fields(old: AnyResource, new: AnyResource) -> list[str]:
    """Names of the fields in which two versions of an object differ."""
    return [name for name in _COMPARED[type(new)] if getattr(old, name) != getattr(new, name)]


def _gone(
    stored: Stored, wanted: dict[tuple[Kind, str], AnyResource], origin: str
) -> list[AnyResource]:
    return [
        resource
        for kind, objects in stored.objects.items()
        for key, resource in objects.items()
        if resource.origin == origin and (kind, key) not in wanted
    ]


def _order(resource: Resource) -> tuple[int, str]:
    return KIND_ORDER[resource.kind], resource.name
