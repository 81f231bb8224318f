"""What is wrong with a topology file, collected so that all of it is shown at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from heddle.errors import TopologyError, printable

KeyPath = tuple[str | int, ...]
"""Where a value stands in the file: keys and list indexes from the root."""

_SINGULAR = {
    "hosts": "host",
    "networks": "network",
    "routers": "router",
    "address_groups": "address group",
    "security_groups": "security group",
    "machines": "machine",
}


@dataclass(frozen=True, slots=True)
class SourceMap:
    """Lines (from 1) of everything in a file."""

    file: Path
    lines: Mapping[KeyPath, int]

    def line(self, path: KeyPath) -> int:
        """The line of the value, or of what surrounds it when it is missing.

        Keys that the schema puts in between, such as the index of an only item
        or the ``rules`` of a mere list, are not in the file and passed over.
        """
        found: KeyPath = ()
        for key in path:
            if (*found, key) in self.lines:
                found = (*found, key)
        return self.lines.get(found, 1)

    def message(self, path: KeyPath, what: str, line: int | None = None) -> str:
        """``file:line: object: what``."""
        label, what = printable(describe_path(path)), printable(what)
        place = f"{self.file}:{line or self.line(path)}: "
        return f"{place}{label}: {what}" if label else f"{place}{what}"


class Problems:
    """Collects problems; ``raise_if_any`` shows all of them in file order."""

    def __init__(self, source: SourceMap) -> None:
        self.source = source
        self._found: dict[str, int] = {}

    def add(self, path: KeyPath, what: str, line: int | None = None) -> None:
        """``what`` reads "what is wrong; what would be right". ``line`` is given
        when it is not the line of ``path``."""
        message = self.source.message(path, what, line)
        self._found.setdefault(message, line or self.source.line(path))

    def raise_if_any(self) -> None:
        if self._found:
            ordered = sorted(self._found, key=lambda message: self._found[message])
            raise TopologyError("\n".join(ordered))


def describe_path(path: KeyPath) -> str:
    """The object for a person: ``machine vm0, nic 1, address``."""
    if not path:
        return ""
    head = str(path[0])
    if len(path) == 1:
        return head
    name = path[1] if path[1] != "" else '""'
    parts = [f"{_SINGULAR.get(head, head)} {name}"]
    for key in path[2:]:
        if isinstance(key, int):
            # NICs are numbered as the guest's devices are; the line tells the rest.
            items = {"nics": f"nic {key}", "rules": "rule"}
            parts[-1] = items.get(parts[-1], parts[-1])
        elif key != parts[-1]:
            parts.append(key)
    return ", ".join(parts)


def shown(value: object) -> str:
    """A value of the file in a message: text in quotes, ``true`` as YAML has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    return "nothing" if value is None else f'"{value}"' if isinstance(value, str) else str(value)


def suggestion(wrong: str, known: Iterable[str]) -> str:
    """``did you mean "x"?``, or the list of what there is."""
    names = sorted(known)
    if close := difflib.get_close_matches(wrong, names, n=1):
        return f'did you mean "{close[0]}"?'
    if not names:
        return "there is none"
    shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return f"there is {shown}"
