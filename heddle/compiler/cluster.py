"""The hosts that there are, by name."""

from __future__ import annotations

from collections.abc import Iterator

from heddle.compiler.questions import ALL_HOSTS, Question, number_of_host
from heddle.intent.model import AnyResource, Host

SMALL = 64
"""Up to so many hosts each knows all others: any may relay for any."""


class Cluster:
    """``replace`` takes over hosts that take part."""

    def __init__(self) -> None:
        self._hosts: dict[str, Host] = {}

    def number(self, name: str) -> int | None:
        """None: no host has this name."""
        host = self._hosts.get(name)
        return host.number if host else None

    def is_small(self) -> bool:
        return len(self._hosts) <= SMALL

    def replace(self, old: AnyResource | None, new: AnyResource | None) -> set[Question]:
        """Returns the questions whose answer changed, and maybe some more."""
        return set(self._replace(old, new))

    def _replace(self, old: AnyResource | None, new: AnyResource | None) -> Iterator[Question]:
        was_small = self.is_small()
        # Of two objects that exchange a name the new one may come first.
        if isinstance(old, Host) and self._hosts.get(old.name) is old:
            del self._hosts[old.name]
            yield number_of_host(old.name)
        if isinstance(new, Host):
            self._hosts[new.name] = new
            yield number_of_host(new.name)
        if was_small != self.is_small():
            yield ALL_HOSTS
