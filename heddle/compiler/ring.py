"""The order in which a flooded frame visits the ports of a network."""

from __future__ import annotations

from bisect import bisect_left, insort

from heddle.compiler.state import Device


class Rings:
    """One ring per network of the ports plugged in on this host, sorted by id.
    Each port knows the next; a lone port is its own successor."""

    def __init__(self) -> None:
        self._ports: dict[str, list[str]] = {}  # by network
        self._places: dict[str, tuple[str, Device]] = {}  # by port: network, device

    def place(self, port_id: str, place: tuple[str, Device] | None) -> set[str]:
        """Put a port with its device into the ring of a network; None: into none.
        Returns the ports that have another successor, or another device of it."""
        current = self._places.get(port_id)
        if place == current:
            return set()
        changed: set[str] = set()
        if current is not None:
            changed |= self._remove(port_id, current[0])
        if place is not None:
            changed |= self._insert(port_id, place)
        return changed

    def successor(self, port_id: str) -> Device:
        """Device of the next port. The port must be in a ring."""
        ports = self._ports[self._places[port_id][0]]
        following = ports[(bisect_left(ports, port_id) + 1) % len(ports)]
        return self._places[following][1]

    def device(self, port_id: str) -> Device:
        """The port's own device, the same object wherever rows name it."""
        return self._places[port_id][1]

    def _insert(self, port_id: str, place: tuple[str, Device]) -> set[str]:
        ports = self._ports.setdefault(place[0], [])
        insort(ports, port_id)
        self._places[port_id] = place
        return {port_id, ports[bisect_left(ports, port_id) - 1]}

    def _remove(self, port_id: str, network_id: str) -> set[str]:
        ports = self._ports[network_id]
        position = bisect_left(ports, port_id)
        del ports[position]
        del self._places[port_id]
        if not ports:
            del self._ports[network_id]
            return set()
        return {ports[position - 1]}
