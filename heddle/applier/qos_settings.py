"""What the operator of a host says of it, in heddle.toml (docs/qos.md)."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import NamedTuple

from heddle.errors import RequestError
from heddle.intent.rates import parse_bit_rate


class HostSettings(NamedTuple):
    """``capacity``: what the ports of the host may send together, in bits per
    second; 0: not said."""

    capacity: int = 0


def read_settings(file: Path) -> HostSettings:
    """What the file says; no file says nothing. RequestError when it is wrong."""
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return HostSettings()
    except OSError as error:
        raise RequestError(f"{file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RequestError(f"{file}: {error}; it must be TOML, see docs/qos.md") from error
    for key in found:
        if key not in HostSettings._fields:
            known = ", ".join(HostSettings._fields)
            raise RequestError(f"{file}: unknown key {key}; known: {known}")
    if "capacity" not in found:
        return HostSettings()
    try:
        return HostSettings(capacity=parse_bit_rate(found["capacity"]))
    except ValueError as error:
        raise RequestError(f"{file}: capacity: {error}") from error
