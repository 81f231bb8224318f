"""A process that makes TAPs while the agent compiles and packs what is about them.

    python -m heddle.applier.tap_process BLOCK

Each line of standard input is a list of ``Tap`` in JSON. Standard output gives
for each its ifindexes as 32-bit numbers, 0 where a TAP could not be made, and
ends when all are made. The process ends when others can open them as well. It is
no thread, since Python runs one at a time and a TAP takes a dozen system calls.
When the agent dies the input ends too: what is made stays, marked and down, for
the next agent to take over.
"""

from __future__ import annotations

import json
import os
import sys
from array import array
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress

from heddle.applier.netlink import Netlink
from heddle.applier.taps import LOT, Furnisher, Tap, close_all, read_order, room_for_descriptors


def main() -> None:
    with (
        closing(Netlink()) as netlink,
        closing(Furnisher(netlink, int(sys.argv[1]))) as furnisher,
        suppress(BrokenPipeError),
    ):
        _make_all(furnisher, sys.stdin.buffer)


def _make_all(furnisher: Furnisher, orders: Iterable[bytes]) -> None:
    room = room_for_descriptors()
    opened: list[int] = []
    for wanted in _read(orders):
        lot = furnisher.make_taps(wanted)
        indexes = array("I", [lot.indexes.get(tap.name, 0) for tap in wanted])
        os.write(sys.stdout.fileno(), indexes)
        opened += lot.descriptors
        if len(opened) + LOT > room:
            close_all(opened)
            opened = []
    os.close(sys.stdout.fileno())
    close_all(opened)


def _read(orders: Iterable[bytes]) -> Iterator[list[Tap]]:
    with suppress(json.JSONDecodeError):  # the agent died in the middle of a line
        for line in orders:
            yield read_order(line)


if __name__ == "__main__":
    main()
