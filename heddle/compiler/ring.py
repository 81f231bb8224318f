"""The order in which a flooded frame visits the ports of a network."""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import NamedTuple

from heddle.compiler.state import Device


class Turned(NamedTuple):
    """Ports that have another successor, or another device of it, and networks
    whose ring has another first port."""

    ports: set[str]
    networks: set[str]


class Rings:
    """One ring per network of the ports plugged in on this host, sorted by id.
    Each port knows the next; a lone port is its own successor. Whoever comes from
    elsewhere begins with the first."""

    def __init__(self) -> None:
        self._ports: dict[str, list[str]] = {}  # by network
        self._places: dict[str, tuple[str, Device]] = {}  # by port: network, device

    def place(self, port_id: str, place: tuple[str, Device] | None) -> Turned:
        """Put a port with its device into the ring of a network; None: into none."""
        turned = Turned(set(), set())
        current = self._places.get(port_id)
        if place == current:
            return turned
        if current is not None:
            self._remove(port_id, current[0], turned)
        if place is not None:
            self._insert(port_id, place, turned)
        return turned

    def first(self, network_id: str) -> Device | None:
        """Device of the first port, None: there is none."""
        ports = self._ports.get(network_id)
        return self._places[ports[0]][1] if ports else None

    def successor(self, port_id: str) -> Device:
        """Device of the next port. The port must be in a ring."""
        ports = self._ports[self._places[port_id][0]]
        following = ports[(bisect_left(ports, port_id) + 1) % len(ports)]
        return self._places[following][1]

    def device(self, port_id: str) -> Device:
        """The port's own device, the same object wherever rows name it."""
        return self._places[port_id][1]

    def _insert(self, port_id: str, place: tuple[str, Device], turned: Turned) -> None:
        ports = self._ports.setdefault(place[0], [])
        insort(ports, port_id)
        self._places[port_id] = place
        turned.ports.add(port_id)
        self._note_before(bisect_left(ports, port_id), place[0], turned)

    def _remove(self, port_id: str, network_id: str, turned: Turned) -> None:
        ports = self._ports[network_id]
        position = bisect_left(ports, port_id)
        del ports[position]
        del self._places[port_id]
        self._note_before(position, network_id, turned)
        if not ports:
            del self._ports[network_id]

    def _note_before(self, position: int, network_id: str, turned: Turned) -> None:
        """What points to this position of the ring."""
        if position == 0:
            turned.networks.add(network_id)
        if ports := self._ports[network_id]:
            turned.ports.add(ports[position - 1])
