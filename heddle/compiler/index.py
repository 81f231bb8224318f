"""Answers to the questions of compile functions, kept up to date object by
object. No update walks all ports of a network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from heddle.compiler.admission import Admission
from heddle.compiler.claims import answers_of
from heddle.compiler.cluster import Cluster
from heddle.compiler.fragment import Limits
from heddle.compiler.needs import Needs
from heddle.compiler.questions import (
    ObjectKey,
    Question,
    on_paths,
    ports_of,
    relaying,
    routed_to,
    routers_of,
    subnets_of,
)
from heddle.compiler.usage import Usage
from heddle.intent.model import AnyResource, Detour, Kind, Path, Port, Router, Subnet

Change = tuple[Kind, str, AnyResource | None]


class Replaced(NamedTuple):
    """An object before and after; None: absent."""

    old: AnyResource | None
    new: AnyResource | None


class Index:
    """The objects that take part, and who refers to whom."""

    def __init__(self, host: str, limits: Limits) -> None:
        self.usage = Usage(host, limits.sets)
        self.needs = Needs(host)
        self.cluster = Cluster()
        self._admission = Admission(host, limits)
        self._members: dict[Question, tuple[str | tuple[str, str], ...]] = {}

    def apply(self, changes: Iterable[Change]) -> tuple[dict[ObjectKey, Replaced], set[Question]]:
        """Take over the changes. Returns the objects that became others, which
        may be more than were named (an address that is free again lets its next
        claimant in), and the questions whose answer changed."""
        replaced = self._replace(changes)
        changed: set[Question] = set()
        for key, (old, new) in replaced.items():
            changed.add(key)
            changed |= self._regroup(old, new)
            changed |= self.usage.replace(old, new)
            changed |= self.needs.replace(old, new)
            changed |= self.cluster.replace(old, new)
            changed |= set(answers_of(old)) ^ set(answers_of(new))
        return replaced, changed

    def get(self, key: ObjectKey) -> AnyResource | None:
        return self._admission.admitted.get(key)

    def holder(self, claim: Question) -> ObjectKey | None:
        return self._admission.holder(claim)

    def members(self, question: Question) -> tuple[str | tuple[str, str], ...]:
        """Who answers to the question, sorted."""
        return self._members.get(question, ())

    def faults(self) -> dict[ObjectKey, str]:
        return self._admission.faults()

    def _replace(self, changes: Iterable[Change]) -> dict[ObjectKey, Replaced]:
        admission = self._admission
        before: dict[ObjectKey, AnyResource | None] = {}
        for kind, object_id, value in changes:
            key = (kind, object_id)
            before.setdefault(key, admission.admitted.get(key))
            for rival in admission.put(key, value):
                before.setdefault(rival, admission.admitted.get(rival))
        for key in before:
            admission.judge(key)
        return {
            key: Replaced(old, new)
            for key, old in before.items()
            if (new := admission.admitted.get(key)) is not old
        }

    def _regroup(self, old: AnyResource | None, new: AnyResource | None) -> set[Question]:
        """Move the object between groups; return those that changed."""
        before = set(_memberships(old))
        after = set(_memberships(new))
        for question, member in before - after:
            rest = tuple(m for m in self._members[question] if m != member)
            if rest:
                self._members[question] = rest
            else:
                del self._members[question]
        for question, member in after - before:
            self._members[question] = tuple(sorted((*self._members.get(question, ()), member)))
        return {question for question, _ in before ^ after}


def _memberships(resource: AnyResource | None) -> Iterator[tuple[Question, str | tuple[str, str]]]:
    match resource:
        case Port():
            yield ports_of(resource.machine_id), resource.id
        case Detour():
            yield relaying(resource.relay), resource.id
        case Path() if resource.relay is not None:
            yield on_paths(resource.relay), resource.id
        case Subnet():
            yield subnets_of(resource.network_id), resource.id
        case Router():
            for interface in resource.interfaces:
                yield routers_of(interface.network_id), resource.id
                for route in resource.routes:
                    if route.nexthop is not None:
                        # Ports know best whether the next hop is in their network.
                        via = routed_to(interface.network_id, route.nexthop)
                        yield via, (resource.id, route.destination)
