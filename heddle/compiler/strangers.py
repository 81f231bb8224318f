"""Hosts that ports or networks name, but of which there is no object."""

from __future__ import annotations

from collections.abc import Iterable

from heddle.compiler.index import Index
from heddle.compiler.questions import ANY_PEER, ObjectKey, Question, is_peer, number_of_host
from heddle.intent.model import Kind

_ABOUT = (is_peer("")[0], number_of_host("")[0])


class Strangers:
    """Those that this host ought to reach. Without any other host it needs no
    object of its own either."""

    def __init__(self, host: str, index: Index) -> None:
        self._host = host
        self._index = index
        self._names: set[str] = set()

    def look(self, changed: Iterable[Question]) -> None:
        """Take over questions whose answer changed."""
        for question in changed:
            if question == ANY_PEER:
                self._judge(self._host)
            elif question[0] in _ABOUT:
                self._judge(question[1])

    def _judge(self, name: str) -> None:
        needs = self._index.needs
        is_asked_for = needs.has_peers() if name == self._host else needs.is_peer(name)
        if is_asked_for and self._index.cluster.number(name) is None:
            self._names.add(name)
        else:
            self._names.discard(name)

    def errors(self) -> dict[ObjectKey, str]:
        return {(Kind.HOST, name): self._error(name) for name in sorted(self._names)}

    def _error(self, name: str) -> str:
        if name == self._host:
            return (
                f"host {name}: other hosts have ports in its networks, but it has no VTEP; set "
                "vtep in the [host] section of heddle.toml"
            )
        return (
            f"host {name}: has ports in networks of this host, but no VTEP; start its agent with "
            "vtep set in its heddle.toml"
        )
