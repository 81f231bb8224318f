"""Makes links: TAPs by ioctl, veths by netlink, both marked and guarded."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
import threading
from collections.abc import Iterator, Sequence

from heddle.applier import filters, links, namespaces, tap
from heddle.applier.guard import Guard
from heddle.applier.kernel import Made
from heddle.applier.netlink import Netlink, Request
from heddle.applier.sysctl import disable_ipv6
from heddle.compiler.state import Link
from heddle.errors import KernelError

# Links made in one go, each of which has a descriptor open meanwhile: well
# below the usual limit of 1024, and enough to spread the cost of system calls.
_AT_ONCE = 256
_DESCRIPTORS_FOR_OTHERS = 512

_New = list[tuple[Link, int]]  # links that are there, with their ifindexes


class LinkMaker:
    """Makes links in the network namespace of the socket."""

    def __init__(self, netlink: Netlink, guard: Guard) -> None:
        self._netlink = netlink
        self._guard = guard
        self._control = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._closing: threading.Thread | None = None

    def close(self) -> None:
        self.settle()
        self._control.close()

    def make(self, wanted: Sequence[Link]) -> Made:
        """Make links; many TAPs can be opened by others only after ``settle``."""
        self.settle()
        made = Made({}, {})
        self._make_all_taps([link for link in wanted if not link.is_veth], made)
        for part in _portions([link for link in wanted if link.is_veth]):
            self._make_veths(part, made)
        self._set_guard(made)
        return made

    def settle(self) -> None:
        """Wait until the descriptors of new TAPs are closed."""
        if self._closing is not None:
            self._closing.join()
            self._closing = None

    def _set_guard(self, made: Made) -> None:
        """One filter for all that were made; without it they do not stay. After
        the qdiscs: one that finds a filter in its block waits for an RCU grace
        period (mini_qdisc_pair_swap), and all of them only for one."""
        error = self._guard.ensure() if made.indexes else None
        if error is not None:
            self._netlink.batch([links.delete(index) for index in made.indexes.values()])
            made.failures |= {name: f"link {name}: {error.strerror}" for name in made.indexes}
            made.indexes.clear()

    def _make_all_taps(self, wanted: Sequence[Link], made: Made) -> None:
        """To close a TAP is to wait for an RCU grace period. When they are many
        a thread does it, while the caller goes on to pack and write rows."""
        room = _room_for_descriptors() if len(wanted) > _AT_ONCE else 0
        opened: list[int] = []
        try:
            for part in _portions(wanted):
                opened += self._make_taps(part, made)
                if len(opened) + _AT_ONCE > room:
                    _close_all(opened)
                    opened = []
        finally:
            if opened:
                self._closing = threading.Thread(target=_close_all, args=(opened,), name="taps")
                self._closing.start()

    def _make_taps(self, wanted: Sequence[Link], made: Made) -> list[int]:
        """TAPs are kept only when they bear our mark: dying before leaves nothing.
        Returns descriptors to be closed."""
        with contextlib.ExitStack() as opened:
            new: _New = []
            descriptors: dict[str, int] = {}
            for link in wanted:
                try:
                    descriptor = tap.create(link.name, multiqueue=link.multiqueue)
                except OSError as error:
                    made.failures[link.name] = _cannot_make(link, error)
                    continue
                opened.callback(os.close, descriptor)
                descriptors[link.name] = descriptor
                new.append((link, self._index_of(link)))
            self._furnish(new, made)
            for link, _ in new:
                if link.name in made.indexes:
                    tap.keep(descriptors[link.name])
            opened.pop_all()
            return list(descriptors.values())

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
        new: _New = []
        for (link, _), refusal in zip(requests, refusals, strict=True):
            if refusal is None:
                new.append((link, self._index_of(link)))
            else:
                made.failures[link.name] = _cannot_make(link, refusal)
        self._furnish(new, made)
        self._netlink.batch([links.delete(i) for link, i in new if link.name in made.failures])

    def _furnish(self, new: _New, made: Made) -> None:
        """Mark new links and give them their qdiscs."""
        taps = [(link, index) for link, index in new if not link.is_veth]
        batch = self._netlink.batch
        steps = (
            (new, batch([links.adopt(index, link.alias, link.mtu) for link, index in new])),
            (taps, batch([filters.remove_queue(index) for _, index in taps])),
            (new, self._guard.bind([index for _, index in new])),
        )
        for concerned, errors in steps:
            for (link, _), error in zip(concerned, errors, strict=True):
                if error is not None:
                    made.failures.setdefault(link.name, f"link {link.name}: {error.strerror}")
        for link, index in new:
            self._conclude(link, index, made)

    def _conclude(self, link: Link, index: int, made: Made) -> None:
        if link.name in made.failures:
            return
        reason = silence(link)
        if reason is None:
            made.indexes[link.name] = index
        else:
            made.failures[link.name] = f"link {link.name}: {reason}"

    def _index_of(self, link: Link) -> int:
        return tap.index_of(link.name, self._control)


def silence(link: Link) -> str | None:
    """Keep the host's own IPv6 off a link; returns why that failed."""
    try:
        disable_ipv6(link.name)
    except OSError as error:
        return f"turn IPv6 off: {error.strerror}"
    return None


def _room_for_descriptors() -> int:
    """How many may be open at once, after asking for as many as are allowed."""
    _, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, allowed))
    return allowed - _DESCRIPTORS_FOR_OTHERS


def _close_all(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _portions(wanted: Sequence[Link]) -> Iterator[Sequence[Link]]:
    for start in range(0, len(wanted), _AT_ONCE):
        yield wanted[start : start + _AT_ONCE]


def _veth(link: Link, namespace_fd: int) -> Request:
    return links.create_veth(
        link.name, link.mtu, link.peer or "", link.peer_mac or "", namespace_fd
    )


def _cannot_make(link: Link, error: OSError) -> str:
    if error.errno in (errno.EBUSY, errno.EEXIST):
        inside = f" (or {link.peer} in namespace {link.namespace})" if link.is_veth else ""
        return (
            f"link {link.name}: a link of the name{inside} exists and is not heddle's: "
            f"remove it (`ip link delete {link.name}`)"
        )
    return f"link {link.name}: {error.strerror}"
