"""Features of links that only the ioctl of ethtool can change (linux/ethtool.h)."""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct

_SIOCETHTOOL = 0x8946
_GET_GRO, _SET_GRO = 0x2B, 0x2C  # ETHTOOL_GGRO, ETHTOOL_SGRO
_VALUE = struct.Struct("=II")  # command, value
_REQUEST = struct.Struct("@16sP16x")  # struct ifreq: name, address of the value


def has_gro(device: str) -> bool:
    """Whether a link of the calling thread's namespace merges received packets.
    OSError when there is no such link."""
    return bool(_carry_out(device, _GET_GRO, 0))


def turn_off_gro(device: str) -> None:
    """OSError when there is no such link."""
    _carry_out(device, _SET_GRO, 0)


def _carry_out(device: str, command: int, value: int) -> int:
    settings = ctypes.create_string_buffer(_VALUE.pack(command, value))
    request = _REQUEST.pack(device.encode(), ctypes.addressof(settings))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as any_socket:
        fcntl.ioctl(any_socket, _SIOCETHTOOL, request)
    answer: int = _VALUE.unpack_from(settings.raw)[1]
    return answer
