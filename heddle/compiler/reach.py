"""Which networks can exchange packets: flows of all of them may depend on any
object in one of them."""

from __future__ import annotations

from collections.abc import Iterable

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
    """The graph of networks and the routers between them."""

    def __init__(self) -> None:
        self._vnis: dict[str, int] = {}
        self._networks: dict[str, tuple[str, ...]] = {}  # by router
        self._routers: dict[str, set[str]] = {}  # by network
        # Components found since a network or router last changed, so that a
        # change of ports does not search again.
        self._found: dict[str, frozenset[int]] = {}

    def replace(self, old: AnyResource | None, new: AnyResource | None) -> None:
        match old:
            case Network():
                self._found.clear()
                del self._vnis[old.id]
            case Router():
                self._found.clear()
                for network_id in set(self._networks.pop(old.id)):
                    self._routers[network_id].discard(old.id)
                    if not self._routers[network_id]:
                        del self._routers[network_id]
        match new:
            case Network():
                self._found.clear()
                self._vnis[new.id] = new.vni
            case Router():
                self._found.clear()
                self._networks[new.id] = networks_of(new)
                for network_id in networks_of(new):
                    self._routers.setdefault(network_id, set()).add(new.id)

    def reachable(self, network_ids: Iterable[str]) -> set[int]:
        """VNIs of these networks and of all that routers join to them."""
        components = {self._component(network_id) for network_id in network_ids}
        return set().union(*components)

    def _component(self, network_id: str) -> frozenset[int]:
        if network_id not in self._vnis and network_id not in self._routers:
            return frozenset()
        found = self._found.get(network_id)
        if found is None:
            members = self._search(network_id)
            found = frozenset(self._vnis[n] for n in members if n in self._vnis)
            self._found.update(dict.fromkeys(members, found))
        return found

    def _search(self, start: str) -> set[str]:
        seen = {start}
        waiting = [start]
        while waiting:
            for router_id in self._routers.get(waiting.pop(), ()):
                fresh = set(self._networks[router_id]) - seen
                seen |= fresh
                waiting += fresh
        return seen
