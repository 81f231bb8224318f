"""Makes links: TAPs by ioctl, veths by netlink, both marked and guarded."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from heddle.applier import links, namespaces
from heddle.applier.ahead import Ahead
from heddle.applier.guard import Guard
from heddle.applier.kernel import Made
from heddle.applier.netlink import Netlink, Request
from heddle.applier.taps import LOT, Furnisher, Tap, close_all
from heddle.compiler.state import Link
from heddle.errors import KernelError

T = TypeVar("T")


class LinkMaker:
    """Makes links in the network namespace of the socket."""

    def __init__(self, netlink: Netlink, guard: Guard) -> None:
        self._netlink = netlink
        self._guard = guard
        self._furnisher = Furnisher(netlink, guard.block)
        self._ahead = Ahead(guard.block)

    def close(self) -> None:
        self.conclude()
        self._furnisher.close()

    def foresee(self, link: Link) -> None:
        """A TAP that ``make`` is going to be asked for; many are begun at once."""
        self._ahead.foresee(_tap_of(link))

    def make(self, wanted: Sequence[Link]) -> Made:
        """Make links; many TAPs can be opened by others only after ``settle``."""
        made = Made({}, {})
        taps = {link.name: _tap_of(link) for link in wanted if not link.is_veth}
        self._take_over(self._ahead.collect(), taps, made)
        left = [tap for name, tap in taps.items() if name not in made.indexes]
        self._netlink.batch([links.delete(index) for index in self._left_behind(left)])
        self._make_taps(left, made)
        for part in _portions([link for link in wanted if link.is_veth]):
            self._make_veths(part, made)
        self._set_guard(made)
        return made

    def conclude(self) -> None:
        """Wait for what was foreseen, and leave it as it is."""
        self._ahead.collect()
        self.settle()

    def settle(self) -> None:
        """Wait until others can open all that was made."""
        self._ahead.settle()

    def _take_over(self, begun: Mapping[Tap, int], wanted: Mapping[str, Tap], made: Made) -> None:
        """Use what was made ahead as foreseen; what was not made is tried again by
        the caller, who tells why it fails."""
        useless: list[int] = []
        for tap, index in begun.items():
            asked = wanted.get(tap.name)
            if index and asked == tap:
                made.indexes[asked.name] = index  # a name that is kept anyway
            elif index:
                useless.append(index)
        self._netlink.batch([links.delete(index) for index in useless])

    def _left_behind(self, taps: Iterable[Tap]) -> Iterator[int]:
        """ifindexes of those that are there, and nobody told us: made by a process
        that was killed, or that outlived the agent which it worked for."""
        for tap in taps:
            try:
                index = self._furnisher.index_of(tap.name)
            except OSError:
                continue
            body = self._netlink.read([links.get(index)])[0]
            if isinstance(body, bytes) and links.parse(body).alias == tap.alias:
                yield index

    def _set_guard(self, made: Made) -> None:
        """One filter for all that were made; without it they do not stay. After
        the qdiscs: one that finds a filter in its block waits for an RCU grace
        period (mini_qdisc_pair_swap), and all of them only for one."""
        error = self._guard.ensure() if made.indexes else None
        if error is not None:
            self._netlink.batch([links.delete(index) for index in made.indexes.values()])
            made.failures.update({name: f"link {name}: {error.strerror}" for name in made.indexes})
            made.indexes.clear()

    def _make_taps(self, wanted: Sequence[Tap], made: Made) -> None:
        for part in _portions(wanted):
            lot = self._furnisher.make_taps(part)
            close_all(lot.descriptors)
            made.indexes.update(lot.indexes)
            made.failures.update({n: _cannot_make(n, e) for n, e in lot.failures.items()})

    def _make_veths(self, wanted: Sequence[Link], made: Made) -> None:
        with contextlib.ExitStack() as opened:
            requests: list[tuple[Link, Request]] = []
            for link in wanted:
                try:
                    namespace = namespaces.descriptor(link.namespace or "")
                except KernelError as error:
                    made.failures[link.name] = f"link {link.name}: {error}"
                    continue
                opened.callback(os.close, namespace)
                requests.append((link, _veth(link, namespace)))
            refusals = self._netlink.batch([request for _, request in requests])
        new: list[tuple[Link, int]] = []
        for (link, _), refusal in zip(requests, refusals, strict=True):
            if refusal is None:
                new.append((link, self._furnisher.index_of(link.name)))
            else:
                made.failures[link.name] = _cannot_make(link.name, refusal, _peer_of(link))
        failures = self._furnisher.furnish(new, have_queues=False)
        made.failures.update({n: f"link {n}: {e.strerror}" for n, e in failures.items()})
        made.indexes.update({link.name: i for link, i in new if link.name not in failures})
        self._netlink.batch([links.delete(i) for link, i in new if link.name in failures])


def _tap_of(link: Link) -> Tap:
    return Tap(link.name, link.alias, link.mtu, link.multiqueue)


def _portions(wanted: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(wanted), LOT):
        yield wanted[start : start + LOT]


def _veth(link: Link, namespace_fd: int) -> Request:
    return links.create_veth(
        link.name, link.mtu, link.peer or "", link.peer_mac or "", namespace_fd
    )


def _peer_of(link: Link) -> str:
    return f" (or {link.peer} in namespace {link.namespace})"


def _cannot_make(name: str, error: OSError, peer: str = "") -> str:
    if error.errno in (errno.EBUSY, errno.EEXIST):
        return (
            f"link {name}: a link of the name{peer} exists and is not heddle's: "
            f"remove it (`ip link delete {name}`)"
        )
    return f"link {name}: {error.strerror}"
