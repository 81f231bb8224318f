"""Hosts as namespaces: network, mounts and hostname of their own.

A space lives as long as it is mounted under the lab's folder; no process need
be in it. Whatever runs in it is known by its UTS namespace, which containers
share with their host, or by its network namespace, which libvirt and QEMU do.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from heddle.applier.namespaces import has_root_mount, in_thread
from heddle.errors import KernelError, OperationError

T = TypeVar("T")

_OPTIONS = {"net": "net", "uts": "uts", "mount": "mnt"}  # of unshare, and the files' names
_KINDS = tuple(_OPTIONS.values())
_TELLING = ("net", "uts")  # kinds of namespaces by which processes are known
_END_SECONDS = 20.0
_POLL_SECONDS = 0.02
_CLONE_NEWNET = 0x40000000
_MS_BIND = 4096
_MS_PRIVATE = 1 << 18
_MNT_DETACH = 2
_libc = ctypes.CDLL(None, use_errno=True)

# Inside the new namespaces. A BPF file system of its own keeps the pins of
# equally named hosts apart, a tmpfs over /run/netns the names of containers, one
# over /etc/netns their name servers, and without control groups libvirt leaves
# none behind. ``$2`` is a folder of namespaces that this one must not keep alive.
_BECOME_HOST = """
echo "$1" >/proc/sys/kernel/hostname
for folder in "$2"/*/spaces; do umount --lazy --recursive "$folder" 2>/dev/null || true; done
mkdir -p /run/netns /etc/netns
mount -t tmpfs tmpfs /run/netns
mount -t tmpfs tmpfs /etc/netns
umount --lazy --recursive /sys
mount -t sysfs sysfs /sys
mount -t bpf bpf /sys/fs/bpf
if [ -s "$3/etc/machine-id" ] && [ -e /etc/machine-id ]; then
    mount --bind "$3/etc/machine-id" /etc/machine-id
fi
ip link set lo up
"""


def require_root_mount() -> None:
    """OperationError where hosts can't have mounts of their own."""
    if not has_root_mount():
        raise OperationError(
            "heddle lab works in a chroot only if its folder is a mount point: "
            "run `mount --bind DIR DIR` before `chroot DIR`"
        )


class Space:
    """One space under a lab's ``folder`` of spaces; it need not exist."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self._path = folder / name

    @property
    def network(self) -> Path:
        """Names its network namespace, also for ``ip link ... netns``."""
        return self._path / "net"

    def exists(self) -> bool:
        return self._ready.exists() and all(_is_mounted(self._path / kind) for kind in _KINDS)

    @property
    def _ready(self) -> Path:
        """There when the space is as it should be, and not half made."""
        return self._path / "ready"

    def make(self, root: Path, lock: int) -> None:
        """Make it anew; ``root`` is the HEDDLE_ROOT of the host. OperationError."""
        self.destroy()
        self._path.mkdir(parents=True)
        for kind in _KINDS:
            (self._path / kind).touch()
        options = [f"--{option}={self._path / kind}" for option, kind in _OPTIONS.items()]
        labs = self._path.parents[2]
        command = ["unshare", *options, "--propagation=private", "sh", "-ec", _BECOME_HOST, "sh"]
        self._become([*command, self.name, str(labs), str(root)], lock)
        self._ready.touch()

    def _become(self, command: Sequence[str], lock: int) -> None:
        """A mount namespace may be mounted only in an older one. Since Linux 6.18
        its age is told by a number of which each CPU has a stock of its own, so
        that a new one can seem older than ours: another CPU makes it younger."""
        *others, last = sorted(os.sched_getaffinity(0))
        for cpu in others:
            with contextlib.suppress(OperationError):
                _run(["taskset", "-c", str(cpu), *command], f"host {self.name}", lock)
                return
        _run(["taskset", "-c", str(last), *command], f"host {self.name}", lock)

    def entering(self, argv: Sequence[str]) -> list[str]:
        """``argv`` with what enters this space before it."""
        options = [f"--{option}={self._path / kind}" for option, kind in _OPTIONS.items()]
        return ["nsenter", *options, "--", *argv]

    def run(self, argv: Sequence[str], lock: int, stdin: str = "") -> str:
        """Run a command in it; what it printed. OperationError with its first words."""
        return _run(self.entering(argv), f"{self.name}: {argv[0]}", lock, stdin)

    def configure(self, commands: Iterable[str], lock: int) -> None:
        """Carry out commands of ``ip`` (without that word) in its network alone,
        so that they can name the networks of others."""
        argv = ["nsenter", f"--net={self.network}", "--", "ip", "-batch", "-"]
        _run(argv, f"{self.name}: ip", lock, "\n".join(commands) + "\n")

    def in_network(self, work: Callable[[], T]) -> T:
        """Do something in its network namespace, in a thread that ends with it."""

        def inside() -> T:
            enter_network(self)
            return work()

        return in_thread(inside)

    def start(
        self, argv: Sequence[str], environment: Mapping[str, str], log: Path
    ) -> subprocess.Popen[bytes]:
        """Start a daemon in it."""
        with log.open("ab") as output:
            return subprocess.Popen(
                self.entering(argv),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd="/",
                env=dict(environment),
            )

    def processes(self) -> list[int]:
        """What runs in it."""
        return _processes(self._identities())

    def destroy(self) -> None:
        """End all processes in it, and let it go. OperationError when one stays."""
        _end_all(self._identities(), self.name)
        if self._path.is_dir():
            self._ready.unlink(missing_ok=True)
            for kind in _KINDS:
                _let_go(self._path / kind)
            self._path.rmdir()

    def _identities(self) -> set[str]:
        """What links under /proc/PID/ns say of processes in it."""
        paths = {kind: self._path / kind for kind in _TELLING}
        return {f"{k}:[{path.stat().st_ino}]" for k, path in paths.items() if _is_mounted(path)}


def prepare(folder: Path) -> None:
    """Make the folder of spaces: mounts in it must not be seen by others, as the
    kernel demands of a mount namespace."""
    folder.mkdir(parents=True, exist_ok=True)
    if not _is_mounted(folder):
        path = os.fsencode(folder)
        _check(_libc.mount(path, path, None, _MS_BIND, None), f"mount {folder}")
        _check(_libc.mount(None, path, None, _MS_PRIVATE, None), f"mount {folder}")


def destroy_all(folder: Path) -> None:
    """Destroy all spaces in a folder, and the folder."""
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        Space(folder, path.name).destroy()
    while _is_mounted(folder):
        _check(_libc.umount2(os.fsencode(folder), _MNT_DETACH), f"unmount {folder}")
    folder.rmdir()


def enter_network(space: Space) -> None:
    """Take the calling thread into the space's network namespace."""
    descriptor = os.open(space.network, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.setns(descriptor, _CLONE_NEWNET), f"enter {space.name}")
    finally:
        os.close(descriptor)


def _let_go(path: Path) -> None:
    while _is_mounted(path):
        _check(_libc.umount2(os.fsencode(path), _MNT_DETACH), f"unmount {path}")
    path.unlink(missing_ok=True)


def _is_mounted(path: Path) -> bool:
    """Whether something is mounted there; a file system is mounted on itself."""
    wanted = str(path).replace(" ", "\\040")
    with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
        return any(line.split(" ", 5)[4] == wanted for line in mounts)


def _end_all(identities: set[str], name: str) -> None:
    deadline = time.monotonic() + _END_SECONDS
    while pids := _processes(identities):
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if time.monotonic() > deadline:
            raise OperationError(f"{name}: processes do not end: {' '.join(map(str, pids))}")
        time.sleep(_POLL_SECONDS)


def _processes(identities: set[str]) -> list[int]:
    """All that are in one of these namespaces; zombies are in none."""
    if not identities:
        return []
    return [int(entry) for entry in os.listdir("/proc") if _is_in(entry, identities)]


def _is_in(entry: str, identities: set[str]) -> bool:
    if not entry.isdigit():
        return False
    try:
        return any(os.readlink(f"/proc/{entry}/ns/{kind}") in identities for kind in _TELLING)
    except OSError:  # it has ended
        return False


def _run(argv: Sequence[str], what: str, lock: int, stdin: str = "") -> str:
    try:
        done = subprocess.run(
            argv,
            check=False,
            input=stdin,
            capture_output=True,
            text=True,
            start_new_session=True,
            pass_fds=(lock,),
        )
    except FileNotFoundError as error:
        raise OperationError(f"{what}: {argv[0]} is missing: apt-get install util-linux") from error
    if done.returncode:
        words = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise OperationError(f"{what}: {words[0] if words else f'exit code {done.returncode}'}")
    return done.stdout


def _check(result: int, what: str) -> None:
    if result != 0:
        raise KernelError(f"{what}: {os.strerror(ctypes.get_errno())}")
