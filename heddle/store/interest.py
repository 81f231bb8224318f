"""What a follower needs, as what it reaches from its roots.

Pure bookkeeping over scopes.py: networks and routers name each other, so that
counting references would never let go of them; reaching does.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable

from heddle.store.scope import Scope


class Interest:
    """A graph of scopes; its edges belong to what lies in a scope."""

    def __init__(self, roots: Iterable[Scope]) -> None:
        self._roots = tuple(roots)
        self._edges: defaultdict[Scope, Counter[Scope]] = defaultdict(Counter)
        self._targets: dict[tuple[Scope, Hashable], tuple[Scope, ...]] = {}
        self._wanted: set[Scope] | None = None

    def point(self, source: Scope, name: Hashable, targets: Iterable[Scope]) -> None:
        """What lies in ``source`` under this name makes ``targets`` needed, and
        nothing else that it did before."""
        key, now = (source, name), tuple(targets)
        before = self._targets.pop(key, ())
        if now:
            self._targets[key] = now
        if now == before:
            return
        edges = self._edges[source]
        kinds = set(edges)
        edges.update(now)
        edges.subtract(before)
        for target in before:
            if edges[target] <= 0:
                del edges[target]
        if set(edges) != kinds:
            self._wanted = None

    def forget(self, source: Scope, names: Iterable[Hashable]) -> None:
        """A scope is followed no more."""
        for name in names:
            self._targets.pop((source, name), None)
        self._edges.pop(source, None)
        self._wanted = None

    @property
    def wanted(self) -> set[Scope]:
        """All that is needed, as far as the edges are known."""
        if self._wanted is None:
            self._wanted = self._reached()
        return self._wanted

    def _reached(self) -> set[Scope]:
        reached, todo = set(self._roots), list(self._roots)
        while todo:
            for target in self._edges.get(todo.pop(), ()):
                if target not in reached:
                    reached.add(target)
                    todo.append(target)
        return reached
