"""Is a libvirt daemon there? Asked of real sockets, by libvirt itself."""

from __future__ import annotations

import contextlib
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest

from heddle.errors import HypervisorError
from heddle.hypervisor import libvirtd

PATIENCE = 20.0


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where a private libvirt has its socket. Names of sockets have to be short."""
    with tempfile.TemporaryDirectory() as root:
        monkeypatch.setenv("HEDDLE_ROOT", root)
        folder = Path(root) / "run/libvirt"
        folder.mkdir(parents=True)
        yield folder / "libvirt-sock"


@contextlib.contextmanager
def daemon(place: Path) -> Iterator[socket.socket]:
    """Somebody who listens, and takes no connection by himself."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(place))
        listening.listen(0)
        listening.settimeout(PATIENCE)
        yield listening


def test_without_a_socket_nobody_is_there(place: Path) -> None:
    assert libvirtd.connect() is None


def test_a_socket_that_a_dead_daemon_left(place: Path) -> None:
    with daemon(place):
        pass
    assert place.is_socket()
    assert libvirtd.connect() is None


def test_one_that_closes_its_connections_is_there(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with too many of them. It is asked again, and not for ever."""
    monkeypatch.setattr(libvirtd, "_BUSY_SECONDS", 0.5)
    taken = []
    with daemon(place) as listening:

        def turn_away() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    taken.append(connection.close())

        thread = threading.Thread(target=turn_away)
        thread.start()
        with pytest.raises(HypervisorError, match="libvirt refuses the connection"):
            libvirtd.connect()
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert len(taken) > 1


def test_one_whose_backlog_is_full_is_there(place: Path) -> None:
    """Until it has time for us, or is gone: then nobody is there."""
    found: list[object] = []
    with daemon(place) as listening, contextlib.ExitStack() as waiting:
        with contextlib.suppress(BlockingIOError):
            while True:
                client = waiting.enter_context(socket.socket(socket.AF_UNIX))
                client.setblocking(False)
                client.connect(str(place))
        thread = threading.Thread(target=lambda: found.append(libvirtd.connect()))
        thread.start()
        time_left = time.monotonic() + PATIENCE
        while not _sleeps_in_connect(thread) and time.monotonic() < time_left:
            thread.join(0.01)
        assert not found
        listening.accept()[0].close()
        listening.accept()[0].close()  # ours, or the last of the others
        assert not found
    thread.join(PATIENCE)
    assert found == [None]


def _sleeps_in_connect(thread: threading.Thread) -> bool:
    """Whether the kernel lets a thread wait for room in a backlog."""
    call = Path(f"/proc/self/task/{thread.native_id}/syscall").read_text().split()
    return call[0] == "42"  # connect(2) on x86-64


def test_without_an_emulator_the_package_is_named() -> None:
    error = libvirt.libvirtError("")
    words = "unsupported configuration: No emulator found for arch 'x86_64'"
    error.err = (libvirt.VIR_ERR_CONFIG_UNSUPPORTED, 0, words, 2, None, None, None, 0, 0)
    with (
        pytest.raises(HypervisorError, match=f"machine vm0: {words}: apt-get install qemu-system"),
        libvirtd.libvirt_errors("machine vm0"),
    ):
        raise error
