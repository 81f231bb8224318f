"""Which networks can exchange packets: flows of all of them may depend on any
object in one of them."""

from __future__ import annotations

from collections.abc import Iterable

from heddle.compiler.joins import Joins
from heddle.intent.model import AnyResource, Network, Port, Router, Subnet


def networks_of(resource: AnyResource | None) -> tuple[str, ...]:
    """The networks in which an object has a part."""
    match resource:
        case Port() | Subnet():
            return (resource.network_id,)
        case Network():
            return (resource.id,)
        case Router():
            return tuple(interface.network_id for interface in resource.interfaces)
        case _:
            return ()


class Reach:
    """VNIs of networks and of those that routers join to them."""

    def __init__(self) -> None:
        self._vnis: dict[str, int] = {}
        self._joins = Joins()
        # By what is joined, since a network or router last changed.
        self._found: dict[frozenset[str], frozenset[int]] = {}

    def replace(self, old: AnyResource | None, new: AnyResource | None) -> None:
        self._found.clear()
        if isinstance(old, Network):
            del self._vnis[old.id]
        if isinstance(new, Network):
            self._vnis[new.id] = new.vni
        routers = [one if isinstance(one, Router) else None for one in (old, new)]
        if any(routers):
            self._joins.replace(*routers)

    def reachable(self, network_ids: Iterable[str]) -> set[int]:
        """VNIs of these networks and of all that routers join to them."""
        return set().union(*{self._vnis_joined_to(network_id) for network_id in network_ids})

    def _vnis_joined_to(self, network_id: str) -> frozenset[int]:
        joined = self._joins.joined_to(network_id)
        if len(joined) == 1:
            return frozenset(self._vnis[one] for one in joined if one in self._vnis)
        found = self._found.get(joined)
        if found is None:
            found = frozenset(self._vnis[one] for one in joined if one in self._vnis)
            self._found[joined] = found
        return found
