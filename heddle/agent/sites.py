"""Which hosts this one may have to reach: from intent, and from the rows that the
compiler gave this host."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from heddle.compiler.state import HostDelta, TunnelNetworkRow
from heddle.intent.model import AnyResource, Detour, Host, Kind


class Site(NamedTuple):
    """A host of the overlay, as the underlay sees it."""

    name: str
    number: int
    vtep: str
    udp_port: int


class Sites:
    """Hosts by what is known of them; what changes is told to ``update``."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._hosts: dict[str, Host] = {}  # by id
        self._detours: dict[str, Detour] = {}
        self._rows: set[int] = set()  # numbers of hosts that this one has rows for
        self._mtus: dict[int, int] = {}  # of the networks here, by VNI

    def restart(self, objects: Mapping[Kind, Mapping[str, AnyResource]]) -> None:
        """Before a full delta: what there is now."""
        self._hosts.clear()
        self._detours.clear()
        self._rows.clear()
        self._mtus.clear()
        for kind in (Kind.HOST, Kind.DETOUR):
            for name, value in objects.get(kind, {}).items():
                self._replace(kind, name, value)

    def update(
        self, changes: Iterable[tuple[Kind, str, AnyResource | None]], delta: HostDelta
    ) -> bool:
        """Take over changes of intent and what they gave this host; return
        whether any of it is about other hosts."""
        concerned = False
        for kind, name, value in changes:
            if kind in (Kind.HOST, Kind.DETOUR):
                self._replace(kind, name, value)
                concerned = True
        for (table, key), row in delta.rows.items():
            if table == "vteps" and isinstance(key, int):
                (self._rows.discard if row is None else self._rows.add)(key)
                concerned = True
            elif table == "tunnel_networks" and isinstance(key, int):
                self._mtus.pop(key, None)
                if isinstance(row, TunnelNetworkRow):
                    self._mtus[key] = row.mtu
                concerned = True
        return concerned

    @property
    def me(self) -> Site | None:
        """This host; None while it has no part in the overlay."""
        found = (host for host in self._hosts.values() if host.name == self._host and host.vtep)
        return next(map(_site, found), None)

    @property
    def others(self) -> list[Site]:
        """Hosts with an agent that this one may send to."""
        return [
            _site(host)
            for host in self._hosts.values()
            if host.number in self._rows and host.name != self._host and not host.foreign
        ]

    @property
    def relays(self) -> dict[str, str]:
        """The relay that the topology names for each host: its own, or ours."""
        named = {detour.host: detour.relay for detour in self._detours.values()}
        ours = named.pop(self._host, None)
        if ours is not None:
            named = {**{site.name: ours for site in self.others if site.name != ours}, **named}
        return named

    @property
    def needed(self) -> int:
        """The largest MTU of a network that is here."""
        return max(self._mtus.values(), default=0)

    def _replace(self, kind: Kind, name: str, value: AnyResource | None) -> None:
        self._hosts.pop(name, None) if kind is Kind.HOST else self._detours.pop(name, None)
        if isinstance(value, Host):
            self._hosts[name] = value
        elif isinstance(value, Detour):
            self._detours[name] = value


def _site(host: Host) -> Site:
    return Site(host.name, host.number, host.vtep, host.udp_port)
