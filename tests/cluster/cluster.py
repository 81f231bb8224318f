"""Labs for tests: the real command, with a HEDDLE_ROOT of its own.

What a killed test run has left is taken away before the next one begins.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from heddle.lab import hosts
from heddle.lab.build import destroy, space_of
from heddle.lab.folder import LabFolder, labs, locked
from heddle.lab.plan import LabPlan
from heddle.lab.spaces import Space

T = TypeVar("T")

COMMAND_SECONDS = 240.0
LAB_SECONDS = 700.0  # for what may be given 600 s itself
_POLL_SECONDS = 0.02
_ROOTS = Path(tempfile.gettempdir())
_PREFIX = "heddle-cluster-"


def eventually(condition: Callable[[], T | None], what: str, seconds: float = 60.0) -> T:
    """What the condition gives, once it gives something true."""
    deadline = time.monotonic() + seconds
    while True:
        if found := condition():
            return found
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(_POLL_SECONDS)


class Cluster:
    """A root under which labs are made; most tests make one lab."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environment = {**os.environ, "HEDDLE_ROOT": str(root), "COLUMNS": "100"}

    # ---- the command -----------------------------------------------------

    def heddle(self, *argv: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the command line on this machine."""
        return self.run([*self.command(), *map(str, argv)], check=check)

    @staticmethod
    def command() -> list[str]:
        return [sys.executable, "-m", "heddle.cli.main"]

    def run(
        self, argv: Sequence[str], *, check: bool = True, seconds: float = COMMAND_SECONDS
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
            said = f"{done.stdout}{done.stderr}{self.logs()}"
            raise AssertionError(f"{' '.join(argv)}: exit code {done.returncode}\n{said}")
        return done

    def up(self, text: str, *options: str, name: str = "lab") -> Running:
        """Make a lab, or change it to what this says."""
        argv = ["lab", "up", str(self.write(text)), "--name", name, *options]
        self.run([*self.command(), *argv], seconds=LAB_SECONDS)
        return self.lab(name)

    def write(self, text: str, name: str = "topology.yaml") -> Path:
        file = self.root / name
        file.write_text(text)
        return file

    def lab(self, name: str = "lab") -> Running:
        with _root(self.root):
            return Running(self, LabFolder(name))

    def logs(self) -> str:
        """The ends of all agents' logs."""
        logs = sorted(self.root.glob("var/lib/heddle/labs/*/*/var/lib/heddle/agent.log"))
        return "".join(f"--- {log}\n{log.read_text(errors='replace')[-3000:]}" for log in logs)

    def leftovers(self) -> list[str]:
        """What is here that should not be when no lab is up."""
        found = [f"process {pid}: {words}" for pid, words in self._processes()]
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        found += [f"mount {line.split()[4]}" for line in mounts if str(self.root) in line]
        labs_dir = self.root / "var/lib/heddle/labs"
        return found + [f"file {path}" for path in labs_dir.rglob("*")]

    def _processes(self) -> Iterator[tuple[int, str]]:
        """Those that know our root, by environment or arguments, but this one."""
        wanted = str(self.root).encode()
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (folder / "cmdline").read_bytes()
                mine = int(folder.name) == os.getpid()
                if not mine and wanted in words + (folder / "environ").read_bytes():
                    yield int(folder.name), words.replace(b"\0", b" ").decode(errors="replace")


class Running:
    """A lab that is up."""

    def __init__(self, cluster: Cluster, folder: LabFolder) -> None:
        self.cluster = cluster
        self.folder = folder

    @property
    def plan(self) -> LabPlan:
        plan = self.folder.plan()
        assert plan is not None
        return plan

    def space(self, name: str) -> Space:
        """A host's, or that of etcd or of the underlay."""
        return space_of(self.folder, name)

    def host(self, host: str, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command on a host."""
        return self.cluster.run(self.on(host, *argv), check=check)

    def on(self, host: str, *argv: str) -> list[str]:
        """``argv`` with what runs it on a host before it."""
        told = hosts.environment(self.folder, host)
        wanted = ("HEDDLE_ROOT", "HEDDLE_HOST", "PATH")
        settings = [f"{name}={told[name]}" for name in wanted]
        return self.space(host).entering(["env", *settings, *argv])

    def show(self, *argv: str, host: str = "h1") -> Any:  # noqa: ANN401 (JSON)
        """What ``heddle show ... --json`` says on a host."""
        return json.loads(self.host(host, "heddle", "show", *argv, "--json").stdout)

    def inside(self, machine: str, *argv: str) -> list[str]:
        """``argv`` with what runs it in a container, given as ``host/name``."""
        host, name = machine.split("/")
        return self.on(host, "ip", "netns", "exec", f"heddle-{name}", *argv)

    def exec(
        self, machine: str, *argv: str, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in a container."""
        return self.cluster.run(self.inside(machine, *argv), check=check)

    def pings(self, machine: str, address: str, *options: str) -> bool:
        command = ["ping", "-c", "1", "-W", "1", *options, address]
        return self.exec(machine, *command, check=False).returncode == 0

    def drops(self) -> Counter[str]:
        """Packets that hosts have dropped so far, by host, port and reason."""
        found: Counter[str] = Counter()
        for host in self.plan.own_hosts():
            rows = json.loads(self.host(host.name, "heddle", "drops", "--json").stdout)
            for row in rows:
                found[f"{host.name} {row['port']} {row['reason']}"] += row["packets"]
        return found

    @contextmanager
    def explained(self) -> Iterator[None]:
        """What hosts have dropped meanwhile and know of flows and machines now, and the
        agents' logs, beside what a failure in the block says."""
        before = self.drops()
        try:
            yield
        except AssertionError as error:
            error.add_note(f"dropped meanwhile: {dict(self.drops() - before)}")
            for host in self.plan.own_hosts():
                for what in ("flows", "machine", "port", "agent"):
                    told = self.host(host.name, "heddle", "show", what, "--json", check=False)
                    error.add_note(f"--- {host.name}: {what}\n{told.stdout}{told.stderr}")
            error.add_note(self.cluster.logs())
            raise

    def agent_pid(self, host: str) -> int:
        return int((self.folder.root(host) / "run/heddle/agent.pid").read_text())

    @contextmanager
    def background(self, argv: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
        """A process that ends with the block; its standard streams are pipes."""
        pipe = subprocess.PIPE
        with subprocess.Popen(
            argv,
            env=self.cluster.environment,
            text=True,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
        ) as process:
            try:
                yield process
            finally:
                process.kill()


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A root without labs; none is left when the block ends."""
    _sweep()
    root = _ROOTS / f"{_PREFIX}{os.getpid()}-{secrets.token_hex(3)}"
    root.mkdir(mode=0o755)  # QEMU runs as another user
    try:
        yield Cluster(root)
    finally:
        _clear(root)


def _sweep() -> None:
    for root in _ROOTS.glob(f"{_PREFIX}*"):
        found = re.fullmatch(rf"{_PREFIX}(\d+)-[0-9a-f]+", root.name)
        if found and not Path(f"/proc/{found[1]}").exists():
            _clear(root)


def _clear(root: Path) -> None:
    with _root(root):
        for lab in labs():
            with locked(lab.name):
                destroy(lab, lambda _: None)
    shutil.rmtree(root)


@contextmanager
def _root(root: Path) -> Iterator[None]:
    """With this HEDDLE_ROOT in the environment of the test itself."""
    before = os.environ.get("HEDDLE_ROOT")
    os.environ["HEDDLE_ROOT"] = str(root)
    try:
        yield
    finally:
        del os.environ["HEDDLE_ROOT"]
        if before is not None:
            os.environ["HEDDLE_ROOT"] = before
