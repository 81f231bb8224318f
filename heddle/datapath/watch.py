"""The program that watches what leaves by the link of the underlay, in its place.

It is attached by a BPF link (tcx, Linux 6.6), which needs no qdisc at a device that
is not ours, stands beside whatever else is attached there, and is gone with its pin.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from heddle.datapath.libbpf import check, ffi, lib, tcx_link_info
from heddle.datapath.loader import Program
from heddle.paths import pin_dir

_TCX_EGRESS = 47  # enum bpf_attach_type
_PIN = "underlay_link"
_OLD_KERNEL = (-errno.EINVAL, -errno.EOPNOTSUPP)


class UnderlayWatch:
    """Where it is not, envelopes go through the host's stack: that is slower, and
    nothing else. So what an old kernel refuses is no error."""

    def __init__(self, host: str, program: Program) -> None:
        self._pin = pin_dir(host) / _PIN
        self._program = program
        self.is_refused = False  # by an old kernel

    def is_there(self) -> bool:
        """Whether it is at any device."""
        return self._pin.exists()

    def is_right(self, ifindex: int) -> bool:
        """Whether it is at that device and no other. KernelError."""
        return self.is_refused or _attached(self._pin) == (ifindex, self._program.id)

    def put(self, ifindex: int) -> None:
        """Attach it there alone. KernelError."""
        self.remove()
        fd = lib.bpf_link_create(self._program.fd, ifindex, _TCX_EGRESS, ffi.NULL)
        self.is_refused = fd in _OLD_KERNEL
        if self.is_refused:
            return
        check(fd, f"attach {self._program.name} to link {ifindex}")
        try:
            check(lib.bpf_obj_pin(fd, str(self._pin).encode()), f"pin {self._pin}")
        finally:
            os.close(fd)

    def remove(self) -> None:
        """Detach it."""
        self._pin.unlink(missing_ok=True)


def _attached(pin: Path) -> tuple[int, int] | None:
    """Device and program of the pinned link."""
    fd = lib.bpf_obj_get(str(pin).encode())
    if fd == -errno.ENOENT:
        return None
    check(fd, f"open {pin}")
    try:
        info = tcx_link_info(fd)
    finally:
        os.close(fd)
    return info.ifindex, info.program_id
