"""Our program at the ingress of links, so that no guest talks to the host itself.

One filter guards all links of a host: it stands in a block that their ingress
qdiscs share. The kernel looks for each new block of its own in a list of all
there are, about 1 ms of CPU time for a link among 10,000; and a program is
replaced for all links at one stroke.

A block comes with its first qdisc and goes with its last. One without our filter
guards nothing: a link may be up only after ``ensure`` or ``restore`` said so.
"""

from __future__ import annotations

import errno
import os
import zlib
from collections.abc import Iterable, Sequence

from heddle.applier import filters
from heddle.applier.netlink import Netlink
from heddle.datapath.loader import Datapath
from heddle.errors import KernelError

_OUR_BLOCKS = 0x68 << 24  # "h", and what follows from the host's name


class Guard:
    """The guard of the links in the network namespace of the socket."""

    def __init__(self, netlink: Netlink, datapath: Datapath) -> None:
        self.block = _block_of(datapath.host)
        self._netlink = netlink
        self._program = datapath.from_vm.id
        self._options = filters.bpf_options(datapath.from_vm.fd, datapath.from_vm.name)

    def bind(self, indexes: Sequence[int]) -> list[OSError | None]:
        """Give links without anything at their ingress a qdisc with our block."""
        return self._netlink.batch([filters.add_ingress(index, self.block) for index in indexes])

    def ensure(self) -> OSError | None:
        """Make sure that our filter is in the block, which there must be. Written
        only where it is not: each time would tell of a change of all links."""
        body = self._netlink.read([filters.get_from_block(self.block)])[0]
        if isinstance(body, bytes) and self._is_right(body):
            return None
        return self._netlink.batch([filters.attach_to_block(self.block, self._options)])[0]

    def guarded(self, indexes: Iterable[int]) -> set[int]:
        """Those at whose ingress our program stands."""
        return {index for index in indexes if any(map(self._is_right, self._filters(index)))}

    def restore(self, indexes: Sequence[int]) -> dict[int, OSError]:
        """Guard links that are not, whatever has become of their ingress, and
        with as short a gap as that allows; returns why some are not yet."""
        self.bind(indexes)
        self.ensure()
        left = self._unguarded(indexes)  # their qdiscs have filters of their own
        self._netlink.batch([filters.attach(index, self._options) for index in left])
        left = self._unguarded(left)  # they share somebody else's block
        self._netlink.batch([filters.remove_ingress(index) for index in left])
        errors = dict(zip(left, self.bind(left), strict=True))
        in_block = self.ensure() if left else None
        unknown = OSError(errno.EIO, os.strerror(errno.EIO))
        return {index: errors[index] or in_block or unknown for index in self._unguarded(left)}

    def _unguarded(self, indexes: Sequence[int]) -> list[int]:
        guarded = self.guarded(indexes)
        return [index for index in indexes if index not in guarded]

    def _filters(self, index: int) -> list[bytes]:
        """None where the link has gone meanwhile."""
        try:
            return self._netlink.dump(filters.get_all(index))
        except KernelError:
            return []

    def _is_right(self, body: bytes) -> bool:
        found = filters.parse(body)
        return found.is_ours and found.program_id == self._program and found.direct_action


def _block_of(host: str) -> int:
    """A number of its own for each of several hosts in one network namespace."""
    return _OUR_BLOCKS | zlib.crc32(host.encode()) & 0xFFFFFF
