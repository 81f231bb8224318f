"""heddle down"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heddle.agent.client import AgentClient, agent_pid
from heddle.agent.daemon import start_detached, stop_running
from heddle.cli.options import add_timeout, describe, require_root
from heddle.cli.progress import Progress
from heddle.cli.waiting import gone, wait_for
from heddle.errors import NotFoundError
from heddle.intent.names import PROJECT_ORIGIN
from heddle.paths import host_name, pin_dir, settings_file
from heddle.settings import read_settings
from heddle.store.open import has_store

if TYPE_CHECKING:
    from heddle.intent.model import AnyResource

_NOTHING_FROM = "{}: no such file, and nothing here was made from it"
_API = "api"  # origin of what no file owns


def configure(parser: argparse.ArgumentParser) -> None:
    describe(
        parser,
        "Remove what a topology file owns: its machines are stopped, its links removed. Without\n"
        "FILE, remove what all files own and stop the agent; then no link, filter, map, pin or\n"
        "process is left. An agent that `heddle up` started stops with the last object.",
        ("heddle down lab.yaml", "remove what lab.yaml made"),
        ("heddle down", "remove everything"),
    )
    parser.add_argument("file", metavar="FILE", type=Path, nargs="?", help="topology file")
    add_timeout(parser, 120, "everything has gone")


def run(arguments: argparse.Namespace) -> int:
    require_root("heddle down")
    file: Path | None = arguments.file
    is_there = file is None or _is_there(file)
    if _nothing_here():
        if not is_there:
            raise NotFoundError(_NOTHING_FROM.format(file))
        print("nothing to remove")
        return 0
    with Progress() as progress:
        if agent_pid() is None:
            progress.say("starting the agent, to clean up")
            start_detached(on_demand=True)
        removed, left = _remove(file, progress, arguments.timeout)
        if left == 0 and (file is None or _agent()["on_demand"]):
            progress.say("stopping the agent")
            _end_data_plane()
    print(f"removed: {_count(removed)}")
    return 0


def _remove(file: Path | None, progress: Progress, timeout: float) -> tuple[list[AnyResource], int]:
    """Delete from intent and wait until it has gone; return what was deleted
    and how many objects are left."""
    from heddle.cli.change import remove
    from heddle.intent.model import Kind, Machine
    from heddle.store.open import open_store

    with closing(open_store()) as store:
        removed, revision = remove(store, _chooser(file))
        if file is not None and not removed and not _is_there(file):
            raise NotFoundError(_NOTHING_FROM.format(file))
        left = sum(
            item.origin != PROJECT_ORIGIN  # which is there for ports alone
            for objects in store.snapshot().objects.values()
            for item in objects.values()
        )
    with_facts = [
        (item.kind.value, item.id) for item in removed if item.kind in (Kind.MACHINE, Kind.PORT)
    ]
    hosts = {host_name(), *(item.host for item in removed if isinstance(item, Machine))}
    wait_for(gone(revision, with_facts, hosts), progress, timeout, hosts=hosts)
    return removed, left


def _chooser(file: Path | None) -> Callable[[AnyResource], bool]:
    if file is None:
        from heddle.intent.conflicts import AGENT_ORIGIN

        # The hosts of a cluster, which their agents have made known, stay.
        kept = {_API, AGENT_ORIGIN} if read_settings(settings_file()).etcd else {_API}
        return lambda item: item.origin not in kept
    origin = str(file.resolve())
    return lambda item: item.origin == origin


def _agent() -> dict[str, Any]:
    with AgentClient() as client:
        return client.request("status")


def _end_data_plane() -> None:
    from heddle.datapath.loader import Datapath
    from heddle.hypervisor.libvirtd import stop_own_daemons

    stop_running()
    Datapath.unpin(host_name())
    stop_own_daemons()


def _is_there(file: Path) -> bool:
    """NotFoundError for what can't be a file's name."""
    try:
        return file.exists()
    except OSError as error:
        raise NotFoundError(f"{file}: {error.strerror}") from error


def _nothing_here() -> bool:
    """Whether heddle was never used on this host, or has been removed."""
    return agent_pid() is None and not has_store() and not pin_dir(host_name()).exists()


def _count(removed: list[AnyResource]) -> str:
    counts: dict[str, int] = {}
    for item in removed:
        counts[item.kind.value] = counts.get(item.kind.value, 0) + 1
    return ", ".join(_some(kind, n) for kind, n in counts.items()) or "nothing"


def _some(kind: str, count: int) -> str:
    words = kind.replace("_", " ")
    plural = words.removesuffix("y") + "ies" if words.endswith("y") else words + "s"
    return f"{count} {plural if count > 1 else words}"
