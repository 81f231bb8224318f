"""A stand-in for a VM: opens its port's TAP and speaks ARP."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
import struct
import time
from pathlib import Path

from bench.commands import BenchError
from heddle.intent.model import Port
from heddle.intent.names import tap_name

PATIENCE = 10.0  # seconds
_PAUSE = 0.0005  # seconds between two attempts
_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
_VIRTIO_HEADER = bytes(10)
_BROADCAST = b"\xff" * 6
_ARP = 0x0806
_IPV4 = b"\x08\x00"
_ARP_REQUEST, _ARP_REPLY = 1, 2
_ARP_MESSAGE = struct.Struct("!HHBBH6s4s6s4s")


class Guest:
    """The owner of a port's MAC and address, at the outer end of its TAP."""

    def __init__(self, port: Port) -> None:
        self._device = tap_name(port.id)
        self._mac = bytes.fromhex(port.mac.replace(":", ""))
        self._address = socket.inet_aton(port.fixed_ips[0].ip)
        self._deadline = time.monotonic() + PATIENCE
        self._tap = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)

    def __enter__(self) -> Guest:
        return self

    def __exit__(self, *_raised: object) -> None:
        os.close(self._tap)

    def await_arp_answer(self, gateway: str) -> None:
        """Ask for the gateway until it answers; BenchError when it never does."""
        self._plug_in()
        request = self._arp_request(socket.inet_aton(gateway))
        while not self._answered(request, socket.inet_aton(gateway)):
            self._pause(f"no ARP answer from {gateway}")

    def await_datagram(self) -> None:
        """Wait for a UDP datagram; BenchError when none comes."""
        self._plug_in()
        while not self._has_datagram():
            self._pause("no datagram")

    def _has_datagram(self) -> bool:
        while select.select([self._tap], [], [], 0)[0]:
            frame = os.read(self._tap, 2048)[len(_VIRTIO_HEADER) :]
            if frame[12:14] == _IPV4 and frame[23] == socket.IPPROTO_UDP:
                return True
        return False

    def _plug_in(self) -> None:
        """Take the TAP when it is there and whoever makes it has let go of it."""
        flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR
        name = struct.pack("16sH22x", self._device.encode(), flags)
        while True:
            # Asked for by a name that is not there, the kernel would make one.
            if Path("/sys/class/net", self._device).exists():
                try:
                    fcntl.ioctl(self._tap, _TUNSETIFF, name)
                    return
                except OSError as error:
                    if error.errno != errno.EBUSY:
                        raise
            self._pause("no such TAP")

    def _answered(self, request: bytes, gateway: bytes) -> bool:
        try:
            os.write(self._tap, request)
        except OSError as error:
            if error.errno != errno.EIO:  # the TAP is still down
                raise
        while select.select([self._tap], [], [], 0)[0]:
            if _is_reply(os.read(self._tap, 2048), gateway):
                return True
        return False

    def _arp_request(self, gateway: bytes) -> bytes:
        ethernet = _BROADCAST + self._mac + struct.pack("!H", _ARP)
        fields = (1, 0x0800, 6, 4, _ARP_REQUEST, self._mac, self._address, bytes(6), gateway)
        return _VIRTIO_HEADER + ethernet + _ARP_MESSAGE.pack(*fields)

    def _pause(self, trouble: str) -> None:
        if time.monotonic() > self._deadline:
            raise BenchError(f"{self._device}: {trouble} within {PATIENCE:.0f} s")
        time.sleep(_PAUSE)


def _is_reply(packet: bytes, gateway: bytes) -> bool:
    frame = packet[len(_VIRTIO_HEADER) :]
    if len(frame) < 42 or frame[12:14] != struct.pack("!H", _ARP):
        return False
    _, _, _, _, operation, _, sender, _, _ = _ARP_MESSAGE.unpack_from(frame, 14)
    return bool(operation == _ARP_REPLY and sender == gateway)
