"""A real etcd on the private host, and what it tells of its work."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.request import urlopen

from bench import private
from bench.commands import BenchError
from heddle.errors import StoreError
from heddle.settings import EtcdSettings, Member
from heddle.store.etcd.store import EtcdStore

PORT = 2379
_PATIENCE = 60.0


def settings(port: int = PORT) -> EtcdSettings:
    return EtcdSettings((Member(f"http://127.0.0.1:{port}", "127.0.0.1", port, False),))


class Etcd:
    """One member. It keeps its data when it is killed and started again."""

    def __init__(self, name: str) -> None:
        self.folder = Path(private.ROOT / name)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Returns once it answers."""
        client, peer = f"http://127.0.0.1:{PORT}", f"http://127.0.0.1:{PORT + 1}"
        options = {
            "data-dir": self.folder,
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "quota-backend-bytes": 8 << 30,
            "unsafe-no-fsync": "true",  # its disk is the memory of the private host
        }
        argv = ["etcd", *(f"--{key}={value}" for key, value in options.items())]
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(argv, stdout=quiet, stderr=quiet)
        self._await()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def metric(self, *names: str) -> float:
        """The sum of what it counts under these names, whatever the labels."""
        with urlopen(f"http://127.0.0.1:{PORT}/metrics", timeout=_PATIENCE) as answer:
            lines = answer.read().decode().splitlines()
        pairs = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
        return sum(float(value) for name, value in pairs if name.partition("{")[0] in names)

    def _await(self) -> None:
        deadline = time.monotonic() + _PATIENCE
        while True:
            with suppress(StoreError), closing(EtcdStore(settings(), "operator")) as store:
                store.statuses("operator")
                return
            if time.monotonic() > deadline:
                raise BenchError(f"etcd does not answer within {_PATIENCE:.0f} s")
            time.sleep(0.1)


@contextmanager
def running_etcd(name: str) -> Iterator[Etcd]:
    etcd = Etcd(name)
    try:
        etcd.start()
        yield etcd
    finally:
        etcd.kill()
    shutil.rmtree(etcd.folder)
