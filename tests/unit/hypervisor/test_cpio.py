"""The archive that the kernel unpacks, read back by an independent reader."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import pytest

from heddle.hypervisor.cpio import Archive


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    out = io.BytesIO()
    archive = Archive(out)
    archive.add_file("etc/deep/file", b"four", executable=False)
    archive.add_file("etc/deep/odd", b"12345", executable=True)
    archive.add_file("etc/empty", b"")
    archive.add_link("init", "etc/deep/odd")
    archive.close()
    command = ["busybox", "cpio", "-idm"]
    subprocess.run(command, input=out.getvalue(), cwd=tmp_path, check=True, capture_output=True)
    return tmp_path


def test_contents(unpacked: Path) -> None:
    assert (unpacked / "etc/deep/file").read_bytes() == b"four"
    assert (unpacked / "etc/deep/odd").read_bytes() == b"12345"
    assert (unpacked / "etc/empty").read_bytes() == b""


def test_modes_and_links(unpacked: Path) -> None:
    assert (unpacked / "etc/deep/file").stat().st_mode & 0o777 == 0o644
    assert (unpacked / "etc/deep/odd").stat().st_mode & 0o777 == 0o755
    assert (unpacked / "init").readlink() == Path("etc/deep/odd")


def test_it_knows_what_it_holds() -> None:
    archive = Archive(io.BytesIO())
    archive.add_file("bin/sh", b"")
    assert "bin/sh" in archive
    assert "bin" in archive
    assert "bin/ls" not in archive


def test_equal_contents_make_equal_archives() -> None:
    archives = []
    for _ in range(2):
        out = io.BytesIO()
        archive = Archive(out)
        archive.add_file("a", b"1")
        archive.close()
        archives.append(out.getvalue())
    assert archives[0] == archives[1]
