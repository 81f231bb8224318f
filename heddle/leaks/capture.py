"""A short capture on all links of the host at once."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator
from typing import NamedTuple

from heddle.errors import KernelError

_ETH_P_ALL = 0x0003
_SOL_PACKET = 263
_PACKET_STATISTICS = 6
_SO_RCVBUFFORCE = 33
_RECEIVE_BUFFER = 16 << 20
_BEGINNING = 256  # bytes of each frame that are looked at


class Captured(NamedTuple):
    """The beginning of a frame. ``leaves``: this host sends it out of the link."""

    device: str
    leaves: bool
    data: bytes


class Capture:
    """Frames of every link of this namespace, from construction on."""

    def __init__(self) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        try:
            self._socket = socket.socket(socket.AF_PACKET, kind, socket.htons(_ETH_P_ALL))
        except OSError as error:
            raise KernelError(f"capture: {error.strerror}; run as root") from error
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        self.seen = 0

    def frames(self, seconds: float) -> Iterator[Captured]:
        """What passes within so long."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if not select.select([self._socket], [], [], left)[0]:
                return
            data, address = self._socket.recvfrom(_BEGINNING)
            device, _, direction = address[:3]
            self.seen += 1
            yield Captured(device, direction == socket.PACKET_OUTGOING, data)

    def missed(self) -> int:
        """Frames that passed faster than they were looked at."""
        statistics = self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
        return int.from_bytes(statistics[4:8], "little")

    def close(self) -> None:
        self._socket.close()
