"""The libvirt daemon: which one is ours, starting it, and its errors.

Where ``HEDDLE_ROOT`` is set, many hosts live on one machine. Each has a libvirt
of its own then, in a mount namespace that lays folders under that root over
libvirt's; its socket is seen from outside under ``run/libvirt``. So machines of
the same name do not meet, and QEMU runs in the network namespace of the agent.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import grp
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import libvirt

from heddle import paths
from heddle.errors import HypervisorError
from heddle.hypervisor.accelerator import KVM_DEVICE

Progress = Callable[[str], None]

_SYSTEM_URI = "qemu:///system"
_SYSTEMD = Path("/run/systemd/system")  # exists where systemd is process 1
_START_SECONDS = 20.0
_STOP_SECONDS = 10.0
_POLL_SECONDS = 0.05
_BUSY_SECONDS = 5.0
_NOBODY_THERE = (errno.ENOENT, errno.ECONNREFUSED)  # no socket; one that a dead daemon left
# A daemon is there, and has closed the connection or did not take it.
_BUSY = (errno.EAGAIN, errno.EINTR, errno.EIO, errno.EPIPE, errno.ECONNRESET, errno.ETIMEDOUT)
# In the order of starting. A libvirtd that we started ends by itself when no
# machine runs and nobody is connected; virtlogd must be there as long as it is.
_OPTIONS: dict[str, tuple[str, ...]] = {"virtlogd": (), "libvirtd": ("--timeout", "30")}
_KVM_GROUP = "kvm"  # of QEMU's user
_PRIVATE_FOLDERS = (
    "etc/libvirt",
    "run/libvirt",
    "var/cache/libvirt",
    "var/lib/libvirt",
    "var/log/libvirt",
)
_IN_NAMESPACE = ["unshare", "--propagation", "unchanged", "--mount"]
# In a chroot nothing is mounted at /, so the namespace's own root is looked for.
_BIND_AND_RUN = """
mount --make-rslave / 2>/dev/null || nsenter --mount=/proc/self/ns/mnt mount --make-rslave /
[ -z "$1" ] || echo "$1" >/proc/sys/kernel/hostname
shift
while [ "$1" != -- ]; do mount --bind "$1" "$2"; shift 2; done
shift
exec "$@"
"""
_QEMU_SETTINGS = "etc/libvirt/qemu.conf"
_DAEMON_SETTINGS = "etc/libvirt/libvirtd.conf"
_HOSTS = "etc/hosts"
_HOOK = "etc/libvirt/hooks/qemu"  # asked by libvirt before it does something
_HOOK_WORD = "libvirt-hook"
_HOOK_COMMAND = f"-m heddle.cli.main {_HOOK_WORD}"
_MOUNTS = Path("/proc/self/mountinfo")  # the fifth word of a line is the mount point

# libvirt would print every error to stderr beside raising it.
libvirt.registerErrorHandler(lambda _context, _error: None, None)


def connection_uri() -> str:
    """URI of this host's libvirt, also for virsh."""
    root = _private_root()
    return f"qemu+unix:///system?socket={root}/run/libvirt/libvirt-sock" if root else _SYSTEM_URI


def hook_file() -> Path:
    """What this host's libvirt asks before a VM comes here."""
    return Path(_private_root() or "/") / _HOOK


def is_hooked() -> bool:
    """Whether that asks heddle, as far as one can see from outside."""
    try:
        return os.access(hook_file(), os.X_OK) and _HOOK_WORD in hook_file().read_text()
    except (OSError, UnicodeDecodeError):
        return False


def connect() -> libvirt.virConnect | None:
    """A connection to this host's libvirt, None where no daemon runs. One that has no
    time to take the connection is asked again, for ``_BUSY_SECONDS``.

    Raises HypervisorError when one runs but refuses.
    """
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            return libvirt.open(connection_uri())
        except libvirt.libvirtError as error:
            reason = _errno(error)
            if reason in _NOBODY_THERE:
                return None
            if reason not in _BUSY or time.monotonic() > deadline:
                raise _explained("libvirt refuses the connection", error) from error
        time.sleep(_POLL_SECONDS)


def _errno(error: libvirt.libvirtError) -> int | None:
    """Of the system call that has failed, None where that is not the cause."""
    if error.get_error_code() != libvirt.VIR_ERR_SYSTEM_ERROR:
        return None
    number: int | None = error.get_int1()
    return number


def ensure_libvirtd(progress: Progress = lambda _: None) -> libvirt.virConnect:
    """A connection to this host's libvirt, starting the daemons where none runs.

    ``progress`` is told when that happens. Raises HypervisorError.
    """
    if (connection := connect()) is not None:
        return connection
    with _starting_alone():
        if (connection := connect()) is not None:  # somebody was faster
            return connection
        progress("no libvirt daemon runs here: starting virtlogd and libvirtd")
        _start()
        return _first_connection()


def _first_connection() -> libvirt.virConnect:
    """Wait until a daemon that was just started answers."""
    deadline = time.monotonic() + _START_SECONDS
    while (connection := connect()) is None:
        if time.monotonic() > deadline:
            raise HypervisorError(
                f"libvirtd does not answer {_START_SECONDS:.0f} s after its start: "
                "run libvirtd in a terminal to see why"
            )
        time.sleep(_POLL_SECONDS)
    return connection


@contextmanager
def _starting_alone() -> Iterator[None]:
    """Keep agent and command line from starting daemons at the same time."""
    run_dir = paths.run_dir()
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        lock = (run_dir / "libvirt.lock").open("w")
    except OSError as error:
        raise HypervisorError(
            f"libvirt cannot be started: {run_dir}: {error.strerror}: run as root"
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def stop_own_daemons() -> bool:
    """End the daemons that ``ensure_libvirtd`` started, unless a machine runs.

    Returns whether any was ended. For tidy leaving: idle ones end by themselves.
    """
    connection = connect()
    if connection is not None:
        with contextlib.closing(connection), libvirt_errors("libvirt"):
            if connection.numOfDomains():
                return False
    ended = [_end(paths.run_dir() / f"{daemon}.pid") for daemon in reversed(_OPTIONS)]
    return any(ended)


@contextmanager
def libvirt_errors(what: str) -> Iterator[None]:
    """Turn libvirt's errors into a HypervisorError that begins with ``what``."""
    try:
        yield
    except libvirt.libvirtError as error:
        raise _explained(what, error) from error


_REMEDIES = {
    libvirt.VIR_ERR_NO_DOMAIN: "run heddle apply to define it again",
    libvirt.VIR_ERR_AGENT_UNRESPONSIVE: "wait until it has booted, "
    "or install qemu-guest-agent in it",
    libvirt.VIR_ERR_AUTH_FAILED: "run as root",
    libvirt.VIR_ERR_OPERATION_TIMEOUT: "try again when the host is less busy",
}


# What libvirt only passes on from QEMU or the kernel, by words of it.
_REMEDIES_BY_WORDS = {
    "No emulator found": "apt-get install qemu-system-x86",
    "Cannot allocate memory": "give it less memory in the topology file, or free some",
    "Cannot access backing file": "put it there, or name another one by qemu-img rebase -u",
}
_FROM_QEMU = re.compile(
    r"internal error: (process exited while connecting to|qemu unexpectedly closed the) monitor: "
    r"|[\d-]+T[\d:.]+Z qemu-system-\w+: "
)


def _explained(what: str, error: libvirt.libvirtError) -> HypervisorError:
    message = " ".join((error.get_error_message() or str(error)).split())
    remedies = (remedy for words, remedy in _REMEDIES_BY_WORDS.items() if words in message)
    remedy = next(remedies, None) or _REMEDIES.get(
        error.get_error_code(), f"see {_log_folder()} for what QEMU said, then try again"
    )
    return HypervisorError(f"{what}: {_FROM_QEMU.sub('', message)}: {remedy}")


def _log_folder() -> Path:
    return (_private_root() or Path("/")) / "var/log/libvirt/qemu"


def _private_root() -> Path | None:
    root = paths.run_dir().parents[1].resolve()
    return None if root == Path("/") else root


def _start() -> None:
    root = _private_root()
    if root is None and _SYSTEMD.exists():
        _run(["systemctl", "start", "virtlogd.service", "libvirtd.service"])
        return
    run_dir = paths.run_dir()
    _open_kvm_to_qemu()
    mounts = [*_private_folders(root), *_chroot_settings(root)]
    if root is not None:
        _write_private_settings(root)
    name = ""
    if root is not None and paths.host_name() != socket.gethostname():
        name = paths.host_name()
        mounts.append(_own_hosts_file(root, name))
    prefix = _with_mounts(mounts, name)
    for daemon, options in _OPTIONS.items():
        pid_file = run_dir / f"{daemon}.pid"
        if _alive(pid_file) is None:
            listen = ["--listen"] if daemon == "libvirtd" and _listens(root) else []
            command = [daemon, "--daemon", "--pid-file", str(pid_file), *options, *listen]
            _run([*prefix, *command])


def _own_hosts_file(root: Path, name: str) -> tuple[Path, Path]:
    """Names the host: libvirt asks who bears its hostname, and then no name server."""
    file = root / _HOSTS
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"127.0.0.1 localhost\n127.0.1.1 {name}\n")
    return file, Path("/") / _HOSTS


def _with_mounts(mounts: list[tuple[Path, Path]], name: str) -> list[str]:
    """What to put before a command that shall see each first path at the second, on a
    host of that name, if it is not empty."""
    if not mounts:
        return []
    pairs = [str(path) for pair in mounts for path in pair]
    names = ["--uts"] if name else []
    return [*_IN_NAMESPACE, *names, "sh", "-ec", _BIND_AND_RUN, "sh", name, *pairs, "--"]


def _private_folders(root: Path | None) -> Iterator[tuple[Path, Path]]:
    """Folders under ``root``, and those of libvirt that they stand in for."""
    for folder in _PRIVATE_FOLDERS if root is not None else ():
        private, public = Path(root or "/") / folder, Path("/") / folder
        private.mkdir(parents=True, exist_ok=True)
        public.mkdir(parents=True, exist_ok=True)
        yield private, public


def _write_private_settings(root: Path) -> None:
    """Tell this host from others on the machine: libvirt moves no domain to a host
    that seems to be the same. What a lab has written stays."""
    hook = root / _HOOK
    hook.parent.mkdir(parents=True, exist_ok=True)
    variables = f"HEDDLE_ROOT={root} HEDDLE_HOST={paths.host_name()}"
    command = f'exec env {variables} {sys.executable} {_HOOK_COMMAND} "$@"'
    hook.write_text(f'#!/bin/sh\n[ "$2" = migrate ] || exit 0\n{command}\n')
    hook.chmod(0o755)
    settings = root / _DAEMON_SETTINGS
    if not settings.exists():
        number = uuid.uuid5(uuid.NAMESPACE_DNS, paths.host_name())
        settings.write_text(f'host_uuid = "{number}"\n')


def _listens(root: Path | None) -> bool:
    """Whether the daemon's settings want it to take connections of other hosts."""
    settings = (root or Path("/")) / _DAEMON_SETTINGS
    with contextlib.suppress(OSError):
        return root is not None and "listen_tcp = 1" in settings.read_text()
    return False


def _chroot_settings(root: Path | None) -> Iterator[tuple[Path, Path]]:
    """Settings without a /dev of QEMU's own, which libvirt can't make in a chroot."""
    if any(line.split()[4] == "/" for line in _MOUNTS.read_text().splitlines()):
        return
    public = Path("/") / _QEMU_SETTINGS
    if root is None:
        settings = paths.run_dir() / public.name
        settings.write_text(public.read_text() + "\nnamespaces = []\n")
        yield settings, public
    else:
        (root / _QEMU_SETTINGS).write_text("namespaces = []\n")


def _open_kvm_to_qemu() -> None:
    """Give QEMU's group /dev/kvm, as udev does where it runs, even if guests are
    emulated: while libvirt finds that QEMU may not open what QEMU, when asked
    about its abilities, did open, it asks again at every request, for seconds.
    """
    with contextlib.suppress(OSError, KeyError):
        device, group = KVM_DEVICE.stat(), grp.getgrnam(_KVM_GROUP).gr_gid
        is_open = device.st_mode & stat.S_IRGRP and device.st_gid == group
        if not is_open and not device.st_mode & stat.S_IROTH:
            os.chown(KVM_DEVICE, -1, group)
            KVM_DEVICE.chmod(0o660)


def _run(command: list[str]) -> None:
    try:
        subprocess.run(
            command, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError as error:
        raise HypervisorError(
            f"{command[0]} is missing: run apt-get install libvirt-daemon-system qemu-system-x86"
        ) from error
    except subprocess.CalledProcessError as error:
        reason = (error.stderr.strip().splitlines() or [f"exit code {error.returncode}"])[-1]
        raise HypervisorError(
            f"libvirt could not be started ({reason}): run as root, and "
            "apt-get install libvirt-daemon-system qemu-system-x86 if they are missing"
        ) from error


def _end(pid_file: Path) -> bool:
    """SIGTERM the daemon of a pid file and wait for its end; False if none runs."""
    pid = _alive(pid_file)
    if pid is None:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    while _alive(pid_file) is not None and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return True


def _alive(pid_file: Path) -> int | None:
    """The pid in the file, if it is that daemon's. (A zombie has no ``exe``.)"""
    with contextlib.suppress(OSError, ValueError):
        pid = int(pid_file.read_text())
        program = Path(f"/proc/{pid}/exe").readlink()
        return pid if program.name == pid_file.stem else None
    return None
