"""Runs a command as on a machine of its own, and tells what it leaves behind.

The machine is a network and a mount namespace: an uplink that carries nothing
else and leads nowhere, and no file of others in /var/tmp, /run/netns and the BPF
file system.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import heddle

CHECKOUT = Path(heddle.__file__).parent.parent
DEADLINE = 240  # seconds, for anything that is waited for

_MACHINE = """
set -e
mkdir -p /var/lib/heddle/images
mount --bind "$1" /var/lib/heddle/images
shift
ip link set lo up
ip link add uplink type veth peer name outside
echo 1 >/proc/sys/net/ipv6/conf/uplink/disable_ipv6
ip address add 192.0.2.1/24 dev uplink
ip link set outside up
ip link set uplink up
ip route add default via 192.0.2.2
mkdir -p /run/netns
mount -t tmpfs tmpfs /run/netns
mount -t tmpfs -o mode=1777 tmpfs /var/tmp
sys=$(mktemp -d /var/tmp/sys.XXXXXX)
mount -t sysfs sysfs "$sys"
mount --rbind /sys/fs/cgroup "$sys/fs/cgroup"
mount -t bpf bpf "$sys/fs/bpf"
mount --rbind "$sys" /sys
umount -l "$sys"
rmdir "$sys"
trap : INT # the command answers it
"$@" && status=0 || status=$?
for link in /sys/class/net/*; do echo "left: link ${link##*/}"; done
find /var/tmp /run/netns -mindepth 1 -printf 'left: %p\\n'
find /sys/fs/bpf -mindepth 1 ! -type d ! -name '*.debug' -printf 'left: %p\\n'
exit $status
"""
_OWN_LINKS = {"link lo", "link uplink", "link outside"}


class Running:
    """A command under way on a machine of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        wait_for(lambda: _network_of(process.pid) != _network_of(os.getpid()))
        self._network = _network_of(process.pid)

    def interrupt(self) -> None:
        """What Ctrl-C does: a signal to the whole process group."""
        os.killpg(self._process.pid, signal.SIGINT)

    def wait_for_program(self, name: str) -> None:
        """Wait until a program of this name runs, or fail when the command ends before."""

        def runs() -> bool:
            assert self._process.poll() is None, self._process.communicate()[0]
            return any(name in _command(pid) for pid in self._pids())

        wait_for(runs)

    def finish(self) -> tuple[int, str]:
        """Exit code and output, after a check that nothing is left behind."""
        output, _ = self._process.communicate(timeout=DEADLINE)
        left = set(re.findall(r"^left: (.*)$", output, re.MULTILINE))
        assert left == _OWN_LINKS, output
        wait_for(lambda: not self._pids())
        return self._process.returncode, output

    def _pids(self) -> list[int]:
        """Whatever runs in the network namespace: agent, libvirt, QEMU."""
        pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
        return [pid for pid in pids if _network_of(pid) == self._network]


@contextmanager
def private_machine(*command: str | Path, images: Path) -> Iterator[Running]:
    """Start ``command`` in the checkout; end it with SIGINT if it still runs.
    ``images`` is a folder of guest images, since no mirror can be reached."""
    process = subprocess.Popen(
        ["unshare", "--net", "--mount", "bash", "-c", _MACHINE, "bash", images, *command],
        cwd=CHECKOUT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield Running(process)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=DEADLINE)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _network_of(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/net")
    except OSError:  # it has ended
        return ""


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""
