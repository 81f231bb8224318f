"""Which counter slot belongs to which device.

The kernel's own ``ports`` rows are the record: after a restart the slots in
use are adopted from them, so that a port keeps its counters.
"""

from __future__ import annotations

from collections import deque

from heddle.errors import KernelError


class CounterSlots:
    """Gives out slots 0 to ``count - 1``. A slot given back waits longest
    before it is given out again: flows may still count into it for a while."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._of: dict[str, int] = {}
        self._returned: deque[int] = deque()
        self._unused = iter(range(count))
        self._taken: set[int] = set()
        self._fresh: list[int] = []

    def adopt(self, device: str, slot: int) -> None:
        """Take over what the kernel holds, if nobody else was given that slot."""
        if slot < self._count and slot not in self._taken and device not in self._of:
            self._of[device] = slot
            self._taken.add(slot)

    def slot_of(self, device: str) -> int:
        """The slot of a device, a new one if it has none."""
        if device not in self._of:
            slot = self._of[device] = self._next()
            self._taken.add(slot)
            self._fresh.append(slot)
        return self._of[device]

    def release(self, device: str) -> None:
        slot = self._of.pop(device, None)
        if slot is not None:
            self._taken.discard(slot)
            self._returned.append(slot)

    def take_fresh(self) -> list[int]:
        """Slots given out since the last call: their counters are somebody else's."""
        fresh, self._fresh = self._fresh, []
        return fresh

    def _next(self) -> int:
        for slot in self._unused:
            if slot not in self._taken:
                return slot
        while self._returned:
            slot = self._returned.popleft()
            if slot not in self._taken:
                return slot
        raise KernelError(
            f"all {self._count} counter slots are in use: this host has too many ports"
        )
