"""Bandwidth in the Linux kernel: limits in front of devices, and the pair of
links through which goes what shaped ports send.

    frame from a port -> heddle-shape | HTB, a class per port | -> heddle-shaped
                                         -> from_vm -> where it was bound for
"""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import NamedTuple

from heddle.applier import links
from heddle.applier import shaping_messages as messages
from heddle.applier.guard import Guard
from heddle.applier.links import LinkInfo
from heddle.applier.netlink import Netlink, Request
from heddle.applier.shaping import DAMAGED, Allowance, ShaperFact, without_limit
from heddle.applier.shaping_messages import Found
from heddle.applier.sysctl import disable_ipv6
from heddle.errors import KernelError
from heddle.intent.names import SHAPED, SHAPER

ALIAS = "heddle:shaper"
# Larger than the MTU of any network, so that every frame fits.
_MTU = 9500

_HOST = 0xFFFF  # minor number of the class above those of the ports
_TO_VM_MAJOR = 0x6864  # of HTB in front of a device: our mark
_TO_VM_HANDLE = _TO_VM_MAJOR << 16
_TO_VM = 1  # minor number of its only class

# What waits in a class that is to go is let out first, for so long at most.
_DRAIN_SECONDS = 0.3
_DRAIN_PAUSE = 0.002

_NO_QUEUE = ("noqueue", "noop")  # the latter of what was never up
_Qdiscs = dict[int, Found]  # of one device, by handle


class Bandwidth:
    """Reads and writes by a netlink socket. ``major``: number of the shaper's
    qdisc, whose classes the data plane names."""

    def __init__(self, netlink: Netlink, guard: Guard, major: int) -> None:
        self._netlink = netlink
        self._guard = guard
        self._handle = major << 16

    # ---- limits of what devices are given --------------------------------

    def limits(self, infos: Iterable[LinkInfo]) -> dict[int, Allowance]:
        """Our limits by ifindex; DAMAGED where somebody else's queue stands. Asks
        nothing where there can be none."""
        queues = {info.ifindex: info.qdisc for info in infos if info.qdisc not in _NO_QUEUE}
        shaped = [index for index, kind in queues.items() if kind == "htb"]
        found = dict.fromkeys(queues, DAMAGED)
        for index, qdiscs in self._qdiscs(shaped).items():
            if _TO_VM_HANDLE in qdiscs:
                found[index] = self._limit(index, qdiscs)
        return found

    def set_limits(self, wanted: Mapping[int, Allowance | None]) -> dict[int, str]:
        """Make, change or (None) remove devices' limits, by ifindex; returns failures."""
        requests: list[tuple[int, Request]] = []
        limited = [index for index, allowance in wanted.items() if allowance is not None]
        for index, qdiscs in self._qdiscs(limited).items():
            requests += [(index, request) for request in _root_requests(index, qdiscs)]
        for index, allowance in wanted.items():
            if allowance is None:
                self._drain(index, _TO_VM_HANDLE, [_TO_VM], parent=0)
                requests.append((index, messages.remove_root(index)))
            else:
                parts = [messages.put_class(index, _TO_VM_HANDLE, 0, _TO_VM, allowance)]
                parts += messages.put_queue(index, _TO_VM_HANDLE, _TO_VM, allowance)
                requests += [(index, part) for part in parts]
        return self._failures(requests)

    def _limit(self, index: int, qdiscs: _Qdiscs) -> Allowance:
        if not _has_root(qdiscs, _TO_VM_HANDLE, _TO_VM):
            return DAMAGED
        classes = self._classes(index, _TO_VM_HANDLE)
        if classes.keys() != {_TO_VM}:
            return DAMAGED
        return _allowance(classes[_TO_VM], qdiscs)

    # ---- the pair --------------------------------------------------------

    def read_shaper(self, host: Allowance) -> ShaperFact | None:
        """The pair under a wanted class for the whole host; None: it is not there."""
        ends = self._ends()
        if ends is None:
            return None
        shaper, shaped = ends
        indexes = (shaper.ifindex, shaped.ifindex)
        qdiscs = self._qdiscs([shaper.ifindex])[shaper.ifindex]
        if not _has_root(qdiscs, self._handle, 0):
            return ShaperFact(indexes, False, {})
        classes = self._classes(shaper.ifindex, self._handle)
        above = classes.pop(_HOST, None)
        whole = above is not None and messages.bare_allowance(above) == host._replace(queue=0)
        return ShaperFact(
            indexes,
            whole and self._is_right(ends),
            {minor: self._of_port(found, qdiscs) for minor, found in classes.items()},
        )

    def make_shaper(self, host: Allowance) -> ShaperFact:
        """Make or mend the pair, and tell what it is then. KernelError."""
        ends = self._ends()
        if ends is None:
            self._remove_ours()
            self._carry_out([links.create_pair(SHAPER, SHAPED, _MTU)])
            ends = self._ends()
        if ends is None:
            raise KernelError(f"link {SHAPER} went as it was made")
        shaper, shaped = (end.ifindex for end in ends)
        self._carry_out([links.adopt(index, ALIAS, _MTU) for index in (shaper, shaped)])
        _silence()
        self._restore_guard(shaped)
        self._carry_out([links.change(index, up=True) for index in (shaped, shaper)])
        if not _has_root(self._qdiscs([shaper])[shaper], self._handle, 0):
            self._carry_out(
                [messages.remove_root(shaper), messages.add_root(shaper, self._handle, 0)]
            )
        self._carry_out([messages.put_class(shaper, self._handle, 0, _HOST, host)])
        found = self.read_shaper(host)
        if found is None or not found.whole:
            raise KernelError(f"link {SHAPER} was altered as it was made")
        return found

    def _restore_guard(self, shaped: int) -> None:
        """Without our program what comes out would reach the host itself."""
        for error in self._guard.restore([shaped]).values():
            self._netlink.batch([links.change(shaped, up=False)])
            raise KernelError(f"link {SHAPED}: {error.strerror}") from error

    def remove_shaper(self, index: int, minors: Sequence[int]) -> None:
        """Remove the pair when what waits in classes has left. KernelError."""
        self._drain(index, self._handle, minors, parent=_HOST)
        self._remove_ours()

    def put_allowances(
        self, index: int, wanted: Mapping[int, Allowance], damaged: Set[int]
    ) -> dict[int, str]:
        """Make or change classes of ports, by minor number; those that
        are damaged anew. Returns failures."""
        requests: list[tuple[int, Request]] = []
        for minor, allowance in wanted.items():
            if minor in damaged:
                requests.append((minor, messages.delete_class(index, self._handle | minor)))
            requests.append(
                (minor, messages.put_class(index, self._handle, _HOST, minor, allowance))
            )
            requests += [
                (minor, part) for part in messages.put_queue(index, self._handle, minor, allowance)
            ]
        return self._failures(requests)

    def drop_allowances(self, index: int, minors: Sequence[int]) -> dict[int, str]:
        """Remove classes once what waits in them has left; returns failures."""
        self._drain(index, self._handle, minors, parent=_HOST)
        errors = self._netlink.batch(
            [messages.delete_class(index, self._handle | minor) for minor in minors]
        )
        return {
            minor: _in_words(error)
            for minor, error in zip(minors, errors, strict=True)
            if error is not None and error.errno not in (errno.ENOENT, errno.ENODEV)
        }

    def _of_port(self, found: Found, qdiscs: _Qdiscs) -> Allowance:
        return _allowance(found, qdiscs) if found.parent == self._handle | _HOST else DAMAGED

    def _ends(self) -> tuple[LinkInfo, LinkInfo] | None:
        """Both, if they are ours and belong together. KernelError when one is
        somebody else's."""
        ends = [self._named(name) for name in (SHAPER, SHAPED)]
        for name, end in zip((SHAPER, SHAPED), ends, strict=True):
            if end is not None and not _is_ours(end):
                raise KernelError(
                    f"link {name} exists and is not heddle's: remove it (`ip link delete {name}`)"
                )
        shaper, shaped = ends
        if shaper is None or shaped is None or shaper.peer != shaped.ifindex:
            return None
        return shaper, shaped

    def _named(self, name: str) -> LinkInfo | None:
        try:
            index = socket.if_nametoindex(name)
        except OSError:
            return None
        body = self._netlink.read([links.get(index)])[0]
        return links.parse(body) if isinstance(body, bytes) else None

    def _is_right(self, ends: tuple[LinkInfo, LinkInfo]) -> bool:
        shaped = ends[1].ifindex
        return shaped in self._guard.guarded([shaped]) and all(
            end.up and end.mtu == _MTU and end.alias == ALIAS for end in ends
        )

    def _remove_ours(self) -> None:
        for name in (SHAPER, SHAPED):
            end = self._named(name)
            if end is not None and _is_ours(end):
                self._carry_out([links.delete(end.ifindex)], tolerated=errno.ENODEV)

    # ---- inside ----------------------------------------------------------

    def _qdiscs(self, indexes: Sequence[int]) -> dict[int, _Qdiscs]:
        """Those of some devices."""
        found: dict[int, _Qdiscs] = {index: {} for index in indexes}
        if indexes:
            for body in self._netlink.dump(messages.get_qdiscs()):
                of_device = found.get(messages.index_of(body))
                if of_device is not None:
                    qdisc = messages.parse(body)
                    of_device[qdisc.handle] = qdisc
        return found

    def _classes(self, index: int, handle: int) -> dict[int, Found]:
        """By minor number."""
        bodies = self._netlink.dump(messages.get_classes(index, handle))
        found = (messages.parse(body) for body in bodies)
        return {each.handle & 0xFFFF: each for each in found if each.handle >> 16 == handle >> 16}

    def _drain(self, index: int, handle: int, minors: Sequence[int], parent: int) -> None:
        """Let out what waits in classes."""
        classes = self._waiting(index, handle, minors)
        free = without_limit()
        self._netlink.batch(
            [messages.put_class(index, handle, parent, minor, free) for minor in classes]
        )
        deadline = time.monotonic() + _DRAIN_SECONDS
        while classes and time.monotonic() < deadline:
            time.sleep(_DRAIN_PAUSE)
            classes = self._waiting(index, handle, classes)

    def _waiting(self, index: int, handle: int, minors: Sequence[int]) -> list[int]:
        """Those in which packets wait."""
        classes = self._classes(index, handle)
        return [minor for minor in minors if minor in classes and classes[minor].queued]

    def _failures(self, requests: Sequence[tuple[int, Request]]) -> dict[int, str]:
        """Carry out requests for numbered things; the first failure of each."""
        failures: dict[int, str] = {}
        errors = self._netlink.batch([request for _, request in requests])
        for (number, _), error in zip(requests, errors, strict=True):
            if error is not None:
                failures.setdefault(number, _in_words(error))
        return failures

    def _carry_out(self, requests: Sequence[Request], tolerated: int = 0) -> None:
        """KernelError when one fails, unless with that error number."""
        for error in self._netlink.batch(requests):
            if error is not None and error.errno != tolerated:
                raise KernelError(f"link {SHAPER}: {_in_words(error)}") from error


class QueueDrops(NamedTuple):
    """Packets that found the queue of a limit full."""

    from_vm: dict[int, int]  # by minor number of the port's class
    to_vm: dict[int, int]  # by ifindex


def read_queue_drops(major: int) -> QueueDrops:
    """All of this network namespace. KernelError when the kernel can't be asked."""
    netlink = Netlink()
    try:
        bodies = netlink.dump(messages.get_qdiscs())
    finally:
        netlink.close()
    try:
        shaper = socket.if_nametoindex(SHAPER)
    except OSError:
        shaper = 0
    drops = QueueDrops({}, {})
    for body in bodies:
        index = messages.index_of(body)
        found = messages.dropped_of_queue(body, major if index == shaper else _TO_VM_MAJOR)
        if found is not None and index == shaper:
            drops.from_vm[found[0]] = found[1]
        elif found is not None:
            drops.to_vm[index] = found[1]
    return drops


def is_of_pair(info: LinkInfo) -> bool:
    """Whether a link that bears our mark is an end of the pair."""
    return info.name in (SHAPER, SHAPED)


def _is_ours(info: LinkInfo) -> bool:
    return info.alias == ALIAS or info.group == links.GROUP


def _has_root(qdiscs: _Qdiscs, handle: int, default: int) -> bool:
    return handle in qdiscs and messages.is_our_root(qdiscs[handle], handle, default)


def _root_requests(index: int, qdiscs: _Qdiscs) -> list[Request]:
    """What puts our HTB in front of a device, in place of whatever is there."""
    if _has_root(qdiscs, _TO_VM_HANDLE, _TO_VM):
        return []
    add = messages.add_root(index, _TO_VM_HANDLE, _TO_VM)
    if any(found.parent == messages.ROOT and found.handle for found in qdiscs.values()):
        return [messages.remove_root(index), add]
    return [add]


def _allowance(found: Found, qdiscs: _Qdiscs) -> Allowance:
    minor = found.handle & 0xFFFF
    handles = (messages.cutter_handle(minor), messages.fifo_handle(minor))
    if found.leaf != handles[0]:
        return DAMAGED
    queue = [qdiscs[handle] for handle in handles if handle in qdiscs]
    return messages.allowance(found, queue) or DAMAGED


def _silence() -> None:
    for name in (SHAPER, SHAPED):
        try:
            disable_ipv6(name)
        except OSError as error:
            raise KernelError(f"link {name}: turn IPv6 off: {error.strerror}") from error


def _in_words(error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return "limit of bandwidth: this kernel lacks HTB or TBF; see `heddle doctor`"
    return f"limit of bandwidth: {error.strerror}"
