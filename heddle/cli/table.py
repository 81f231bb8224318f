"""Plain, aligned tables: the one way in which every command prints rows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence


def render(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Rows under upper-case headers, columns two blanks apart, numbers to the
    right. Nothing follows the last cell of a line, so that lines cut cleanly.
    """
    raw = [list(row) for row in rows]
    cells = [[str(header).upper() for header in headers]]
    cells += [[_text(value) for value in row] for row in raw]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    right = [_is_numeric(column) for column in zip(*raw, strict=True)] or [False] * len(widths)
    lines = (
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in cells
    )
    return "\n".join(lines)


def render_json(value: object) -> str:
    """What every ``--json`` prints."""
    return json.dumps(value, indent=2, sort_keys=False, default=str)


def _text(value: object) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value)) or "-"
    return str(value)


def _is_numeric(column: Iterable[object]) -> bool:
    return all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in column)
