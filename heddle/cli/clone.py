"""heddle clone"""

from __future__ import annotations

import argparse
import re
import subprocess
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from heddle.cli.options import add_timeout, describe, require_root
from heddle.cli.progress import Progress
from heddle.cli.waiting import gone, ready, wait_for
from heddle.errors import NotFoundError, OperationError, RequestError

if TYPE_CHECKING:
    from heddle.intent.clone import Originals
    from heddle.intent.model import AnyResource
    from heddle.store.interface import Store

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,30}[A-Za-z0-9])?")


def configure(parser: argparse.ArgumentParser) -> None:
    describe(
        parser,
        "Run a second copy of networks, of the machines in them and of the routers between them:\n"
        "with the same MACs and addresses, in networks of their own, so that neither notices the\n"
        "other. What is called web is called NAME-web in the copy. Disks of VMs are copied, for\n"
        "which these VMs must be off. Security groups and QoS policies are shared.",
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
    from heddle.intent.clone import clone, originals
    from heddle.intent.model import Machine, Port
    from heddle.store.interface import Transaction
    from heddle.store.open import open_store

    with closing(open_store()) as store, Progress() as progress:
        snapshot = store.snapshot()
        found = originals(snapshot, networks)
        disks = _disks(found, name)
        made = clone(snapshot, found, name, disks)
        _copy_disks(found, disks, progress)
        revision = store.commit(Transaction(put=made, expected_revision=snapshot.revision))
        machines = {m.id: m.name for m in made if isinstance(m, Machine) and m.running}
        ports = {p.id: p.name for p in made if isinstance(p, Port) and p.machine_id in machines}
        wait_for(ready(revision, machines, ports), progress, timeout)
    print(f"clone {name}: {_count(made)}")


def _disks(found: Originals, name: str) -> dict[str, str]:
    """Where the disk of each VM that has one is copied to. RequestError for one in use."""
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
        disks[machine.id] = str(disk.with_name(f"{disk.stem}-{name}{disk.suffix}"))
    return disks


def _copy_disks(found: Originals, disks: dict[str, str], progress: Progress) -> None:
    for machine in found.machines:
        if machine.id not in disks:
            continue
        source, copy = Path(machine.image), Path(disks[machine.id])
        if copy.exists():
            raise RequestError(f"{copy} exists already: give the clone another name, or remove it")
        progress.say(f"copying {source}")
        command = ["cp", "--sparse=always", "--reflink=auto", str(source), str(copy)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            copy.unlink(missing_ok=True)
            raise OperationError(f"machine {machine.name}: {done.stderr.strip()}; make room there")


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
        wait_for(gone(revision, keys), progress, timeout)
    for item in removed:
        if isinstance(item, Machine) and has_disk(item):
            Path(item.image).unlink(missing_ok=True)
    print(f"removed clone {name}: {_count(removed)}")


def _clones(store: Store) -> str:
    origins = {
        item.origin for objects in store.snapshot().objects.values() for item in objects.values()
    }
    names = sorted(o.partition(":")[2] for o in origins if o.startswith("clone:"))
    return ", ".join(names) or "none"


def _count(items: list[AnyResource]) -> str:
    from heddle.intent.model import Kind

    counts = {kind: sum(item.kind is kind for item in items) for kind in Kind}
    return ", ".join(f"{count} {kind.value}" for kind, count in counts.items() if count)
