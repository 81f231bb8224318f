"""Store tests that need more than one process, and kill some."""

from __future__ import annotations

import os
import select
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


def in_child(work: Callable[[], None]) -> int:
    """Run ``work`` in a process of its own; its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            os._exit(1)
    return pid


def exit_code(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@contextmanager
def writer(write: Callable[[int], None]) -> Iterator[tuple[int, int]]:
    """A process that writes for ever, and acknowledges to a descriptor what it has
    written; its pid and the other end of that. It is killed."""
    reading, writing = os.pipe()
    pid = in_child(lambda: write(writing))
    os.close(writing)
    try:
        yield pid, reading
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        assert exit_code(pid) == -signal.SIGKILL  # it died of us, not of an error
        os.close(reading)


def acknowledged_until(reading: int, deadline: float) -> bytes:
    """What arrives before the deadline."""
    received = b""
    while (left := deadline - time.monotonic()) > 0:
        if select.select([reading], [], [], left)[0]:
            received += os.read(reading, 4096)
    return received


def rest_of(reading: int) -> bytes:
    """What a dead process left in the pipe."""
    received = b""
    while part := os.read(reading, 4096):
        received += part
    return received
