"""TAP devices by ioctl on /dev/net/tun (Documentation/networking/tuntap.rst).

A new TAP lives as long as its descriptor until ``keep`` is called: a process
that dies before it has marked the link leaves nothing behind.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct

_TUNSETIFF = 0x400454CA
_TUNSETPERSIST = 0x400454CB
_SIOCGIFINDEX = 0x8933

_IFF_TAP = 0x0002
_IFF_NO_PI = 0x1000
_IFF_VNET_HDR = 0x4000
_IFF_TUN_EXCL = 0x8000  # an existing device is an error
_IFF_MULTI_QUEUE = 0x0100

_NAME_AND_FLAGS = struct.Struct("16sH22x")
_TUN = "/dev/net/tun"
_NAME_AND_INDEX = struct.Struct("16si20x")


def create(name: str, *, multiqueue: bool) -> int:
    """A new TAP with virtio headers; returns its descriptor.

    Offloads are left for the one who opens it next: QEMU turns on what its
    guest has agreed to. OSError: EBUSY when a link of the name exists.
    """
    flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR | _IFF_TUN_EXCL
    return _open(name, flags | (_IFF_MULTI_QUEUE if multiqueue else 0))


def attach(name: str, *, multiqueue: bool = False) -> int:
    """Open an existing TAP the way that QEMU does; returns a descriptor to
    read frames from and write frames to, each after a virtio header."""
    flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR
    return _open(name, flags | (_IFF_MULTI_QUEUE if multiqueue else 0))


def keep(descriptor: int) -> None:
    """Let the TAP live on when the descriptor is closed."""
    fcntl.ioctl(descriptor, _TUNSETPERSIST, 1)


def index_of(name: str, control: socket.socket) -> int:
    """ifindex of a link, asked for on any socket of its namespace."""
    answer = fcntl.ioctl(control, _SIOCGIFINDEX, _NAME_AND_INDEX.pack(name.encode(), 0))
    index: int = _NAME_AND_INDEX.unpack(answer)[1]
    return index


def _open(name: str, flags: int) -> int:
    try:
        descriptor = os.open(_TUN, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise OSError(error.errno, f"{_TUN}: {error.strerror}: `modprobe tun`") from error
    try:
        fcntl.ioctl(descriptor, _TUNSETIFF, _NAME_AND_FLAGS.pack(name.encode(), flags))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
