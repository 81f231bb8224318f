"""A private host: what a benchmark makes can't touch the machine, nor outlive it.

Each figure is measured in mount, network and process namespaces of its own, with
its own /run, /sys and BPF file system. When the process that was started ends,
for whatever reason, the kernel kills what is inside and with it every
namespace, link, program, map and mount.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench.commands import BenchError, run
from heddle import paths

PRIORITY = -10  # niceness
HOST = "bench"
ROOT = Path("/run/heddle-bench")  # HEDDLE_ROOT, in the memory of the private host
HOST_PROC = Path("/run/proc-of-machine")  # kernel threads included
HOST_NAMESPACE = "bench-host"  # name of the private network namespace itself
_IMAGES = "HEDDLE_BENCH_IMAGES"  # environment variable: where the machine keeps guest images
# PDEATHSIG takes unshare along when we are killed; --kill-child, what is inside.
_ENTER = ("setpriv", "--pdeathsig", "KILL", "--", "unshare", "--mount", "--net", "--pid")


def measure_inside(figure: str, patience: float) -> str:
    """What ``python -m bench.inside FIGURE`` prints on a new private host; BenchError
    when it takes longer than so many seconds."""
    command = (*_ENTER, "--fork", "--kill-child", sys.executable, "-m", "bench.inside", figure)
    images = str(paths.images_dir())
    environment = {**os.environ, "HEDDLE_ROOT": str(ROOT), "HEDDLE_HOST": HOST, _IMAGES: images}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        output, _ = process.communicate(timeout=patience)
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"no result after {patience:.0f} s") from error
    finally:
        process.kill()
        process.wait()
    if process.returncode:
        raise BenchError(output.strip() or f"ended with exit code {process.returncode}")
    return output


def as_init(main: Callable[[], int]) -> int:
    """Run main in a child while this process, the first of its namespace, buries
    the dead; else an ended daemon would stay a zombie and seem alive."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started us ends us
    child = os.fork()
    if child == 0:
        os.setsid()
        return main()
    while True:
        pid, status = os.wait()
        if pid == child:
            return abs(os.waitstatus_to_exitcode(status))


def cpu_seconds(pid: int) -> float:
    """CPU time of a process with all its threads (the kernel's clock id for it)."""
    return time.clock_gettime((~pid << 3) | 2)


def claim_cpus(pid: int) -> None:
    """Let the session of a process go before other work of the machine, also
    where the kernel shares CPU time between sessions instead of processes."""
    with contextlib.suppress(FileNotFoundError):
        Path(f"/proc/{pid}/autogroup").write_text(str(PRIORITY), encoding="ascii")
    os.setpriority(os.PRIO_PROCESS, pid, PRIORITY)


def furnish() -> None:
    """Give the private host its own /run, /proc, /sys and BPF file system."""
    run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    ROOT.mkdir()
    HOST_PROC.mkdir()
    run("mount", "--bind", "/proc", str(HOST_PROC))
    run("mount", "-t", "proc", "proc", "/proc")
    cgroups = Path("/run/cgroups-of-machine")
    cgroups.mkdir()
    run("mount", "--rbind", "/sys/fs/cgroup", str(cgroups))
    run("mount", "-t", "sysfs", "sysfs", "/sys")
    run("mount", "--rbind", str(cgroups), "/sys/fs/cgroup")
    run("mount", "-t", "bpf", "bpf", "/sys/fs/bpf")
    claim_cpus(os.getpid())
    run("ip", "link", "set", "lo", "up")
    run("ip", "netns", "attach", HOST_NAMESPACE, str(os.getpid()))


def borrow_images() -> None:
    """See the machine's guest images as this host's."""
    folder = paths.images_dir()
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.symlink_to(os.environ[_IMAGES])


def ksoftirqd_schedstat(cpu: int) -> Path:
    """Where the kernel tells the CPU time of a CPU's soft interrupt thread."""
    for comm in HOST_PROC.glob("[0-9]*/comm"):
        try:
            if comm.read_text() == f"ksoftirqd/{cpu}\n":
                return comm.with_name("schedstat")
        except (FileNotFoundError, ProcessLookupError):
            continue  # a process that ended meanwhile
    raise BenchError(f"no ksoftirqd/{cpu}: /proc of the machine shows no kernel threads")
