"""Progress of long work: one line that rewrites itself on a terminal, plain
lines elsewhere. It goes to standard error, so that standard output is the result.
"""

from __future__ import annotations

import shutil
import sys
from types import TracebackType
from typing import TextIO

_ERASE_LINE = "\r\x1b[K"


class Progress:
    """Use as a context manager; leaving it removes the rewriting line."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._last = ""

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.clear()

    def say(self, text: str) -> None:
        """Show where the work stands; saying the same again shows nothing."""
        if text == self._last:
            return
        self._last = text
        if self._terminal:
            width = shutil.get_terminal_size().columns - 1
            self._write(_ERASE_LINE + text[:width])
        else:
            self._write(text + "\n")

    def clear(self) -> None:
        """Take the rewriting line away, before other output."""
        if self._terminal and self._last:
            self._write(_ERASE_LINE)
        self._last = ""

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
