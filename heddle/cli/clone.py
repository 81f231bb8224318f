"""heddle clone"""

from __future__ import annotations

import argparse
import re
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from heddle.cli.options import add_timeout, describe, require_root
from heddle.cli.progress import Progress
from heddle.cli.waiting import gone, ready, wait_for
from heddle.errors import NotFoundError, OperationError, RequestError
from heddle.paths import host_name

if TYPE_CHECKING:
    from heddle.cli.change import Wanted
    from heddle.intent.clone import Originals
    from heddle.intent.model import AnyResource, Machine
    from heddle.store.interface import Store

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,30}[A-Za-z0-9])?")


def configure(parser: argparse.ArgumentParser) -> None:
    describe(
        parser,
        "Run a second copy of networks, of the machines in them and of the routers between them:\n"
        "with the same MACs and addresses, in networks of their own, so that neither notices the\n"
        "other. What is called web is called NAME-web in the copy. Disks of VMs are copied, for\n"
        "which these VMs must be off. Security groups, address groups and QoS policies are copied.",
        ("heddle clone web db --as test", "a copy of two networks"),
        ("heddle clone --remove test", "take it away again"),
    )
    parser.add_argument("networks", metavar="NETWORK", nargs="*", help="name of a network")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--as", dest="name", metavar="NAME", help="what to call the copy")
    what.add_argument("--remove", metavar="NAME", help="remove a copy, its disks included")
    add_timeout(parser, 180, "it is ready, or has gone")


def run(arguments: argparse.Namespace) -> int:
    require_root("heddle clone")
    if arguments.remove is not None:
        if arguments.networks:
            raise RequestError("--remove takes the name of a clone, and no networks")
        _remove(arguments.remove, arguments.timeout)
        return 0
    if not arguments.networks:
        raise RequestError("name the networks to copy, such as: heddle clone web db --as test")
    if not _NAME.fullmatch(arguments.name):
        raise RequestError(f"clone name {arguments.name!r}: use letters, digits and -, at most 32")
    _clone(arguments.networks, arguments.name, arguments.timeout)
    return 0


def _clone(networks: list[str], name: str, timeout: float) -> None:
    from heddle.cli.change import commit
    from heddle.intent.model import Machine, Port
    from heddle.store.open import open_store

    with closing(open_store()) as store, Progress() as progress:
        with _copies(name, progress) as copies:
            wanted, revision = commit(store, lambda: _wanted(store, networks, copies))
        made = wanted.plan.create
        machines = {m.id: m.name for m in made if isinstance(m, Machine) and m.running}
        ports = {p.id: p.name for p in made if isinstance(p, Port) and p.machine_id in machines}
        missing = ready(revision, machines, ports, wanted.hosts)
        wait_for(missing, progress, timeout, hosts=wanted.hosts)
    print(f"clone {name}: {_count(made)}")


def _wanted(store: Store, networks: list[str], copies: _Copies) -> Wanted:
    from heddle.cli.change import Wanted
    from heddle.intent.clone import clone, originals
    from heddle.intent.plan import Plan

    snapshot = store.snapshot()
    found = originals(snapshot, networks)
    disks = _disks(found, copies.name)
    made = clone(snapshot, found, copies.name, disks)
    copies.make(found, disks)
    return Wanted(made, Plan(create=tuple(made)), snapshot)


def _disks(found: Originals, name: str) -> dict[str, str]:
    """Where the disk of each VM that has one is copied to. RequestError for one that is in
    use, or not here."""
    from heddle.intent.clone import has_disk

    disks = {}
    for machine in found.machines:
        if not has_disk(machine):
            continue
        if machine.running:
            raise RequestError(
                f"machine {machine.name} writes to its disk {machine.image}, which is to be "
                f"copied: run heddle vm shutdown {machine.name} before"
            )
        disk = Path(machine.image)
        if not disk.exists():
            raise RequestError(
                f"machine {machine.name}: its disk {disk} is not on this host: run heddle clone "
                f"on host {machine.host}, or put the disk where all hosts have it"
            )
        disks[machine.id] = str(disk.with_name(f"{disk.stem}-{name}{disk.suffix}"))
    return disks


class _Copies:
    """Copies of disks, each made once for a machine as it is."""

    def __init__(self, name: str, progress: Progress) -> None:
        self.name = name
        self._progress = progress
        self._made: dict[Path, int] = {}

    def make(self, found: Originals, disks: dict[str, str]) -> None:
        for machine in found.machines:
            if machine.id in disks:
                self._copy(machine, Path(disks[machine.id]))

    def _copy(self, machine: Machine, copy: Path) -> None:
        if self._made.get(copy) == machine.revision_number:
            return
        if copy.exists() and copy not in self._made:
            raise RequestError(f"{copy} exists already: give the clone another name, or remove it")
        self._progress.say(f"copying {machine.image}")
        self._made[copy] = machine.revision_number
        command = ["cp", "--sparse=always", "--reflink=auto", machine.image, str(copy)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            raise OperationError(f"machine {machine.name}: {done.stderr.strip()}; make room there")

    def remove(self) -> None:
        for copy in self._made:
            copy.unlink(missing_ok=True)


@contextmanager
def _copies(name: str, progress: Progress) -> Iterator[_Copies]:
    """None is left when the block fails."""
    copies = _Copies(name, progress)
    try:
        yield copies
    except BaseException:
        copies.remove()
        raise


def _remove(name: str, timeout: float) -> None:
    from heddle.cli.change import remove
    from heddle.intent.clone import clone_origin, has_disk
    from heddle.intent.model import Kind, Machine
    from heddle.store.open import open_store

    with closing(open_store()) as store, Progress() as progress:
        removed, revision = remove(store, lambda item: item.origin == clone_origin(name))
        if not removed:
            raise NotFoundError(f"there is no clone {name!r}; there is: {_clones(store)}")
        keys = [(i.kind.value, i.id) for i in removed if i.kind in (Kind.MACHINE, Kind.PORT)]
        hosts = {host_name(), *(item.host for item in removed if isinstance(item, Machine))}
        wait_for(gone(revision, keys, hosts), progress, timeout, hosts=hosts)
    for item in removed:
        if isinstance(item, Machine) and has_disk(item):
            Path(item.image).unlink(missing_ok=True)
    print(f"removed clone {name}: {_count(removed)}")


def _clones(store: Store) -> str:
    from heddle.intent.conflicts import CLONE_ORIGIN

    origins = {
        item.origin for objects in store.snapshot().objects.values() for item in objects.values()
    }
    names = sorted(o.removeprefix(CLONE_ORIGIN) for o in origins if o.startswith(CLONE_ORIGIN))
    return ", ".join(names) or "none"


def _count(items: Iterable[AnyResource]) -> str:
    from heddle.intent.model import Kind

    counts = Counter(item.kind for item in items)
    return ", ".join(f"{counts[kind]} {kind.value}" for kind in Kind if counts[kind])
