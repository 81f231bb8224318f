"""Sends probes to other hosts: UDP that is never fragmented, whatever the kernel
believes about the path (``IP_PMTUDISC_PROBE``, ip(7))."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket

_MTU_DISCOVER = {socket.AF_INET: (socket.IPPROTO_IP, 10), socket.AF_INET6: (41, 23)}
_PROBE = 3  # IP_PMTUDISC_PROBE, IPV6_PMTUDISC_PROBE


class ProbeSocket:
    """One underlay address of this host. Use ``close`` when it changes."""

    def __init__(self, vtep: str) -> None:
        family = socket.AF_INET6 if ipaddress.ip_address(vtep).version == 6 else socket.AF_INET
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._socket = socket.socket(family, kind)
        with contextlib.ExitStack() as stack:
            stack.callback(self._socket.close)
            self._socket.setsockopt(*_MTU_DISCOVER[family], _PROBE)
            self._socket.bind((vtep, 0))
            stack.pop_all()

    def send(self, payload: bytes, address: str, port: int) -> bool:
        """Send one; False when it is larger than the device takes. What can't
        be sent for any other reason counts as lost on the way."""
        try:
            self._socket.sendto(payload, (address, port))
        except OSError as error:
            return error.errno != errno.EMSGSIZE
        return True

    def close(self) -> None:
        self._socket.close()
