"""Where heddle keeps things (design: names and places).

``HEDDLE_ROOT`` moves all of them, so that many hosts can live on one machine;
it does not move the BPF file system, where a host has a folder of its own.
"""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

from heddle.errors import RequestError

BPFFS = Path("/sys/fs/bpf")
MACHINE_ID = Path("/etc/machine-id")
_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?")


def _root() -> Path:
    return Path(os.environ.get("HEDDLE_ROOT", "/"))


def state_dir() -> Path:
    """Everything that must survive a reboot."""
    return _root() / "var/lib/heddle"


def settings_file() -> Path:
    """What the operator says of this host."""
    return _root() / "etc/heddle/heddle.toml"


def run_dir() -> Path:
    """Sockets and pid files."""
    return _root() / "run/heddle"


def images_dir() -> Path:
    return state_dir() / "images"


def store_file() -> Path:
    return state_dir() / "store.sqlite"


def intent_cache_file() -> Path:
    """What the agent last saw of a store that is elsewhere."""
    return state_dir() / "intent-cache.sqlite"


def agent_socket() -> Path:
    return run_dir() / "agent.sock"


def agent_pid_file() -> Path:
    return run_dir() / "agent.pid"


def agent_log_file() -> Path:
    return state_dir() / "agent.log"


def paths_file() -> Path:
    """Relays through which this host reaches others, and shrunken paths; for the next agent."""
    return run_dir() / "paths.json"


def pin_dir(host: str) -> Path:
    """Folder of this host's pinned maps and programs."""
    return BPFFS / "heddle" / host


def host_name() -> str:
    """Name of this host: ``HEDDLE_HOST``, or the first label of its hostname.

    Raises RequestError when the name can't be used as a folder of the BPF
    file system (which refuses dots).
    """
    name = os.environ.get("HEDDLE_HOST") or socket.gethostname().split(".")[0]
    if not _HOST_NAME.fullmatch(name):
        raise RequestError(
            f"host name {name!r}: use letters, digits, - and _; set HEDDLE_HOST to choose another"
        )
    return name


def machine_id() -> str:
    """What tells this machine from others of the same name (machine-id(5));
    empty where it has none."""
    try:
        return MACHINE_ID.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
