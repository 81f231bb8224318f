"""What is asked of network devices of the calling thread's namespace, by ioctl.

Not from /sys/class/net, which shows the namespace of whoever mounted /sys, and
not from IFF_RUNNING, which follows the carrier with up to a second's delay.
"""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct

_IFF_UP = 0x1
_SIOCGIFFLAGS = 0x8913
_SIOCETHTOOL = 0x8946
_ETHTOOL_GLINK = 0x0A

_IFREQ_FLAGS = struct.Struct("16sH22x")  # linux/if.h
_IFREQ_POINTER = struct.Struct("16sP16x")
_ETHTOOL_VALUE = struct.Struct("II")  # command, answer (linux/ethtool.h)


def is_there(device: str) -> bool:
    return _flags(device) is not None


def is_deserted(device: str) -> bool:
    """Whether a device is up but has no carrier: no process holds the TAP, or the
    container's end of the veth is down."""
    flags = _flags(device)
    return flags is not None and bool(flags & _IFF_UP) and not _has_carrier(device)


def _flags(device: str) -> int | None:
    try:
        answer = _ioctl(_SIOCGIFFLAGS, _IFREQ_FLAGS.pack(device.encode(), 0))
    except OSError:
        return None
    flags: int = _IFREQ_FLAGS.unpack(answer)[1]
    return flags


def _has_carrier(device: str) -> bool:
    value = ctypes.create_string_buffer(_ETHTOOL_VALUE.pack(_ETHTOOL_GLINK, 1))
    try:
        _ioctl(_SIOCETHTOOL, _IFREQ_POINTER.pack(device.encode(), ctypes.addressof(value)))
    except OSError:  # just gone
        return True
    return bool(_ETHTOOL_VALUE.unpack_from(value)[1])


def _ioctl(request: int, argument: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as any_socket:
        return fcntl.ioctl(any_socket, request, argument)
