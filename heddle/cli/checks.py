"""The checks of `heddle doctor` that look at the machine, each on its own and without a
lasting effect."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from heddle.agent.client import agent_pid
from heddle.errors import KernelError
from heddle.paths import BPFFS

_OLDEST_KERNEL = (6, 1)
_VM_PACKAGES = "apt-get install libvirt-daemon-system qemu-system-x86 qemu-utils"
AS_ROOT = "run as root to check"
# A network namespace of its own, so that nothing of the host is touched. Who is
# not root needs a user namespace for that, which a chroot does not give.
_AS_OTHER_USER = ("--user", "--map-root-user")
_TRY_SHAPING = (
    "ip link add probe0 type veth peer name probe1; tc qdisc add dev probe0 root htb; "
    "tc qdisc add dev probe1 root tbf rate 1gbit burst 10kb limit 10kb"
)
_TRY_CLSACT = "ip link add probe0 type veth peer name probe1; tc qdisc add dev probe0 clsact"


class State(StrEnum):
    OK = "ok"
    HINT = "hint"  # what is missing is not needed so far
    MISSING = "missing"
    UNKNOWN = "unknown"
    FULL = "full"
    BROKEN = "broken"


class Finding(NamedTuple):
    """What one check found; ``remedy`` is empty where nothing needs doing."""

    name: str
    state: State
    detail: str
    remedy: str = ""


def _root() -> Finding:
    if os.geteuid() == 0:
        return Finding("root", State.OK, "uid 0")
    return Finding("root", State.MISSING, f"uid {os.geteuid()}", "run heddle with sudo")


def _kernel() -> Finding:
    release = os.uname().release
    found = re.match(r"(\d+)\.(\d+)", release)
    if found and (int(found[1]), int(found[2])) >= _OLDEST_KERNEL:
        return Finding("kernel", State.OK, release)
    remedy = "boot Linux 6.1 or newer, as Debian 12 has it"
    return Finding("kernel", State.MISSING, f"{release} is too old", remedy)


def _btf() -> Finding:
    path = Path("/sys/kernel/btf/vmlinux")
    if path.exists():
        return Finding("BTF", State.OK, str(path))
    remedy = "boot a kernel built with CONFIG_DEBUG_INFO_BTF=y, as distributions' kernels are"
    return Finding("BTF", State.MISSING, f"no {path}", remedy)


def _bpffs() -> Finding:
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    if any(line.split()[1:3] == [str(BPFFS), "bpf"] for line in mounts):
        return Finding("bpffs", State.OK, str(BPFFS))
    known = "\tbpf\n" in Path("/proc/filesystems").read_text()
    if known:
        return Finding("bpffs", State.OK, f"not mounted; the agent mounts it at {BPFFS}")
    return Finding("bpffs", State.MISSING, "unknown", "boot a kernel with CONFIG_BPF_SYSCALL=y")


def _libbpf() -> Finding:
    try:
        import heddle.datapath.libbpf  # noqa: F401 (loads the library)
    except KernelError as error:
        return Finding("libbpf", State.MISSING, str(error), "apt-get install libbpf1")
    return Finding("libbpf", State.OK, "libbpf.so.1")


def _ring_buffer() -> Finding:
    return _feature("BPF ring buffer", "has_ring_buffer", "boot Linux 5.8 or newer with BPF")


def _redirect_peer() -> Finding:
    return _feature("bpf_redirect_peer", "has_redirect_peer", "boot Linux 5.10 or newer with BPF")


def _feature(name: str, question: str, remedy: str) -> Finding:
    if os.geteuid() != 0:
        return Finding(name, State.UNKNOWN, AS_ROOT)
    try:
        from heddle.datapath import probe
    except KernelError as error:
        return Finding(name, State.UNKNOWN, str(error))
    if getattr(probe, question)():
        return Finding(name, State.OK, "the kernel has it")
    return Finding(name, State.MISSING, "the kernel lacks it", remedy)


def _clsact() -> Finding:
    remedy = "boot a kernel with CONFIG_NET_CLS_ACT, CONFIG_NET_CLS_BPF and CONFIG_VETH"
    return _tried("clsact on veth", _TRY_CLSACT, remedy)


def _shaping() -> Finding:
    remedy = (
        "`modprobe -a sch_htb sch_tbf`, or boot a kernel with CONFIG_NET_SCH_HTB and "
        "CONFIG_NET_SCH_TBF; without, limits of bandwidth are not kept"
    )
    return _tried("limits of bandwidth", _TRY_SHAPING, remedy)


def _tried(name: str, script: str, remedy: str) -> Finding:
    """Whether commands succeed in a network namespace of their own."""
    if not shutil.which("ip") or not shutil.which("tc"):
        return Finding(name, State.UNKNOWN, "needs ip and tc", "apt-get install iproute2")
    as_root = () if os.geteuid() == 0 else _AS_OTHER_USER
    command = ["unshare", *as_root, "--net", "sh", "-ec", script]
    done = subprocess.run(command, check=False, capture_output=True)
    if done.returncode == 0:
        return Finding(name, State.OK, "tried in a network namespace")
    detail = (done.stderr.decode(errors="replace").strip().splitlines() or ["refused"])[-1]
    if os.geteuid() != 0 and "unshare" in detail:
        return Finding(name, State.UNKNOWN, AS_ROOT)
    return Finding(name, State.MISSING, detail, remedy)


def _tun() -> Finding:
    path = Path("/dev/net/tun")
    if path.exists():
        return Finding("TAP devices", State.OK, str(path))
    return Finding("TAP devices", State.MISSING, f"no {path}", "modprobe tun")


def _object() -> Finding:
    for program in ("from_vm", "from_tunnel", "to_underlay"):  # importing the loader needs libbpf
        found = files("heddle.datapath") / "objects" / f"{program}.bpf.o"
        if not found.is_file():
            return Finding("data plane", State.MISSING, f"no {found}", "run scripts/build")
    return Finding("data plane", State.OK, "compiled")


def _program(name: str, program: str) -> Finding:
    # Daemons live in sbin, which is not in everybody's path.
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if found:
        return Finding(name, State.OK, found)
    return Finding(name, State.MISSING, f"no {program}; only VMs need it", _VM_PACKAGES)


def _qemu() -> Finding:
    return _program("QEMU", "qemu-system-x86_64")


def _libvirt() -> Finding:
    return _program("libvirt", "libvirtd")


def _kvm() -> Finding:
    flags = set(re.findall(r"\b(?:vmx|svm)\b", Path("/proc/cpuinfo").read_text()))
    if flags and Path("/dev/kvm").exists():
        return Finding("KVM", State.OK, f"hardware virtualisation ({flags.pop()})")
    return Finding("KVM", State.OK, "no hardware virtualisation here: VMs run under emulation")


def _agent() -> Finding:
    if os.geteuid() != 0:
        return Finding("agent", State.UNKNOWN, AS_ROOT)
    pid = agent_pid()
    detail = f"running, pid {pid}" if pid else "not running; `heddle up FILE` starts it"
    return Finding("agent", State.OK, detail)


CHECKS: tuple[Callable[[], Finding], ...] = (
    _root,
    _kernel,
    _btf,
    _bpffs,
    _libbpf,
    _ring_buffer,
    _redirect_peer,
    _clsact,
    _shaping,
    _tun,
    _object,
    _qemu,
    _libvirt,
    _kvm,
    _agent,
)
