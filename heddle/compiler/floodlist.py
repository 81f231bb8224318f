"""The order in which a flooded frame is sent to the other hosts of a network."""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import NamedTuple

from heddle.compiler.needs import Residence


class Moved(NamedTuple):
    """Residences that another host follows now, and networks that another begins."""

    residences: set[Residence]
    networks: set[str]


class FloodLists:
    """One list per network, sorted by the numbers of the hosts."""

    def __init__(self) -> None:
        self._lists: dict[str, list[tuple[int, Residence]]] = {}  # by network
        self._numbers: dict[Residence, int] = {}

    def place(self, residence: Residence, number: int | None) -> Moved:
        """Put a host with its number into the list of a network; None: take it out."""
        moved = Moved(set(), set())
        current = self._numbers.get(residence)
        if number == current:
            return moved
        if current is not None:
            self._remove(residence, current, moved)
        if number is not None:
            self._insert(residence, number, moved)
        return moved

    def first(self, network_id: str) -> int:
        """Number of the first host to flood to, 0: there is none."""
        hosts = self._lists.get(network_id)
        return hosts[0][0] if hosts else 0

    def successor(self, residence: Residence) -> int:
        """Number of the host after this one, 0: it is the last. It must be in a list."""
        hosts = self._lists[residence.network_id]
        place = bisect_left(hosts, (self._numbers[residence], residence)) + 1
        return hosts[place][0] if place < len(hosts) else 0

    def _insert(self, residence: Residence, number: int, moved: Moved) -> None:
        hosts = self._lists.setdefault(residence.network_id, [])
        self._numbers[residence] = number
        insort(hosts, (number, residence))
        moved.residences.add(residence)
        self._note_before(bisect_left(hosts, (number, residence)), residence.network_id, moved)

    def _remove(self, residence: Residence, number: int, moved: Moved) -> None:
        hosts = self._lists[residence.network_id]
        place = bisect_left(hosts, (number, residence))
        del hosts[place]
        del self._numbers[residence]
        self._note_before(place, residence.network_id, moved)
        if not hosts:
            del self._lists[residence.network_id]

    def _note_before(self, place: int, network_id: str, moved: Moved) -> None:
        """What points to this place of the list."""
        if place:
            moved.residences.add(self._lists[network_id][place - 1][1])
        else:
            moved.networks.add(network_id)
