"""Multicast router advertisements, unsolicited (RFC 4861, 6.2.4).

The data plane answers solicitations by itself, also with the agent dead. This
repeats the advertisement well before the router lifetime of 9000 s runs out,
and at once when its contents change.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import random
import socket
import time
from collections import defaultdict
from collections.abc import Callable

from heddle.compiler.state import HostDelta, PortRow, RaTemplateRow
from heddle.datapath.frames import checksum
from heddle.hypervisor.interfaces import is_deserted

INTERVAL_SECONDS = (200.0, 600.0)  # MinRtrAdvInterval, MaxRtrAdvInterval
PORTS_AT_ONCE = 64  # frames sent before other tasks get their turn

_ALL_NODES = socket.inet_pton(socket.AF_INET6, "ff02::1")
_ALL_NODES_MAC = bytes.fromhex("333300000001")
_ETHERTYPE_IPV6 = b"\x86\xdd"
_ETH_P_NONE = 0  # a socket that only sends
_HOP_LIMIT = 255  # RFC 4861, 4.2: anything else is discarded
_LIFETIME = slice(6, 8)  # of the ICMPv6 message: router lifetime

Send = Callable[[str, bytes], None]  # device, frame


class Advertiser:
    """Learns from HostDeltas who must hear which advertisement."""

    def __init__(self, send: Send, clock: Callable[[], float] = time.monotonic) -> None:
        self._send = send
        self._clock = clock
        self._messages: dict[int, RaTemplateRow] = {}  # by VNI
        self._network_of: dict[str, int] = {}  # device -> VNI
        self._devices: defaultdict[int, set[str]] = defaultdict(set)
        self._due_at: dict[int, float] = {}  # by VNI
        self._queue: list[tuple[float, int]] = []  # heap; what _due_at disowns is stale
        self._wake = asyncio.Event()

    def update(self, delta: HostDelta) -> None:
        """Take over what has been applied. A new or changed advertisement is
        due now; one that ended is sent once more with lifetime zero."""
        for (table, key), row in delta.rows.items():
            if table == "ports":
                self._move(str(key), row.network if isinstance(row, PortRow) else None)
        for (table, key), row in delta.rows.items():
            if table == "ra_templates" and isinstance(key, int):
                self._replace(key, row if isinstance(row, RaTemplateRow) else None)

    async def run(self) -> None:
        """Send what is due, for ever."""
        while True:
            self._wake.clear()
            await self.send_due()
            wait = self._queue[0][0] - self._clock() if self._queue else None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._wake.wait()

    async def send_due(self) -> None:
        """Send what should have gone out by now."""
        while self._queue and self._queue[0][0] <= self._clock():
            due, vni = heapq.heappop(self._queue)
            if self._due_at.get(vni) != due:
                continue
            await self._advertise(vni, router_advertisement(self._messages[vni]))
            self._schedule(vni, random.uniform(*INTERVAL_SECONDS))  # noqa: S311 (no secret)

    def _move(self, device: str, vni: int | None) -> None:
        before = self._network_of.pop(device, None)
        if before is not None:
            self._devices[before].discard(device)
        if vni is not None:
            self._network_of[device] = vni
            self._devices[vni].add(device)

    def _replace(self, vni: int, row: RaTemplateRow | None) -> None:
        before = self._messages.pop(vni, None)
        if before is not None and (row is None or row.router_mac != before.router_mac):
            self._farewell(vni, before)
        if row is None:
            self._due_at.pop(vni, None)
        else:
            self._messages[vni] = row
            self._schedule(vni, 0.0)

    def _farewell(self, vni: int, row: RaTemplateRow) -> None:
        """The router is gone: guests must not wait for its lifetime to end
        (RFC 4861, 6.2.5)."""
        message = bytearray(row.message)
        message[_LIFETIME] = bytes(2)
        frame = router_advertisement(row._replace(message=bytes(message)))
        for device in self._devices[vni]:
            self._send(device, frame)

    def _schedule(self, vni: int, seconds: float) -> None:
        due = self._clock() + seconds
        self._due_at[vni] = due
        heapq.heappush(self._queue, (due, vni))
        self._wake.set()

    async def _advertise(self, vni: int, frame: bytes) -> None:
        for count, device in enumerate(sorted(self._devices[vni]), start=1):
            self._send(device, frame)
            if count % PORTS_AT_ONCE == 0:
                await asyncio.sleep(0)


class DeviceSender:
    """Sends frames out of links of this host, towards the guest."""

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        )

    def __call__(self, device: str, frame: bytes) -> None:
        """To who is there: a guest that starts solicits, and what is sent to a device
        that nobody holds would count as dropped."""
        if is_deserted(device):
            return
        try:
            self._socket.sendto(frame, (device, _ETH_P_NONE))
        except OSError:
            return  # the link is gone or down, or its guest does not read

    def close(self) -> None:
        self._socket.close()


def router_advertisement(template: RaTemplateRow) -> bytes:
    """The whole frame of a network's template, to all nodes."""
    source = link_local(template.router_mac)
    message = bytearray(template.message[: template.length])
    message[2:4] = _icmpv6_checksum(source, _ALL_NODES, bytes(message))
    header = b"\x60\0\0\0" + len(message).to_bytes(2, "big")
    header += bytes([socket.IPPROTO_ICMPV6, _HOP_LIMIT]) + source + _ALL_NODES
    return _ALL_NODES_MAC + template.router_mac + _ETHERTYPE_IPV6 + header + bytes(message)


def link_local(mac: bytes) -> bytes:
    """The EUI-64 link-local address of a MAC (RFC 4291, appendix A)."""
    return b"\xfe\x80" + bytes(6) + bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:]


def _icmpv6_checksum(source: bytes, destination: bytes, message: bytes) -> bytes:
    """RFC 4443, 2.3. The message's own checksum field must be zero."""
    pseudo = source + destination + len(message).to_bytes(4, "big")
    pseudo += socket.IPPROTO_ICMPV6.to_bytes(4, "big")
    return checksum(pseudo + message).to_bytes(2, "big")
