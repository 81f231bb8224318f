"""Whether this host has the memory that another machine needs."""

from __future__ import annotations

import re
from pathlib import Path

from heddle.compiler.state import MachineSpec
from heddle.errors import HypervisorError

_MEMINFO = Path("/proc/meminfo")
_QEMU_BYTES = 64 << 20  # what QEMU takes beside the guest's memory, about
_MEGABYTE = 1 << 20


def available_memory(text: str) -> int:
    """Bytes that can be had without swapping, by the content of /proc/meminfo."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB$", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def check_memory(spec: MachineSpec, host: str) -> None:
    """HypervisorError when a machine would not fit beside those that run."""
    available = available_memory(_MEMINFO.read_text())
    needed = spec.memory + _QEMU_BYTES
    if available < needed:
        raise HypervisorError(
            f"machine {spec.name} needs {needed // _MEGABYTE} MB of memory, host {host} has "
            f"{available // _MEGABYTE} MB: choose another host, or make room there"
        )
