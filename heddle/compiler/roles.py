"""What a host is for a port or a machine: a live migration has two of them."""

from __future__ import annotations

from enum import Enum, auto

from heddle.intent.model import Machine, Port


class Role(Enum):
    HOME = auto()  # it runs here
    STANDBY = auto()  # it is being moved here
    AWAY = auto()  # it was here until just now


def role_of(resource: Port | Machine, host: str) -> Role | None:
    """None: it has nothing to do with the host."""
    match host:
        case resource.host:
            return Role.HOME
        case resource.migrating_to:
            return Role.STANDBY
        case resource.moved_from:
            return Role.AWAY
    return None
