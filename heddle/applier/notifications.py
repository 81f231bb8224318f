"""What the kernel tells, unasked, about links, qdiscs and filters."""

from __future__ import annotations

import errno
import socket
import struct

from heddle.applier.filters import changed_block
from heddle.applier.netlink import split, widen

_NETLINK_ROUTE = 0
_RTMGRP_LINK = 1 << 0  # RTNLGRP_LINK is 1, as a bit
_RTMGRP_TC = 1 << 3  # RTNLGRP_TC is 4
_LINK_MESSAGES = range(16, 20)
_TRAFFIC_MESSAGES = range(36, 48)
_FILTER_MESSAGES = range(44, 48)
_INDEX = struct.Struct("=4xi")  # in struct ifinfomsg and struct tcmsg alike
_DATAGRAM = 1 << 16


class Notifications:
    """Which links were touched, by whomever. ``block``: the one that they share."""

    def __init__(self, block: int) -> None:
        self._block = block
        self._socket = socket.socket(
            socket.AF_NETLINK,
            socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK,
            _NETLINK_ROUTE,
        )
        widen(self._socket)
        self._socket.bind((0, _RTMGRP_LINK | _RTMGRP_TC))

    def close(self) -> None:
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def indexes(self) -> set[int] | None:
        """ifindexes named since the last call; None when it may be all: some
        messages got lost, or a filter in the block was touched."""
        found: set[int] = set()
        complete = True
        while True:
            try:
                datagram = self._socket.recv(_DATAGRAM)
            except BlockingIOError:
                return found if complete else None
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                complete = False
                continue
            for message in split(datagram):
                if message.kind in _FILTER_MESSAGES and changed_block(message.body) == self._block:
                    complete = False
                elif message.kind in _LINK_MESSAGES or message.kind in _TRAFFIC_MESSAGES:
                    found.add(_INDEX.unpack_from(message.body)[0])
