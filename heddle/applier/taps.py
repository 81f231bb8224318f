"""Makes TAPs, many at a time: marked, guarded and silent before they are kept.

Imports little, since a process of its own uses it too (tap_process.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from heddle.applier import filters, links, tap
from heddle.applier.netlink import Netlink, Request
from heddle.applier.sysctl import disable_ipv6

# TAPs made in one go, each of which has a descriptor open meanwhile: well
# below the usual limit of 1024, and enough to spread the cost of system calls.
LOT = 256
_DESCRIPTORS_FOR_OTHERS = 512


class Tap(NamedTuple):
    """What a TAP is made from."""

    name: str
    alias: str
    mtu: int
    multiqueue: bool


def write_order(taps: Sequence[Tap]) -> bytes:
    """A line for tap_process.py."""
    return json.dumps(taps).encode() + b"\n"


def read_order(line: bytes) -> list[Tap]:
    """Raises json.JSONDecodeError for half a line."""
    return [Tap(*fields) for fields in json.loads(line)]


class NewLink(Protocol):
    """What a new link of any kind is furnished from."""

    @property
    def name(self) -> str: ...
    @property
    def alias(self) -> str: ...
    @property
    def mtu(self) -> int: ...


class Lot(NamedTuple):
    """What has come of a lot: ifindexes and errors by name, and descriptors that
    keep others out until they are closed."""

    indexes: dict[str, int]
    failures: dict[str, OSError]
    descriptors: list[int]


class Furnisher:
    """Gives new links what each must have before it may stay, in the network
    namespace of the socket. ``block`` is where the filter of all stands."""

    def __init__(self, netlink: Netlink, block: int) -> None:
        self._netlink = netlink
        self._block = block
        self._control = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def close(self) -> None:
        self._control.close()

    def make_taps(self, wanted: Iterable[Tap]) -> Lot:
        """TAPs are kept only when they bear our mark: dying before leaves nothing."""
        with contextlib.ExitStack() as opened:
            lot = Lot({}, {}, [])
            new: list[tuple[Tap, int]] = []
            descriptors: dict[str, int] = {}
            for each in wanted:
                try:
                    descriptors[each.name] = tap.create(each.name, multiqueue=each.multiqueue)
                except OSError as error:
                    lot.failures[each.name] = error
                    continue
                opened.callback(os.close, descriptors[each.name])
                new.append((each, self.index_of(each.name)))
            lot.failures.update(self.furnish(new, have_queues=True))
            for each, index in new:
                if each.name not in lot.failures:
                    tap.keep(descriptors[each.name])
                    lot.indexes[each.name] = index
            lot.descriptors.extend(descriptors.values())
            opened.pop_all()
            return lot

    def furnish(
        self, new: Sequence[tuple[NewLink, int]], *, have_queues: bool
    ) -> dict[str, OSError]:
        """Mark links, give them their qdiscs, and keep the host's own IPv6 off;
        returns why that failed, by name."""
        indexes = [index for _, index in new]
        failures: dict[str, OSError] = {}

        def carry_out(requests: Sequence[Request]) -> None:
            for (link, _), error in zip(new, self._netlink.batch(requests), strict=True):
                if error is not None:
                    failures.setdefault(link.name, error)

        carry_out([links.adopt(index, link.alias, link.mtu) for link, index in new])
        if have_queues:
            carry_out([filters.remove_queue(index) for index in indexes])
        carry_out([filters.add_ingress(index, self._block) for index in indexes])
        for link, _ in new:
            error = silence(link.name)
            if error is not None:
                failures.setdefault(link.name, error)
        return failures

    def index_of(self, name: str) -> int:
        return tap.index_of(name, self._control)


def silence(name: str) -> OSError | None:
    """Keep the host's own IPv6 off a link; returns why that failed."""
    try:
        disable_ipv6(name)
    except OSError as error:
        return OSError(error.errno, f"turn IPv6 off: {error.strerror}")
    return None


def room_for_descriptors() -> int:
    """How many may be open at once, after asking for as many as are allowed."""
    _, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, allowed))
    return allowed - _DESCRIPTORS_FOR_OTHERS


def close_all(descriptors: Iterable[int]) -> None:
    """Let others open the TAPs. Each waits for an RCU grace period."""
    for descriptor in descriptors:
        os.close(descriptor)
