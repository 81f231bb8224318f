"""Which networks routers join to each other, one router or several in a row."""

from __future__ import annotations

from heddle.intent.model import Router


class Joins:
    """The graph of networks and the routers between them."""

    def __init__(self) -> None:
        self._networks: dict[str, tuple[str, ...]] = {}  # by router
        self._routers: dict[str, set[str]] = {}  # by network
        # What was found since a router last changed, so that a change of ports
        # does not search again.
        self._found: dict[str, frozenset[str]] = {}

    def replace(self, old: Router | None, new: Router | None) -> None:
        self._found.clear()
        if old is not None:
            for network_id in set(self._networks.pop(old.id)):
                self._routers[network_id].discard(old.id)
                if not self._routers[network_id]:
                    del self._routers[network_id]
        if new is not None:
            networks = tuple(interface.network_id for interface in new.interfaces)
            self._networks[new.id] = networks
            for network_id in networks:
                self._routers.setdefault(network_id, set()).add(new.id)

    def joined_to(self, network_id: str) -> frozenset[str]:
        """The network itself and all others that can be reached from it."""
        if network_id not in self._routers:
            return frozenset((network_id,))
        found = self._found.get(network_id)
        if found is None:
            found = self._search(network_id)
            self._found.update(dict.fromkeys(found, found))
        return found

    def _search(self, start: str) -> frozenset[str]:
        seen = {start}
        waiting = [start]
        while waiting:
            for router_id in self._routers[waiting.pop()]:
                fresh = set(self._networks[router_id]) - seen
                seen |= fresh
                waiting += fresh
        return frozenset(seen)
