"""The shaper: what of bandwidth is wanted of ports that send, and what is in place.

A port's class goes by its counter slot, so that the data plane needs no table
to find it. Classes are there before the rows that lead packets to them, and
go after those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from heddle.applier.kernel import Kernel
from heddle.applier.report import Report, Verb
from heddle.applier.shaping import (
    DAMAGED,
    Allowance,
    ShaperFact,
    allowance_from_vm,
    allowance_of_host,
)
from heddle.compiler.state import Link, Shaping
from heddle.errors import KernelError
from heddle.intent.names import SHAPER

_VERBS: tuple[tuple[Verb, bool], ...] = (("+", False), ("~", True))
_FIRST_MINOR = 1  # of the class of counter slot 0; bpf/stages/flow.h reckons alike


class Shaper:
    """``indexes`` is shared with the links: it gets the ifindex of the shaper.
    ``slot_of`` gives a device's counter slot; ``capacity`` is the host's, in
    bits per second, 0 if unknown."""

    def __init__(
        self,
        kernel: Kernel,
        indexes: dict[str, int],
        slot_of: Callable[[str], int],
        capacity: int,
    ) -> None:
        self.failures: dict[str, str] = {}
        self._kernel = kernel
        self._indexes = indexes
        self._slot_of = slot_of
        self._capacity = capacity
        self._host = allowance_of_host(capacity)
        self._wanted: dict[str, Allowance] = {}
        self._minors: dict[str, int] = {}  # of devices whose class is in place
        self._held: dict[int, Allowance] = {}
        self._ends: tuple[int, ...] = ()  # ifindexes of the pair
        self._whole = False
        self._due: set[str] = set()  # devices whose class must be looked at
        self._unwanted: set[int] = set()

    # ---- what is wanted, and what is there -------------------------------

    def want(self, changes: Mapping[str, Link | None]) -> None:
        """Take over what is wanted of links."""
        for device, link in changes.items():
            allowance = self._allowance(link.shaping) if link is not None else None
            if allowance is not None:
                if self._wanted.get(device) != allowance:
                    self._wanted[device] = allowance
                    self._due.add(device)
            elif device in self._wanted:
                del self._wanted[device]
                self._due.discard(device)
                self.failures.pop(device, None)
                minor = self._minors.pop(device, None)
                if minor is not None:
                    self._unwanted.add(minor)

    def read(self) -> None:
        """Take in what the kernel has; all classes must be looked at."""
        self.failures.pop(SHAPER, None)
        self._look()
        self._minors.clear()
        self._unwanted = set(self._held)
        self._due = set(self._wanted)

    def _look(self) -> None:
        try:
            self._take_in(self._kernel.read_shaper(self._host))
        except KernelError as error:
            self.failures[SHAPER] = str(error)
            self._take_in(None)

    def audit(self, suspects: set[int] | None) -> None:
        """Look again at what failed, and at all if somebody touched the pair.
        None: nobody knows who touched what."""
        touched = suspects is None or suspects.intersection(self._ends)
        if (touched and (self._ends or self._wanted)) or SHAPER in self.failures:
            self.read()
        self._due |= self.failures.keys() & self._wanted.keys()

    def _take_in(self, fact: ShaperFact | None) -> None:
        self._whole = fact is not None and fact.whole
        self._held = dict(fact.allowances) if fact else {}
        self._ends = fact.ends if fact else ()
        if fact and self._wanted:
            self._indexes.setdefault(SHAPER, fact.ends[0])

    def _allowance(self, shaping: Shaping) -> Allowance | None:
        return allowance_from_vm(shaping, self._capacity)

    # ---- making it so ----------------------------------------------------

    def place(self, report: Report) -> bool:
        """Make or mend the pair if a port needs it. Returns whether it has
        another ifindex since."""
        if not self._wanted:
            return False
        if not self._whole:
            self._make(report)
        before = self._indexes.get(SHAPER)
        if self._ends:
            self._indexes[SHAPER] = self._ends[0]
        return before is not None and self._indexes[SHAPER] != before

    def _make(self, report: Report) -> None:
        is_new = not self._ends
        self.failures.pop(SHAPER, None)
        try:
            self._take_in(self._kernel.make_shaper(self._host))
        except KernelError as error:
            self._look()  # what there is of it lets everything pass
            self.failures[SHAPER] = str(error)
        self._due = set(self._wanted)
        if self._whole:
            report.add("+" if is_new else "~", f"link {SHAPER}")

    def write(self, report: Report) -> None:
        """Make and change classes of ports; before the rows."""
        due, self._due = self._due, set()
        devices: dict[int, str] = {}
        for device in sorted(due):
            self.failures.pop(device, None)
            minor = self._place_of(device)
            if minor is not None and self._held.get(minor) != self._wanted[device]:
                devices[minor] = device
        if not devices or not self._ends:
            return
        damaged = {minor for minor in devices if self._held.get(minor) == DAMAGED}
        wanted = {minor: self._wanted[device] for minor, device in devices.items()}
        failures = self._kernel.put_allowances(self._ends[0], wanted, damaged)
        for minor, reason in failures.items():
            self.failures[devices[minor]] = f"link {devices[minor]}: {reason}"
        done = {minor: device for minor, device in devices.items() if minor not in failures}
        for verb, is_held in _VERBS:
            told = [device for minor, device in done.items() if (minor in self._held) == is_held]
            report.add_all(verb, "bandwidth from", told)
        self._held.update({minor: wanted[minor] for minor in done})

    def _place_of(self, device: str) -> int | None:
        """The minor number of a device's class."""
        try:
            minor = self._slot_of(device) + _FIRST_MINOR
        except KernelError as error:
            self.failures[device] = f"link {device}: {error}"
            return None
        before = self._minors.get(device)
        if before is not None and before != minor:
            self._unwanted.add(before)
        self._minors[device] = minor
        self._unwanted.discard(minor)
        return minor

    def clear(self, report: Report) -> None:
        """Remove what no port needs any more; after the rows."""
        if not self._wanted:
            self._remove(report)
        elif self._unwanted and self._ends:
            gone = sorted(self._unwanted & self._held.keys())
            failures = self._kernel.drop_allowances(self._ends[0], gone) if gone else {}
            self._note_leftovers(failures.values())
            for minor in gone:
                if minor not in failures:
                    del self._held[minor]
            self._unwanted = set(failures)

    def _remove(self, report: Report) -> None:
        self._indexes.pop(SHAPER, None)
        if not self._ends and SHAPER not in self.failures:
            return
        self.failures.pop(SHAPER, None)
        if not self._ends:  # it could not be made, and is needed no more
            return
        try:
            self._kernel.remove_shaper(self._ends[0], sorted(self._held))
        except KernelError as error:
            self.failures[SHAPER] = str(error)
            return
        self._take_in(None)
        self._unwanted.clear()
        report.add("-", f"link {SHAPER}")

    def _note_leftovers(self, reasons: Iterable[str]) -> None:
        for reason in reasons:
            self.failures[SHAPER] = f"link {SHAPER}: {reason}"
