"""The agent as a process: one per host, in the foreground or detached.

SIGTERM and SIGINT end it cleanly and leave the data plane in place: programs
and maps are pinned, links and machines stay, traffic flows on.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import NoReturn, TextIO

from heddle.agent.client import AgentClient, agent_pid
from heddle.errors import AgentError
from heddle.paths import (
    agent_log_file,
    agent_pid_file,
    agent_socket,
    host_name,
    paths_file,
    settings_file,
)

START_SECONDS = 30.0
STOP_SECONDS = 60.0
_POLL_SECONDS = 0.02
_LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def run_agent(*, on_demand: bool = False) -> NoReturn:
    """Be the agent of this host until a signal or the control socket says stop.

    ``on_demand`` marks an agent that `heddle up` started by itself and that
    `heddle down` therefore stops with the last object.
    """
    logging.basicConfig(level=logging.INFO, format=_LOG_FORMAT, stream=sys.stderr)
    with pid_file_held(agent_pid_file()):
        asyncio.run(_run(host_name(), on_demand))
    # A thread may be busy with libvirt, or with building a guest image, for
    # minutes. Python would wait for it; it has to bear `kill -9` anyway.
    logging.shutdown()
    sys.stdout.flush()
    os._exit(0)


async def _run(host: str, on_demand: bool) -> None:
    # Imported here so that `heddle agent --detach`, which only waits for this
    # process, does not load what the agent needs.
    from heddle.agent.advertise import DeviceSender
    from heddle.agent.loop import Agent, Parts
    from heddle.agent.memory import expect_many_objects
    from heddle.agent.notifications import LinkNotifications
    from heddle.agent.probe_socket import ProbeSocket
    from heddle.agent.prober import Prober
    from heddle.agent.registration import register
    from heddle.agent.relocation import moving_parts
    from heddle.applier.applier import Applier
    from heddle.applier.linux import LinuxKernel
    from heddle.compiler.fragment import Limits
    from heddle.datapath.loader import Datapath
    from heddle.datapath.probes import ProbeFrames
    from heddle.events.records import event_decoder
    from heddle.hypervisor.machines import Machines
    from heddle.settings import read_settings
    from heddle.store.open import open_store

    expect_many_objects()
    settings = read_settings(settings_file())
    with ExitStack() as stack:
        datapath = Datapath.load(host)
        stack.callback(datapath.close)
        store = open_store(settings)
        stack.callback(store.close)
        drops = datapath.ring_buffer("events")
        stack.callback(drops.close)
        notifications = LinkNotifications()
        stack.callback(notifications.close)
        sender = DeviceSender()
        stack.callback(sender.close)
        parts = Parts(
            store=store,
            applier=Applier(LinuxKernel(datapath), settings.capacity),
            limits=Limits(
                dhcp_options=datapath.abi.value("DHCP_OPTIONS_MAX"),
                ra_message=datapath.abi.value("RA_OPTIONS_MAX"),
                groups=datapath.abi.value("GROUPS_MAX"),
                sets=datapath.abi.value("POLICY_SETS_MAX"),
            ),
            machines=Machines(host),
            drops=drops,
            decode_event=event_decoder(datapath.abi),
            notifications=notifications,
            send=sender,
            index_of=_index_of,
            register=partial(register, store, host, settings),
            prober=Prober(ProbeFrames(datapath.abi), ProbeSocket, paths_file()),
            moving=moving_parts(host, settings, datapath, stack),
        )
        agent = Agent(host, parts, agent_socket(), on_demand=on_demand)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, agent.stop)
        await agent.run()


def _index_of(device: str) -> int | None:
    with contextlib.suppress(OSError):
        return socket.if_nametoindex(device)
    return None


@contextmanager
def pid_file_held(path: Path) -> Iterator[None]:
    """Hold the lock that only one agent of a host can hold; the kernel lets go
    of it however the process ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked_pid_file(path) as file:
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _locked_pid_file(path: Path) -> TextIO:
    while True:
        file = path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except BlockingIOError as error:
            file.close()
            raise AgentError(f"an agent of this host runs already: {_holder(path)}") from error
        except FileNotFoundError:
            pass
        file.close()  # of an agent that just ended and took the file away: make it anew


def is_held(path: Path) -> bool:
    """Whether the agent of a pid file runs, be it deaf."""
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def start_detached(*, on_demand: bool = False) -> int:
    """Start an agent of its own session, wait until it answers, return its pid. One
    that somebody else has just started will do.

    AgentError with the last words of its log when it ends before that.
    """
    log_file = agent_log_file()
    log_file.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "heddle.cli.main", "agent"]
    command += ["--on-demand"] if on_demand else []
    with log_file.open("ab") as log:
        begins = log.tell()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
            env=_absolute_environment(),
        )
    deadline = time.monotonic() + START_SECONDS
    while (pid := agent_pid()) is None:
        if process.poll() is not None and not is_held(agent_pid_file()):
            raise AgentError(_last_words(log_file, begins))
        if time.monotonic() > deadline:
            raise AgentError(
                f"the agent does not answer after {START_SECONDS:.0f} s: see {log_file}"
            )
        time.sleep(_POLL_SECONDS)
    process.returncode = 0  # it lives on by itself: Popen need not warn about that
    return pid


def stop_running() -> bool:
    """Stop this host's agent and wait until it has gone; False when none ran."""
    path = agent_pid_file()
    if not is_held(path):
        return False
    holder = _holder(path)
    with contextlib.suppress(AgentError, TimeoutError), AgentClient() as client:
        client.request("stop")
    deadline = time.monotonic() + STOP_SECONDS
    while is_held(path):
        if time.monotonic() > deadline:
            raise AgentError(f"the agent ({holder}) does not stop: end it with kill -9")
        time.sleep(_POLL_SECONDS)
    return True


def _absolute_environment() -> dict[str, str]:
    environment = dict(os.environ)
    if "HEDDLE_ROOT" in environment:
        environment["HEDDLE_ROOT"] = str(Path(environment["HEDDLE_ROOT"]).absolute())
    return environment


def _holder(path: Path) -> str:
    with contextlib.suppress(OSError):
        return f"pid {path.read_text().strip()}"
    return "pid unknown"


def _last_words(log_file: Path, begins: int) -> str:
    """The last line the agent wrote, without the prefix of our own errors."""
    with log_file.open("rb") as log:
        log.seek(begins)
        lines = log.read().decode(errors="replace").splitlines()
    silent = "no room for its log: free space" if _is_full(log_file) else "no word in its log"
    last = lines[-1].removeprefix("heddle: ") if lines else f"{silent} ({log_file})"
    return f"the agent did not start: {last}"


def _is_full(path: Path) -> bool:
    """Whether the file system of a file has no room left."""
    return os.statvfs(path).f_bavail == 0
