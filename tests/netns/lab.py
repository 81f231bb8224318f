"""A private host for tests: network namespace, mounts, state and pins of its own.

What a test starts in it never meets the machine's own network, nor another
test's. ``heddle`` runs as a process, as a user would run it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from heddle.datapath.libbpf import ffi, program_map_ids
from heddle.datapath.libbpf import lib as libbpf
from heddle.datapath.loader import Datapath
from heddle.paths import pin_dir

T = TypeVar("T")

ffi.cdef("int bpf_prog_get_fd_by_id(uint32_t id);")

COMMAND_SECONDS = 120.0
_POLL_SECONDS = 0.01
# A tmpfs over /run/netns keeps the names of containers apart, one over /etc/netns their
# name servers. (`ip netns exec` would do the same for the namespace, but take the bpffs
# away with /sys.)
_BECOME_HOST = (
    "mkdir -p /run/netns /etc/netns; mount -t tmpfs tmpfs /run/netns; "
    "mount -t tmpfs tmpfs /etc/netns; ip link set lo up; echo up; read wait"
)


def eventually(condition: Callable[[], T | None], what: str, seconds: float = 60.0) -> T:
    """What the condition gives, once it gives something true."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(_POLL_SECONDS)


class Lab:
    """One private host. ``with_lab`` makes and removes it."""

    def __init__(self, root: Path, holder: subprocess.Popen[bytes]) -> None:
        self.root = root
        self.name = f"lab-{os.getpid()}-{secrets.token_hex(4)}"
        self._holder = holder
        self.environment = {
            **os.environ,
            "HEDDLE_ROOT": str(root),
            "HEDDLE_HOST": self.name,
            "COLUMNS": "100",
        }

    # ---- running things ------------------------------------------------

    def command(self, *argv: str) -> list[str]:
        """``argv`` with what enters this host before it."""
        proc = f"/proc/{self._holder.pid}/ns"
        return ["nsenter", f"--net={proc}/net", f"--mount={proc}/mnt", "--", *argv]

    def inside(self, machine: str, *argv: str) -> list[str]:
        """``argv`` with what enters one of its containers before it."""
        return self.command("ip", "netns", "exec", f"heddle-{machine}", *argv)

    def run(
        self, *argv: str, check: bool = True, seconds: float = COMMAND_SECONDS
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the host."""
        return self._finish(self.command(*argv), check, seconds)

    def exec(
        self, machine: str, *argv: str, check: bool = True, seconds: float = COMMAND_SECONDS
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in a container."""
        return self._finish(self.inside(machine, *argv), check, seconds)

    def heddle(self, *argv: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the command line."""
        return self.run(sys.executable, "-m", "heddle.cli.main", *map(str, argv), check=check)

    def show(self, *argv: str) -> Any:  # noqa: ANN401 (JSON)
        """What ``heddle show ... --json`` says."""
        return json.loads(self.heddle("show", *argv, "--json").stdout)

    @contextmanager
    def background(self, argv: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
        """A process that ends with the block; its standard streams are pipes."""
        pipe = subprocess.PIPE
        with subprocess.Popen(
            argv, env=self.environment, text=True, stdin=pipe, stdout=pipe, stderr=pipe
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def _finish(
        self, argv: list[str], check: bool, seconds: float
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            argv,
            check=False,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=seconds,
            stdin=subprocess.DEVNULL,
        )
        if check and done.returncode:
            raise AssertionError(
                f"{' '.join(argv[4:])}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
                f"{self.agent_log()}"
            )
        return done

    # ---- files ---------------------------------------------------------

    def write(self, text: str, name: str = "topology.yaml") -> Path:
        """A topology file."""
        file = self.root / name
        file.write_text(text)
        return file

    def agent_log(self) -> str:
        log = self.root / "var/lib/heddle/agent.log"
        return f"--- agent.log\n{log.read_text()[-4000:]}" if log.exists() else ""

    # ---- the agent -----------------------------------------------------

    def agent_pid(self) -> int:
        return int((self.root / "run/heddle/agent.pid").read_text())

    def kill_agent(self) -> None:
        """kill -9, and wait until it has gone."""
        pid = self.agent_pid()
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: not _runs(pid), "the agent's end")

    # ---- what there is -------------------------------------------------

    def device(self, port: str) -> str:
        """The device of a port, given as ``machine:nic``."""
        rows = self.heddle("show", "port").stdout.splitlines()
        row = next(line for line in rows if line.startswith(f"{port} "))
        return next(word for word in row.split() if re.match(r"(tap|hdl)[0-9a-f-]{11}", word))

    def links(self) -> list[dict[str, Any]]:
        """Links of the host, the loopback left out."""
        links = json.loads(self.run("ip", "-json", "-details", "link").stdout)
        return [link for link in links if link["ifname"] != "lo"]

    @contextmanager
    def datapath(self) -> Iterator[Datapath]:
        datapath = Datapath.open(self.name)
        try:
            yield datapath
        finally:
            datapath.close()

    def kernel_ids(self) -> tuple[set[int], set[int]]:
        """Ids of the program and of the maps of this host."""
        with self.datapath() as datapath:
            programs = {program.id for program in datapath.programs}
            return programs, set().union(*(program_map_ids(p.fd) for p in datapath.programs))

    def leftovers(self, ids: tuple[set[int], set[int]] = (set(), set())) -> list[str]:
        """What is here that should not be after ``heddle down``."""
        programs, maps = ids
        found = [f"link {link['ifname']}" for link in self.links()]
        found += [f"namespace {name}" for name in self.run("ls", "/run/netns").stdout.split()]
        found += [f"pin {pin}" for pin in pin_dir(self.name).glob("*")]
        found += [f"process {pid}: {_words(pid)}" for pid in self.processes()]
        found += [f"program {number}" for number in programs if _exists(number, "prog")]
        found += [f"map {number}" for number in maps if _exists(number, "map")]
        return found

    def processes(self) -> list[int]:
        """Processes that were started for this host, the one that holds it left out."""
        return [pid for pid, host in _hosts_of_processes() if host == self.name]

    def remove(self) -> None:
        """Whatever state the test left it in."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        Datapath.unpin(self.name)
        self._holder.communicate()  # closing its standard input ends it


@contextmanager
def with_lab(root: Path) -> Iterator[Lab]:
    """A private host while the block runs."""
    _sweep()
    holder = subprocess.Popen(
        ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-ec", _BECOME_HOST],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"up\n"
    lab = Lab(root, holder)
    try:
        yield lab
    finally:
        lab.remove()


def _sweep() -> None:
    """Remove what test runs left that were killed before they could."""
    for pid, host in _hosts_of_processes():
        if _is_abandoned(host):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    for folder in pin_dir("any").parent.glob("lab-*"):
        if _is_abandoned(folder.name):
            Datapath.unpin(folder.name)


def _is_abandoned(host: str) -> bool:
    """Whether a host is a lab whose test process has gone."""
    found = re.fullmatch(r"lab-(\d+)-[0-9a-f]+", host)
    return found is not None and not _runs(int(found[1]))


def _hosts_of_processes() -> Iterator[tuple[int, str]]:
    """Processes with a HEDDLE_HOST in their environment, and what it is."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            for variable in (folder / "environ").read_bytes().split(b"\0"):
                if variable.startswith(b"HEDDLE_HOST="):
                    yield int(folder.name), variable.partition(b"=")[2].decode()


def _runs(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


def _words(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return "gone"


def _exists(number: int, kind: str) -> bool:
    """Whether the kernel still has a program or map of this id."""
    descriptor = getattr(libbpf, f"bpf_{kind}_get_fd_by_id")(number)
    if descriptor < 0:
        return False
    os.close(descriptor)
    return True
