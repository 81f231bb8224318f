"""Looks at what is delivered to a VM's TAP on a host, and when the VM goes on there.

    python -m bench.tap_watch DEVICE MACHINE_ID DIRECT_FROM

Runs on that host until standard input ends; then prints one line of JSON: ``delivered``
and ``direct``, lists of ``[number, ns]`` of the numbered datagrams (``MARK``) that were
given to the TAP and that came in envelopes straight from ``DIRECT_FROM``; ``resumed``,
ns when libvirt said that the machine goes on here, or its first frame came if that was
sooner; ``first_frame``, ns; ``dropped``, frames that the full queue of the TAP lost.
Times are of CLOCK_REALTIME, those of frames by the kernel.
"""

from __future__ import annotations

import errno
import json
import select
import socket
import struct
import sys
import time
from pathlib import Path

from heddle.hypervisor.libvirtd import ensure_libvirtd
from heddle.hypervisor.moving import Turn, Turns, start_events

MARK = b"heddle-moves"
UNDERLAY = "eth0"
_ETH_P_ALL = 3
_SO_TIMESTAMPNS = 35
_SO_RCVBUFFORCE = 33
_OUTGOING = 4  # PACKET_OUTGOING: to whoever holds the TAP
_TIMESPEC = struct.Struct("qq")
_PAUSE = 0.001  # s between two looks for the TAP
_OUTER_SOURCE = slice(26, 30)  # of an envelope: Ethernet and IPv4


class Watch:
    def __init__(self, device: str, machine_id: str, direct_from: str) -> None:
        self._device = device
        self._machine_id = machine_id
        self._direct_from = socket.inet_aton(direct_from)
        self.delivered: list[tuple[int, int]] = []
        self.direct: list[tuple[int, int]] = []
        self.resumed: list[int] = []
        self.first_frame: int | None = None

    def run(self) -> dict[str, object]:
        ensure_libvirtd()
        start_events()
        turns = Turns(self._turned)
        turns.ensure()
        underlay = _wire(UNDERLAY)
        print("watching", flush=True)
        while not Path("/sys/class/net", self._device).exists():
            if select.select([sys.stdin], [], [], _PAUSE)[0]:
                break
        tap = _wire(self._device)
        wires = {wire.fileno(): wire for wire in (tap, underlay)}
        told = sys.stdin.fileno()
        while told not in (ready := select.select([told, *wires], [], [])[0]):
            for number in ready:
                self._take(wires[number], is_tap=wires[number] is tap)
        turns.close()
        if self.first_frame is not None:
            self.resumed.append(self.first_frame)
        return {
            "delivered": self.delivered,
            "direct": self.direct,
            "resumed": min(self.resumed, default=None),
            "first_frame": self.first_frame,
            "dropped": _dropped(self._device),
        }

    def _turned(self, machine_id: str, turn: Turn) -> None:
        if machine_id == self._machine_id and turn is Turn.RESUMED:
            self.resumed.append(time.time_ns())

    def _take(self, wire: socket.socket, *, is_tap: bool) -> None:
        try:
            frame, told, _, address = wire.recvmsg(2048, 64)
        except OSError as error:
            if error.errno == errno.ENETDOWN:  # not up yet; it is told once
                return
            raise
        seconds, nanoseconds = _TIMESPEC.unpack(told[0][2])
        at = seconds * 10**9 + nanoseconds
        if is_tap and address[2] != _OUTGOING:
            self.first_frame = self.first_frame or at
        elif (start := frame.find(MARK)) > 0:
            number = int.from_bytes(frame[start + len(MARK) :][:8], "big")
            if is_tap:
                self.delivered.append((number, at))
            elif frame[_OUTER_SOURCE] == self._direct_from:
                self.direct.append((number, at))


def _dropped(device: str) -> int:
    try:
        return int(Path("/sys/class/net", device, "statistics/tx_dropped").read_text())
    except FileNotFoundError:
        return 0  # the machine has left, and its TAP is gone


def _wire(device: str) -> socket.socket:
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    wire.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    wire.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 1 << 24)
    wire.bind((device, _ETH_P_ALL))
    return wire


if __name__ == "__main__":
    print(json.dumps(Watch(*sys.argv[1:4]).run()))
