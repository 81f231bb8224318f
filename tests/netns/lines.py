"""What a running program prints, without waiting for it."""

from __future__ import annotations

import os


class Lines:
    """Lines of a pipe, without waiting for them."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._text = b""

    def first(self) -> str:
        """The first line; empty as long as there is none."""
        try:
            self._text += os.read(self._descriptor, 1 << 16)
        except BlockingIOError:
            return ""
        return self._text.split(b"\n")[0].decode() if b"\n" in self._text else ""
