"""TAPs that are made before the applier asks for them.

The kernel makes ten thousand TAPs one at a time, which takes longer than all else
about them. So a process (tap_process.py) begins when the first of them are known,
and goes on while the others are being compiled.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import subprocess
import sys
from array import array
from itertools import chain

from heddle.applier.taps import LOT, Tap, read_order, write_order

log = logging.getLogger(__name__)

# The most at a time. The answers about so many fit into a pipe of the usual size
# (64 kB), so that the process never waits for somebody to read them.
_MOST = 16 << 10
_PIPE = 1 << 20  # what may wait for the process


class Ahead:
    """What is foreseen goes to the process in lots; less than one is forgotten.
    ``block``: where the filter of all links stands."""

    def __init__(self, block: int) -> None:
        self._block = block
        self._foreseen: list[Tap] = []
        # As they were sent: small objects that go would leave holes among those that stay.
        self._orders: list[bytes] = []
        self._ordered = 0  # TAPs
        self._making: subprocess.Popen[bytes] | None = None
        self._closing: subprocess.Popen[bytes] | None = None

    def foresee(self, tap: Tap) -> None:
        """A TAP will be wanted. Waits while the process is far behind."""
        self._foreseen.append(tap)
        if len(self._foreseen) >= LOT:
            self._order()

    def collect(self) -> dict[Tap, int]:
        """Wait until all is made that was ordered. Ifindexes; 0: it could not be
        made. What a process made that ended early is left behind."""
        if self._making is not None:
            self._order()
        self._foreseen.clear()
        orders, self._orders, self._ordered = self._orders, [], 0
        process, self._making = self._making, None
        if process is None:
            return {}
        answers = _conclude(process)
        self._closing = process
        indexes = array("I", answers[: len(answers) // 4 * 4])
        ordered = chain.from_iterable(map(read_order, orders))
        return dict(zip(ordered, indexes, strict=False))  # fewer when the process was killed

    def settle(self) -> None:
        """Wait until others can open what was collected."""
        if self._closing is not None:
            self._closing.wait()
            self._closing = None

    def _order(self) -> None:
        wanted, self._foreseen = self._foreseen[: _MOST - self._ordered], []
        if not wanted:
            return
        if self._making is None:
            self._making = self._start()
        if self._making is not None and self._making.stdin is not None:
            order = write_order(wanted)
            self._orders.append(order)
            self._ordered += len(wanted)
            with contextlib.suppress(BrokenPipeError):  # then it does not answer either
                self._making.stdin.write(order)

    def _start(self) -> subprocess.Popen[bytes] | None:
        self.settle()
        command = [sys.executable, "-m", "heddle.applier.tap_process", str(self._block)]
        try:
            process = subprocess.Popen(
                command,
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is for the agent
            )
        except OSError as error:
            log.warning("links are made one by one: no process for that: %s", error.strerror)
            return None
        with contextlib.suppress(OSError):  # slower only
            fcntl.fcntl(process.stdin, fcntl.F_SETPIPE_SZ, _PIPE)  # type: ignore[arg-type]
        return process


def _conclude(process: subprocess.Popen[bytes]) -> bytes:
    """Say that nothing follows, and wait for the last answer."""
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    with process.stdout as answers:
        return answers.read()
