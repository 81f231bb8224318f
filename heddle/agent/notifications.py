"""The kernel's word that a link, qdisc or filter of this network namespace has
changed (rtnetlink multicast groups)."""

from __future__ import annotations

import socket

_NETLINK_ROUTE = 0
_RTMGRP_LINK = 1 << 0  # RTNLGRP_LINK is 1, as a bit
_RTMGRP_TC = 1 << 3  # RTNLGRP_TC is 4
_BUFFER_BYTES = 1 << 16


class LinkNotifications:
    """Says only that something changed: what it was, an audit finds out."""

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK,
            socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK,
            _NETLINK_ROUTE,
        )
        self._socket.bind((0, _RTMGRP_LINK | _RTMGRP_TC))

    def fileno(self) -> int:
        return self._socket.fileno()

    def drain(self) -> bool:
        """Take in what has come; return whether there was anything."""
        something = False
        while True:
            try:
                self._socket.recv(_BUFFER_BYTES)
            except BlockingIOError:
                return something
            except OSError:
                something = True  # ENOBUFS: more came than the socket holds
            else:
                something = True

    def close(self) -> None:
        self._socket.close()
