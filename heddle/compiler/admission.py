"""Which objects take part: those that are well formed and whose claims nobody
else has first. The rest count as absent, and ``faults`` says why.

Who comes first depends on the objects alone (kind, then id), never on the order
in which they came, so that the same intent always gives the same host.
"""

from __future__ import annotations

from heddle.compiler.claims import claims_of, describe
from heddle.compiler.fragment import Limits
from heddle.compiler.questions import ObjectKey, Question
from heddle.compiler.wellformed import fault_of
from heddle.intent.model import AnyResource, Kind

_PRECEDENCE = {kind: position for position, kind in enumerate(Kind)}


def _order(key: ObjectKey) -> tuple[int, str]:
    return _PRECEDENCE[key[0]], key[1]


class Admission:
    """All objects as given, and who claims what."""

    def __init__(self, host: str, limits: Limits) -> None:
        self.admitted: dict[ObjectKey, AnyResource] = {}
        self._refused: dict[ObjectKey, AnyResource] = {}
        self._host = host
        self._limits = limits
        self._first: dict[Question, ObjectKey] = {}  # by claim
        self._contested: dict[Question, list[ObjectKey]] = {}  # all, when several claim

    def holder(self, claim: Question) -> ObjectKey | None:
        """The object that has what is claimed."""
        first = self._first.get(claim)
        return first if first in self.admitted else None

    def claims_of(self, resource: AnyResource | None) -> set[Question]:
        return set() if resource is None else set(claims_of(resource, self._host))

    def put(self, key: ObjectKey, value: AnyResource | None) -> list[ObjectKey]:
        """Replace an object; ``value`` None removes it. Returns the other objects
        with a claim that it makes or gives up: ``judge`` must follow for those and
        for ``key``."""
        old = self.admitted.pop(key, None) or self._refused.pop(key, None)
        before = self.claims_of(old)
        after = self.claims_of(value)
        rivals: list[ObjectKey] = []
        for claim in before - after:
            rivals += self._withdraw(claim, key)
        for claim in after - before:
            rivals += self._claim(claim, key)
        if value is not None:
            self._refused[key] = value
        return rivals

    def judge(self, key: ObjectKey) -> None:
        """Decide anew whether an object takes part."""
        resource = self.admitted.pop(key, None) or self._refused.pop(key, None)
        if resource is None:
            return
        fits = fault_of(resource, self._limits) is None and self._lost_claim(key, resource) is None
        (self.admitted if fits else self._refused)[key] = resource

    def faults(self) -> dict[ObjectKey, str]:
        """Why each refused object is left out: one line that names the object."""
        return {key: self._fault(key, self._refused[key]) for key in sorted(self._refused)}

    def _claim(self, claim: Question, key: ObjectKey) -> list[ObjectKey]:
        """Returns the other claimants."""
        first = self._first.setdefault(claim, key)
        if first is key:
            return []
        others = self._contested.get(claim, [first])
        self._contested[claim] = sorted((*others, key), key=_order)
        self._first[claim] = self._contested[claim][0]
        return others

    def _withdraw(self, claim: Question, key: ObjectKey) -> list[ObjectKey]:
        """Returns the other claimants."""
        others = [other for other in self._contested.pop(claim, ()) if other != key]
        if len(others) > 1:
            self._contested[claim] = others
        if others:
            self._first[claim] = others[0]
        else:
            del self._first[claim]
        return others

    def _lost_claim(self, key: ObjectKey, resource: AnyResource) -> Question | None:
        """The first claim of the object in which another comes before it."""
        if not self._contested:
            return None
        return next((c for c in claims_of(resource, self._host) if self._first[c] != key), None)

    def _fault(self, key: ObjectKey, resource: AnyResource) -> str:
        malformed = fault_of(resource, self._limits)
        reason = f"{malformed}; correct it" if malformed else self._rivalry(key, resource)
        return f"{key[0]} {resource.name}: {reason}"

    def _rivalry(self, key: ObjectKey, resource: AnyResource) -> str:
        claim = self._lost_claim(key, resource)
        assert claim is not None, "a refused object is malformed or not first"
        first = self._first[claim]
        other = self.admitted.get(first) or self._refused[first]
        return f"{describe(claim)} belongs to {first[0]} {other.name}; change one of them"
