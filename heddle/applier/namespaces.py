"""Named network namespaces under /run/netns, as ``ip netns`` has them.

Ours are known by a mark under the agent's run directory: a file of the
namespace's name that holds its inode, written before the namespace gets its
name. So one that somebody else made, of whatever name, is never taken for ours.
"""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from heddle import paths
from heddle.applier import links
from heddle.applier.netlink import Netlink
from heddle.errors import KernelError

FOLDER = Path("/run/netns")

_LOOPBACK = 1  # its ifindex in every namespace
_CLONE_NEWNET = 0x40000000
_MS_BIND = 4096
_MS_REC = 16384
_MS_SHARED = 1 << 20
_MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)
T = TypeVar("T")


def marks() -> Path:
    """Folder of the marks of this agent's namespaces."""
    return paths.run_dir() / "namespaces"


def ours() -> dict[str, bool]:
    """Names that bear our mark; False where making the namespace was cut short
    or it has been removed by somebody else."""
    if not marks().is_dir():
        return {}
    return {mark.name: is_ours(mark.name) for mark in marks().iterdir()}


def is_ours(name: str) -> bool:
    """Whether a namespace of the name exists and is the one that we made."""
    try:
        return (marks() / name).read_text() == _identity(FOLDER / name)
    except OSError:
        return False


def existing() -> set[str]:
    """Names of all namespaces, whosever."""
    return set(os.listdir(FOLDER)) if FOLDER.is_dir() else set()


def add(name: str) -> bool:
    """Make a namespace with its loopback up; False when it is there already.
    KernelError when the name is taken by a namespace that is not ours."""
    target = FOLDER / name
    if is_ours(name):
        return False
    try:
        _share_folder()
        if _is_mounted(target):
            raise KernelError(
                f"namespace {name} exists and is not heddle's: "
                f"remove it (`ip netns delete {name}`) or rename the machine"
            )
        marks().mkdir(parents=True, exist_ok=True)
        (marks() / name).write_text("")
        target.touch(mode=0o444)
        in_thread(lambda: _give_birth(name))
    except OSError as error:
        raise KernelError(f"namespace {name}: {error.strerror}") from error
    return True


def remove(name: str) -> None:
    """Remove one of ours. It lives on as long as a process is in it."""
    target = FOLDER / name
    try:
        if is_ours(name):
            _libc.umount2(os.fsencode(target), _MNT_DETACH)
        if not _is_mounted(target):
            target.unlink(missing_ok=True)
        (marks() / name).unlink(missing_ok=True)
    except OSError as error:
        raise KernelError(f"namespace {name}: {error.strerror}") from error


def descriptor(name: str) -> int:
    """Open a namespace; the caller closes it."""
    try:
        return os.open(FOLDER / name, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise KernelError(f"namespace {name}: {error.strerror}") from error


def run_in(name: str, work: Callable[[], T]) -> T:
    """Do something inside a namespace, in a thread that ends with it. What
    sockets the work opens stay in the namespace."""

    def inside() -> T:
        namespace = descriptor(name)
        try:
            _check(_libc.setns(namespace, _CLONE_NEWNET), f"enter namespace {name}")
        finally:
            os.close(namespace)
        return work()

    return in_thread(inside)


def netlink_in(name: str) -> Netlink:
    """A netlink socket inside a namespace."""
    return run_in(name, Netlink)


def in_thread(work: Callable[[], T]) -> T:
    """Run in a thread of its own and return, or raise, what it does."""
    with ThreadPoolExecutor(1, "namespace") as pool:
        return pool.submit(work).result()


def _give_birth(name: str) -> None:
    """In a thread: become a new namespace, mark it, and give it its name."""
    _check(_libc.unshare(_CLONE_NEWNET), f"make namespace {name}")
    with Netlink() as netlink:
        netlink.one(links.change(_LOOPBACK, up=True))
    own = Path(f"/proc/self/task/{threading.get_native_id()}/ns/net")
    (marks() / name).write_text(_identity(own))
    source, target = os.fsencode(own), os.fsencode(FOLDER / name)
    _check(_libc.mount(source, target, b"none", _MS_BIND, None), f"name namespace {name}")


def has_root_mount() -> bool:
    """Whether a mount is at `/`: not so in a chroot whose folder is none. Only what is
    mounted there can be kept from others' mounts."""
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return any(line.split()[4] == "/" for line in mounts)


def _identity(path: Path) -> str:
    found = path.stat()
    return f"{found.st_dev}:{found.st_ino}\n"


def _is_mounted(target: Path) -> bool:
    return target.exists() and target.stat().st_dev != target.parent.stat().st_dev


def _share_folder() -> None:
    """Mounts under the folder must be seen by processes that made a mount
    namespace of their own before, as ``ip netns`` takes care of."""
    FOLDER.mkdir(mode=0o755, parents=True, exist_ok=True)
    folder = os.fsencode(FOLDER)
    if _libc.mount(b"", folder, b"none", _MS_SHARED | _MS_REC, None) == 0:
        return
    if ctypes.get_errno() != errno.EINVAL:
        _check(-1, f"share {FOLDER}")
    bind = _libc.mount(folder, folder, b"none", _MS_BIND | _MS_REC, None)
    _check(bind, f"mount {FOLDER}")
    _check(_libc.mount(b"", folder, b"none", _MS_SHARED | _MS_REC, None), f"share {FOLDER}")


def _check(result: int, what: str) -> None:
    if result != 0:
        raise KernelError(f"{what}: {os.strerror(ctypes.get_errno())}")
