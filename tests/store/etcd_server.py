"""Real etcd for tests: on loopback, in a folder of its own, gone with the test
process however that ends."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from heddle.errors import StoreError
from heddle.settings import EtcdSettings, Member
from heddle.store.etcd import messages
from heddle.store.etcd.client import EtcdClient
from heddle.store.etcd.layout import HEAD, ROOT
from heddle.store.etcd.wire import number

START_SECONDS = 30.0

# The kernel ends etcd with the thread that has started it, even if we are
# killed. This one lives as long as the process.
_STARTER = ThreadPoolExecutor(1, "etcd-starter")


def free_ports(count: int) -> list[int]:
    """TCP ports that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(closing(socket.socket())) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class EtcdMember:
    """One process. It keeps its data and ports when it is stopped or killed,
    and started again."""

    def __init__(self, folder: Path, name: str, client_port: int, peer_port: int) -> None:
        self.folder = folder / name
        self.name = name
        self.scheme = "http"
        self.address = "127.0.0.1"
        self.client_port = client_port
        self.peer_url = f"http://127.0.0.1:{peer_port}"
        self.options: list[str] = []
        self.cluster = f"{name}={self.peer_url}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{self.scheme}://{host}:{self.client_port}"

    @property
    def member(self) -> Member:
        return Member(self.url, self.address, self.client_port, self.scheme == "https")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        log = self.folder.with_suffix(".log")
        command = ["setpriv", "--pdeathsig=KILL", "etcd", *self._arguments()]
        with log.open("ab") as output:
            starting = _STARTER.submit(
                subprocess.Popen, command, stdout=output, stderr=output, cwd=log.parent
            )
            self._process = starting.result()

    def _arguments(self) -> list[str]:
        return [
            f"--name={self.name}",
            f"--data-dir={self.folder}",
            f"--listen-client-urls={self.url}",
            f"--advertise-client-urls={self.url}",
            f"--listen-peer-urls={self.peer_url}",
            f"--initial-advertise-peer-urls={self.peer_url}",
            f"--initial-cluster={self.cluster}",
            "--logger=zap",
            *self.options,
        ]

    def last_words(self) -> str:
        """The end of its log."""
        return self.folder.with_suffix(".log").read_text(errors="replace")[-2000:]

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self, frozen: bool) -> None:
        """Let it hang, or go on."""
        assert self._process is not None
        self._process.send_signal(19 if frozen else 18)


class EtcdCluster:
    """Some members, and how to reach them."""

    def __init__(self, folder: Path, members: int = 1, options: Sequence[str] = ()) -> None:
        ports = free_ports(2 * members)
        self.members = [
            EtcdMember(folder, f"m{index}", ports[2 * index], ports[2 * index + 1])
            for index in range(members)
        ]
        cluster = ",".join(member.cluster for member in self.members)
        for member in self.members:
            member.cluster = cluster
            member.options = list(options)

    @property
    def settings(self) -> EtcdSettings:
        return EtcdSettings(tuple(member.member for member in self.members))

    def start(self) -> None:
        for member in self.members:
            member.start()
        self.wait(self.settings)

    def wait(self, settings: EtcdSettings) -> None:
        """Until it serves."""
        deadline = time.monotonic() + START_SECONDS
        with closing(EtcdClient(settings)) as client:
            while True:
                try:
                    client.range(HEAD)
                    return
                except StoreError as error:
                    if time.monotonic() > deadline:
                        logs = [member.last_words() for member in self.members]
                        raise AssertionError("\n".join([str(error), *logs])) from error

    def clear(self) -> None:
        """Forget everything of heddle's, the past as well."""
        with closing(EtcdClient(self.settings)) as client:
            root = ROOT.encode()
            client.overwrite(
                [messages.delete(root, messages.end_of(root)), messages.put(b"/", b"")]
            )
        self.compact()

    def compact(self) -> int:
        """Forget the past; return the revision up to which."""
        with closing(EtcdClient(self.settings)) as client:
            revision = client.range(b"/").revision
            physical = number(1, revision) + number(2, 1)  # wait until it is done
            client.read("/etcdserverpb.KV/Compact", physical)
            return revision

    def stop(self) -> None:
        for member in self.members:
            member.kill()


@contextmanager
def etcd_cluster(
    folder: Path, members: int = 1, options: Sequence[str] = ()
) -> Iterator[EtcdCluster]:
    """A cluster that serves."""
    cluster = EtcdCluster(folder, members, options)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)
