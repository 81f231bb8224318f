"""Which objects take part: those that are well formed and whose claims nobody
else has first. The rest count as absent, and ``faults`` says why.

Who comes first depends on the objects alone (kind, then id), never on the order
in which they came, so that the same intent always gives the same host.
"""

from __future__ import annotations

from heddle.compiler.claims import claims_of, describe
from heddle.compiler.questions import ObjectKey, Question
from heddle.compiler.wellformed import fault_of
from heddle.intent.model import AnyResource, Kind

_PRECEDENCE = {kind: position for position, kind in enumerate(Kind)}


def _order(key: ObjectKey) -> tuple[int, str]:
    return _PRECEDENCE[key[0]], key[1]


class Admission:
    """All objects as given, and who claims what."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._given: dict[ObjectKey, AnyResource] = {}
        self._claimants: dict[Question, tuple[ObjectKey, ...]] = {}  # first one wins
        self._refused: set[ObjectKey] = set()

    def admitted(self, key: ObjectKey) -> AnyResource | None:
        return None if key in self._refused else self._given.get(key)

    def holder(self, claim: Question) -> ObjectKey | None:
        """The object that has what is claimed."""
        claimants = self._claimants.get(claim)
        if claimants is None or claimants[0] in self._refused:
            return None
        return claimants[0]

    def claims_of(self, resource: AnyResource | None) -> set[Question]:
        return set() if resource is None else set(claims_of(resource, self._host))

    def put(self, key: ObjectKey, value: AnyResource | None) -> set[ObjectKey]:
        """Replace an object; ``value`` None removes it. Returns the other objects
        whose claims this touches: ``judge`` must follow for them and for ``key``."""
        before = self.claims_of(self._given.get(key))
        after = self.claims_of(value)
        rivals: set[ObjectKey] = set()
        for claim in before ^ after:
            others = tuple(k for k in self._claimants.get(claim, ()) if k != key)
            rivals.update(others)
            self._set_claimants(claim, (*others, key) if claim in after else others)
        if value is None:
            self._given.pop(key, None)
        else:
            self._given[key] = value
        return rivals

    def judge(self, key: ObjectKey) -> None:
        """Decide anew whether an object takes part."""
        if self._fault(key) is None:
            self._refused.discard(key)
        else:
            self._refused.add(key)

    def faults(self) -> dict[ObjectKey, str]:
        """Why each refused object is left out: one line that names the object."""
        return {key: self._fault(key) or "" for key in sorted(self._refused)}

    def _set_claimants(self, claim: Question, claimants: tuple[ObjectKey, ...]) -> None:
        if claimants:
            self._claimants[claim] = tuple(sorted(claimants, key=_order))
        else:
            del self._claimants[claim]

    def _fault(self, key: ObjectKey) -> str | None:
        resource = self._given.get(key)
        if resource is None:
            return None
        malformed = fault_of(resource)
        if malformed is not None:
            return f"{key[0]} {resource.name}: {malformed}; correct it"
        for claim in claims_of(resource, self._host):
            first = self._claimants[claim][0]
            if first != key:
                name = self._given[first].name
                return (
                    f"{key[0]} {resource.name}: {describe(claim)} belongs to "
                    f"{first[0]} {name}; change one of them"
                )
        return None
