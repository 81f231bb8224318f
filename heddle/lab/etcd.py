"""The etcd servers of a lab."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

from heddle.errors import OperationError
from heddle.lab.plan import LabPlan
from heddle.lab.spaces import Space

PROGRAM = "etcd"
_START_SECONDS = 60.0
_POLL_SECONDS = 0.05


def require_etcd() -> None:
    """OperationError with the remedy when it is not installed."""
    if shutil.which(PROGRAM) is None:
        raise OperationError("etcd is missing: apt-get install etcd-server")


def member_name(number: int) -> str:
    """Of a server, from 1."""
    return f"etcd{number}"


def start_members(space: Space, folder: Path, plan: LabPlan) -> None:
    """Start the servers that do not run."""
    folder.mkdir(mode=0o700, exist_ok=True)
    for number in range(1, len(plan.members) + 1):
        if member_pid(folder, number) is None:
            _start(space, folder, plan, number)


def member_pid(folder: Path, number: int) -> int | None:
    """The pid of a server; None when it does not run."""
    try:
        pid = int(_pid_file(folder, number).read_text())
        program = Path(f"/proc/{pid}/exe").readlink().name
    except (OSError, ValueError):
        return None
    return pid if program == PROGRAM else None


def stop_member(folder: Path, number: int) -> bool:
    """Kill a server as a crash would; False when it does not run."""
    pid = member_pid(folder, number)
    if pid is not None:
        os.kill(pid, signal.SIGKILL)
    return pid is not None


def wait_for_members(space: Space, folder: Path, plan: LabPlan) -> None:
    """Until a majority answers clients. OperationError after a while."""
    deadline = time.monotonic() + _START_SECONDS
    while not space.in_network(lambda: _answers(plan)):
        if time.monotonic() > deadline:
            raise OperationError(f"etcd does not answer: see {folder}/*.log")
        time.sleep(_POLL_SECONDS)


def _start(space: Space, folder: Path, plan: LabPlan, number: int) -> None:
    name = member_name(number)
    client, peer = plan.endpoints[number - 1], plan.peers[number - 1]
    cluster = ",".join(f"{member_name(i)}={url}" for i, url in enumerate(plan.peers, start=1))
    options = {
        "name": name,
        "data-dir": str(folder / name),
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": cluster,
        "initial-cluster-token": plan.name,
        "initial-cluster-state": "new",
    }
    argv = [PROGRAM, *(f"--{option}={value}" for option, value in options.items())]
    # Without what an operator may have set for a server of his own.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ETCD")}
    process = space.start(argv, environment, folder / f"{name}.log")
    _pid_file(folder, number).write_text(f"{process.pid}\n")
    process.returncode = 0  # it lives on by itself: Popen need not warn about that


def _pid_file(folder: Path, number: int) -> Path:
    return folder / f"{member_name(number)}.pid"


def _answers(plan: LabPlan) -> bool:
    """Whether a server is healthy, which takes a majority of them."""
    import urllib.request

    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for endpoint in plan.endpoints:
        try:
            with opener.open(f"{endpoint}/health", timeout=2) as answer:
                if b'"true"' in answer.read():
                    return True
        except OSError:
            continue
    return False
