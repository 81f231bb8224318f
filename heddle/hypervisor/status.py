"""How a machine is doing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["running", "stopped", "booting", "paused", "saved", "error"]


@dataclass(frozen=True, slots=True)
class MachineStatus:
    """``ready``: it has booted and its NICs have their addresses."""

    state: State
    ready: bool
    error: str | None
