"""Pings an address every millisecond and tells what was lost, as one line of JSON.

    python pinger.py ADDRESS SECONDS

``lost``: how many; ``longest_gap``: ms without an answer; ``resumed_at``: ns of
CLOCK_MONOTONIC, when the first answer after the longest gap came.
"""

from __future__ import annotations

import itertools
import json
import select
import socket
import struct
import sys
import time

SPACING = 0.001
PATIENCE = 3.0  # for the last answers
IDENTIFIER = 0x4242


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def question(number: int) -> bytes:
    rest = struct.pack("!HHI", IDENTIFIER, number & 0xFFFF, number)
    return struct.pack("!BBH", 8, 0, checksum(b"\x08\0\0\0" + rest)) + rest


def answers(wire: socket.socket) -> list[int]:
    found = []
    while True:
        try:
            packet = wire.recv(2048)
        except BlockingIOError:
            return found
        icmp = packet[(packet[0] & 15) * 4 :]
        if icmp[0] == 0 and icmp[4:6] == IDENTIFIER.to_bytes(2, "big"):
            found.append(int.from_bytes(icmp[8:12], "big"))


address, seconds = sys.argv[1], float(sys.argv[2])
wire = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
wire.setblocking(False)
print("{}", flush=True)  # it begins
begun = due = time.monotonic()
sent, came = 0, {}
while (now := time.monotonic()) < begun + seconds + PATIENCE:
    if now >= due and now < begun + seconds:
        wire.sendto(question(sent), (address, 0))
        sent += 1
        due = max(due + SPACING, now - 0.05)  # one that was held up catches up a little
    select.select([wire], [], [], max(0.0, min(due - time.monotonic(), 0.01)))
    at = time.monotonic_ns()
    came.update({number: at for number in answers(wire) if number not in came})
times = sorted(came.values())
gap, resumed = max(((b - a, b) for a, b in itertools.pairwise(times)), default=(0, 0))
print(
    json.dumps(
        {"sent": sent, "lost": sent - len(came), "longest_gap": gap / 1e6, "resumed_at": resumed}
    )
)
