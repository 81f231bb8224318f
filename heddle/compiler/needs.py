"""Which networks this host needs, and which other hosts are in those: of the rest
it holds nothing, however large the cluster is.

A network is needed that has a port here, and each that routers join to such: this
host routes for its ports as far as they can reach.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from heddle.compiler.joins import Joins
from heddle.compiler.questions import ANY_PEER, FLOOD_GROUPS, Question, is_needed, is_peer, resides
from heddle.compiler.roles import role_of
from heddle.intent.model import AnyResource, Network, Port, Router


class Residence(NamedTuple):
    """Another host has a port in the network, or is a foreign member of it: it
    must be sent what is flooded there."""

    network_id: str
    host: str


class Needs:
    """Everything is counted, so that a port costs the same among ten thousand."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._joins = Joins()
        self._ports: dict[str, int] = {}  # by network, that are here
        self._needed: set[str] = set()
        self._residents: dict[str, dict[str, int]] = {}  # by network: host -> reasons
        self._peers: dict[str, int] = {}  # by host: needed networks that it is in
        self._groups: dict[str, str] = {}  # by network, needed or not
        self._group_uses: dict[str, int] = {}  # by group: needed networks

    # ---- answers ---------------------------------------------------------

    def is_needed(self, network_id: str) -> bool:
        return network_id in self._needed

    def is_peer(self, host: str) -> bool:
        """Whether another host is in a network that this one needs."""
        return host in self._peers

    def has_peers(self) -> bool:
        return bool(self._peers)

    def resides(self, residence: Residence) -> bool:
        return residence.host in self._residents.get(residence.network_id, ())

    def flood_groups(self) -> tuple[str, ...]:
        """Of the needed networks, sorted."""
        return tuple(sorted(self._group_uses))

    # ---- changes ---------------------------------------------------------

    def replace(self, old: AnyResource | None, new: AnyResource | None) -> set[Question]:
        """Returns the questions whose answer changed, and maybe some more."""
        return set(self._replace(old, new))

    def _replace(self, old: AnyResource | None, new: AnyResource | None) -> Iterator[Question]:
        match new or old:
            case Port():
                yield from self._replace_residences(old, new)
                yield from self._replace_local(self._local(old), self._local(new))
            case Network() as network:
                yield from self._replace_residences(old, new)
                yield from self._replace_group(network.id, _group(old), _group(new))
            case Router():
                yield from self._replace_router(
                    old if isinstance(old, Router) else None,
                    new if isinstance(new, Router) else None,
                )

    def _replace_residences(
        self, old: AnyResource | None, new: AnyResource | None
    ) -> Iterator[Question]:
        """What is new comes first, so that who stays is there all the time."""
        before, after = set(self._residences(old)), set(self._residences(new))
        for residence in after - before:
            residents = self._residents.setdefault(residence.network_id, {})
            if _add_one(residents, residence.host):
                yield resides(*residence)
                if residence.network_id in self._needed:
                    yield from self._add_peer(residence.host)
        for residence in before - after:
            residents = self._residents[residence.network_id]
            if _drop_one(residents, residence.host):
                yield resides(*residence)
                if residence.network_id in self._needed:
                    yield from self._drop_peer(residence.host)
            if not residents:
                del self._residents[residence.network_id]

    def _residences(self, resource: AnyResource | None) -> Iterator[Residence]:
        """A port that is being moved is in two places: what is flooded waits for it
        where it will be."""
        match resource:
            case Port():
                for host in {resource.host, resource.migrating_to} - {"", self._host}:
                    yield Residence(resource.network_id, host)
            case Network():
                for host in {member.host for member in resource.foreign_members} - {self._host}:
                    yield Residence(resource.id, host)

    def _local(self, resource: AnyResource | None) -> str | None:
        """The network in which it is a port of this host."""
        if isinstance(resource, Port) and role_of(resource, self._host) is not None:
            return resource.network_id
        return None

    def _replace_local(self, before: str | None, after: str | None) -> Iterator[Question]:
        if before == after:
            return
        if after is not None and _add_one(self._ports, after):
            yield from self._judge(self._joins.joined_to(after))
        if before is not None and _drop_one(self._ports, before):
            yield from self._judge(self._joins.joined_to(before))

    def _replace_router(self, old: Router | None, new: Router | None) -> Iterator[Question]:
        interfaces = (i for router in (old, new) if router for i in router.interfaces)
        ends = {interface.network_id for interface in interfaces}
        before = self._joined_to(ends)
        self._joins.replace(old, new)
        yield from self._judge(before | self._joined_to(ends))

    def _joined_to(self, network_ids: Iterable[str]) -> set[str]:
        return set().union(*map(self._joins.joined_to, network_ids))

    def _judge(self, networks: Iterable[str]) -> Iterator[Question]:
        """Decide anew which of them are needed."""
        left = set(networks)
        while left:
            joined = self._joins.joined_to(left.pop())
            left -= joined
            needed = not self._ports.keys().isdisjoint(joined)
            for network_id in joined:
                if needed != (network_id in self._needed):
                    yield from self._turn(network_id, needed)

    def _turn(self, network_id: str, needed: bool) -> Iterator[Question]:
        yield is_needed(network_id)
        (self._needed.add if needed else self._needed.remove)(network_id)
        for host in self._residents.get(network_id, ()):
            yield from self._add_peer(host) if needed else self._drop_peer(host)
        group = self._groups.get(network_id)
        if group is not None:
            yield from self._add_group(group) if needed else self._drop_group(group)

    def _replace_group(
        self, network_id: str, before: str | None, after: str | None
    ) -> Iterator[Question]:
        if before == after:
            return
        self._groups.pop(network_id, None)
        if after is not None:
            self._groups[network_id] = after
        if network_id in self._needed:
            if after is not None:
                yield from self._add_group(after)
            if before is not None:
                yield from self._drop_group(before)

    def _add_group(self, group: str) -> Iterator[Question]:
        if _add_one(self._group_uses, group):
            yield FLOOD_GROUPS

    def _drop_group(self, group: str) -> Iterator[Question]:
        if _drop_one(self._group_uses, group):
            yield FLOOD_GROUPS

    def _add_peer(self, host: str) -> Iterator[Question]:
        if _add_one(self._peers, host):
            yield is_peer(host)
            yield ANY_PEER

    def _drop_peer(self, host: str) -> Iterator[Question]:
        if _drop_one(self._peers, host):
            yield is_peer(host)
            yield ANY_PEER


def _group(resource: AnyResource | None) -> str | None:
    return resource.flood_group if isinstance(resource, Network) else None


def _add_one(counts: dict[str, int], key: str) -> bool:
    """Returns whether that was the first one."""
    counts[key] = counts.get(key, 0) + 1
    return counts[key] == 1


def _drop_one(counts: dict[str, int], key: str) -> bool:
    """Returns whether that was the last one."""
    counts[key] -= 1
    if counts[key]:
        return False
    del counts[key]
    return True
