"""The tunnel: what is wanted of it, and what is in place.

Its device is there before the rows that name it, and goes after them. While
the tables are empty the program at its ingress lets nothing in.
"""

from __future__ import annotations

from heddle.applier.kernel import Kernel, TunnelFact
from heddle.applier.report import Report
from heddle.compiler.state import Tunnel
from heddle.errors import KernelError
from heddle.intent.names import TUNNEL


class TunnelEnd:
    """This host's end of all tunnels. ``indexes`` is shared with the links: it
    gets the ifindex of the device."""

    def __init__(self, kernel: Kernel, indexes: dict[str, int]) -> None:
        self.failures: dict[str, str] = {}
        self._kernel = kernel
        self._indexes = indexes
        self._wanted: Tunnel | None = None
        self._found: TunnelFact | None = None

    @property
    def envelopes(self) -> str:
        """Who makes those that go to other hosts; "": none go there."""
        return self._found.envelopes if self._found is not None else ""

    def want(self, tunnel: Tunnel | None) -> None:
        """Take over what is wanted; what is there has to be looked at."""
        self._wanted = tunnel
        self.read()

    def read(self) -> None:
        """Take in what the kernel has. Cheap: an audit asks each time."""
        try:
            self._found = self._kernel.read_tunnel(self._wanted)
        except KernelError as error:
            self.failures[TUNNEL] = str(error)

    def audit(self) -> None:
        if self._wanted is not None or self._found is not None or self.failures:
            self.read()

    def place(self, report: Report) -> tuple[bool, bool]:
        """Make or mend it if it is wanted. Returns whether it is new, and
        whether it has another ifindex since."""
        before = self._indexes.pop(TUNNEL, None)
        if self._wanted is None:
            return False, False
        if self._found is None or self._found.faults or self.failures:
            self._mend(self._wanted, report)
        if self._found is None:
            return False, before is not None
        index = self._indexes[TUNNEL] = self._found.ifindex
        return before is None, before is not None and before != index

    def clear(self, report: Report) -> None:
        """Remove it when it is not wanted; after the rows."""
        if self._wanted is not None:
            return
        self.failures.pop(TUNNEL, None)
        if self._found is None:
            return
        try:
            self._kernel.remove_tunnel()
        except KernelError as error:
            self.failures[TUNNEL] = str(error)
            return
        self._found = None
        report.add("-", f"link {TUNNEL}")

    def _mend(self, wanted: Tunnel, report: Report) -> None:
        before = self._found
        self.failures.pop(TUNNEL, None)
        try:
            self._found = self._kernel.mend_tunnel(wanted)
        except KernelError as error:
            self.read()  # what there is of it may do
            self.failures[TUNNEL] = str(error)
            return
        if before is None:
            report.add("+", f"link {TUNNEL}")
        elif before.faults:
            report.add("~", f"link {TUNNEL}: {', '.join(before.faults)}")
