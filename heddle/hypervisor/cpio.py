"""Writes cpio archives in the format that the kernel unpacks as an initramfs.

The format is "newc": a header of 8-digit hexadecimal numbers, the name, the
content, each padded to 4 bytes (Documentation/driver-api/early-userspace/
buffer-format.rst of the kernel).
"""

from __future__ import annotations

import stat
from pathlib import PurePosixPath
from typing import BinaryIO


class Archive:
    """A cpio archive being written. Folders above an entry are added by themselves."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._inode = 0
        self._names: set[PurePosixPath] = set()

    def add_file(self, name: str, content: bytes, *, executable: bool = False) -> None:
        self._add(name, stat.S_IFREG | (0o755 if executable else 0o644), content)

    def add_link(self, name: str, target: str) -> None:
        """A symbolic link."""
        self._add(name, stat.S_IFLNK | 0o777, target.encode())

    def close(self) -> None:
        """Write the trailer. The stream stays open."""
        self._write_entry("TRAILER!!!", 0, b"")

    def __contains__(self, name: str) -> bool:
        return PurePosixPath(name) in self._names

    def _add(self, name: str, mode: int, content: bytes) -> None:
        path = PurePosixPath(name)
        for folder in reversed(path.parents[:-1]):
            if folder not in self._names:
                self._names.add(folder)
                self._write_entry(str(folder), stat.S_IFDIR | 0o755, b"")
        self._names.add(path)
        self._write_entry(str(path), mode, content)

    def _write_entry(self, name: str, mode: int, content: bytes) -> None:
        self._inode += 1
        raw_name = name.encode() + b"\0"
        fields = (self._inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(raw_name), 0)
        header = b"070701" + b"".join(b"%08x" % field for field in fields)
        self._write_padded(header + raw_name)
        self._write_padded(content)

    def _write_padded(self, data: bytes) -> None:
        self._out.write(data + bytes(-len(data) % 4))
