"""Compares whole frames and shows what differs, decoded."""

from __future__ import annotations

import difflib

from scapy.layers.l2 import Ether
from scapy.packet import Packet
from scapy.utils import hexdump


def assert_same_frame(actual: bytes, expected: Packet | bytes) -> None:
    """Fail with a decoded diff unless both frames are the same bytes."""
    wanted = bytes(expected)
    if actual == wanted:
        return
    lines = difflib.unified_diff(
        _decoded(wanted), _decoded(actual), "expected frame", "actual frame", lineterm="", n=2
    )
    raise AssertionError("frames differ\n" + "\n".join(lines))


def _decoded(frame: bytes) -> list[str]:
    text = Ether(frame).show(dump=True) + "\n" + hexdump(frame, dump=True)
    return [f"{len(frame)} bytes", *text.splitlines()]
