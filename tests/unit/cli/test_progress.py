"""Progress: one rewriting line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import io

from heddle.cli.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_plain_lines_elsewhere() -> None:
    stream = io.StringIO()
    with Progress(stream) as progress:
        progress.say("one")
        progress.say("one")
        progress.say("two")
    assert stream.getvalue() == "one\ntwo\n"


def test_a_terminal_line_is_rewritten_and_taken_away() -> None:
    stream = Terminal()
    with Progress(stream) as progress:
        progress.say("one")
        progress.say("two")
    assert stream.getvalue() == "\r\x1b[Kone\r\x1b[Ktwo\r\x1b[K"


def test_a_long_line_does_not_wrap() -> None:
    stream = Terminal()
    with Progress(stream) as progress:
        progress.say("x" * 500)
    assert len(max(stream.getvalue().split("\r\x1b[K"))) < 500
