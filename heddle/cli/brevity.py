"""Errors name what is wrong. What a name or value has too much of is left out, so
that a line stays one that can be read."""

from __future__ import annotations

import re

from heddle.errors import printable

_WORD = 200  # characters that a path or a name may have; longer words are cut
_WORD_KEPT = 80
_LINE = 1500
# What is kept of a line that is longer even so: its end has the remedy.
_BEGINNING, _END = 1000, 300

_LONG_WORD = re.compile(rf"\S{{{_WORD},}}")


def brief(line: str) -> str:
    """The line, printable, with long words and what makes it far too long cut, and said to be."""
    line = _LONG_WORD.sub(_cut, printable(line))
    if len(line) <= _LINE:
        return line
    left_out = len(line) - _BEGINNING - _END
    return f"{line[:_BEGINNING]}...({left_out} characters more)...{line[-_END:]}"


def _cut(word: re.Match[str]) -> str:
    """With its last character, which may be a closing quote, or a comma after it."""
    text = word[0]
    end = re.search(r"[\"'`]?[,;:.)]*$", text)
    tail = end[0] if end else ""
    left_out = len(text) - _WORD_KEPT - len(tail)
    return f"{text[:_WORD_KEPT]}...({left_out} characters more){tail}"
