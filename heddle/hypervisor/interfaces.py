"""Flags of a network device of the calling thread's namespace.

Not from /sys/class/net, which shows the namespace of whoever mounted /sys.
"""

from __future__ import annotations

import fcntl
import socket
import struct

IFF_UP = 0x1
IFF_RUNNING = 0x40

_SIOCGIFFLAGS = 0x8913
_IFREQ = struct.Struct("16sH14x8x")  # name, flags, rest of the union (linux/if.h)


def interface_flags(device: str) -> int | None:
    """IFF_* of ``device``, None where there is no such device."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as any_socket:
        request = _IFREQ.pack(device.encode(), 0)
        try:
            answer = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request)
        except OSError:
            return None
    flags: int = _IFREQ.unpack(answer)[1]
    return flags
