"""Whether guests run on the CPU itself."""

from __future__ import annotations

import functools
from pathlib import Path

KVM_DEVICE = Path("/dev/kvm")


@functools.cache
def accelerator() -> str:
    """``kvm`` or ``qemu`` (software emulation), as libvirt calls them.

    /dev/kvm alone does not tell: it may be a paravirtual one, in which stock
    guests hang. The CPU must have the extension too.
    """
    if not KVM_DEVICE.exists():
        return "qemu"
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return "kvm" if {"vmx", "svm"} & set(flags) else "qemu"
