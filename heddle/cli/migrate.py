"""heddle migrate"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

from heddle.cli.options import add_timeout, describe, require_root
from heddle.cli.progress import Progress
from heddle.errors import ConflictError, NotFoundError, OperationError, RequestError

if TYPE_CHECKING:
    from heddle.intent.model import AnyResource, Machine
    from heddle.store.interface import Snapshot, Store

_LOOK_SECONDS = 0.1
_CANCEL_SECONDS = 60.0
_CANCEL_AGAIN_SECONDS = 0.2
_SETTLE_SECONDS = 5.0  # for the last word of a migration that failed


def configure(parser: argparse.ArgumentParser) -> None:
    describe(
        parser,
        "Move a running VM to another host while it works on. That host is prepared and proven\n"
        "before the VM moves, its connections go with it, and what still arrives at the old host\n"
        "is sent on. One that fails at any step leaves the VM where it was.",
        ("heddle migrate vm0 h2", "move vm0 to host h2, and wait until it is there"),
        ("heddle migrate vm0 --cancel", "call it off, as long as it runs where it was"),
    )
    parser.add_argument("name", metavar="VM")
    parser.add_argument("host", metavar="HOST", nargs="?", help="name of the host to move to")
    parser.add_argument("--cancel", action="store_true", help="call off a migration under way")
    add_timeout(parser, 900, "the VM has moved")


def run(arguments: argparse.Namespace) -> int:
    require_root("heddle migrate")
    if arguments.cancel == (arguments.host is not None):
        raise RequestError("name a host to move to, or say --cancel")
    from heddle.store.open import open_store

    with closing(open_store()) as store:
        if arguments.cancel:
            return _call_off(store, arguments.name)
        machine = begin(store, arguments.name, arguments.host)
        if not machine.running:
            return _take_over(store, machine, arguments.host)
        began = time.monotonic()
        with Progress() as progress:
            _wait(store, machine, progress, arguments.timeout)
        seconds = time.monotonic() - began
        print(f"{machine.name} moved from {machine.host} to {arguments.host} in {seconds:.1f} s")
        _warn_of_lost(store, machine)
    return 0


def begin(store: Store, name: str, target: str) -> Machine:
    """Write where a running machine shall go; return it as it was with that."""
    from heddle.intent.model import Kind, Port
    from heddle.store.interface import Transaction

    snapshot = store.snapshot()
    machine = _machine(snapshot, name)
    _check(snapshot, machine, target)
    if not machine.running:
        return machine  # it has no memory that could move
    moved: list[AnyResource] = [machine.model_copy(update={"migrating_to": target})]
    moved += [
        port.model_copy(update={"migrating_to": target})
        for port in snapshot.objects[Kind.PORT].values()
        if isinstance(port, Port) and port.machine_id == machine.id
    ]
    store.commit(Transaction(put=moved, as_read=True))
    return machine.model_copy(update={"migrating_to": target})


def _take_over(store: Store, machine: Machine, target: str) -> int:
    """A machine that is off: its definition goes where it shall start next."""
    from heddle.cli.change import set_machine

    set_machine(store, machine.id, host=target)
    print(f"{machine.name}, which is off, is on host {target} now")
    return 0


def _call_off(store: Store, name: str) -> int:
    """Ask the host that it leaves, which alone can know whether it is too late: were the
    store to say at once that it stays, its links would go on the other host while it may
    be about to go on there."""
    from heddle.intent.model import Kind, Machine
    from heddle.paths import settings_file
    from heddle.settings import read_settings
    from heddle.store.open import open_mail

    snapshot = store.snapshot()
    begun = _machine(snapshot, name)
    _check(snapshot, begun, "")
    deadline = time.monotonic() + _CANCEL_SECONDS
    with closing(open_mail(read_settings(settings_file()))) as mail:
        while time.monotonic() < deadline:
            found = store.snapshot(Kind.MACHINE).objects[Kind.MACHINE].get(begun.id)
            if not isinstance(found, Machine):
                raise NotFoundError(f"machine {begun.name} has been removed meanwhile")
            if found.host != begun.host:
                raise OperationError(f"it is too late: {begun.name} runs on host {found.host}")
            if not found.migrating_to:
                print(f"{begun.name} stays on host {begun.host}")
                return 0
            mail.post(begun.host, f"{begun.id}/cancel", b"")  # again: it may be starting
            time.sleep(_CANCEL_AGAIN_SECONDS)
    raise OperationError(
        f"host {begun.host} does not answer: start its agent, which finds out where "
        f"{begun.name} runs"
    )


def _machine(snapshot: Snapshot, name: str) -> Machine:
    from heddle.intent.model import Kind, Machine

    machines = [m for m in snapshot.objects[Kind.MACHINE].values() if isinstance(m, Machine)]
    for machine in machines:
        if name in (machine.name, machine.id):
            return machine
    there = ", ".join(sorted(m.name for m in machines if m.machine_kind == "vm")) or "none"
    raise NotFoundError(f"no machine {name!r}; VMs are: {there}")


def _check(snapshot: Snapshot, machine: Machine, target: str) -> None:
    from heddle.intent.model import Host, Kind

    if not target:
        if not machine.migrating_to:
            raise RequestError(f"{machine.name} is not on its way: it runs on host {machine.host}")
        return
    if machine.machine_kind != "vm":
        raise RequestError(f"machine {machine.name} is a container, which can't move: only VMs can")
    hosts = {h.name: h for h in snapshot.objects[Kind.HOST].values() if isinstance(h, Host)}
    if target not in hosts or hosts[target].foreign or not hosts[target].vtep:
        there = ", ".join(sorted(n for n, h in hosts.items() if h.vtep and not h.foreign)) or "none"
        raise NotFoundError(f"no host {target!r} that VMs can move to; there is: {there}")
    if machine.migrating_to:
        raise ConflictError(
            f"{machine.name} is on its way to host {machine.migrating_to} already: wait, or run "
            f"heddle migrate {machine.name} --cancel"
        )
    if machine.host == target:
        raise RequestError(f"{machine.name} runs on host {target} already")
    if machine.saved:
        raise RequestError(
            f"{machine.name} is saved: run heddle vm restore {machine.name} --host {target}"
        )
    if machine.paused:
        raise RequestError(f"{machine.name} is paused: run heddle vm resume {machine.name} first")


def _wait(store: Store, begun: Machine, progress: Progress, seconds: float) -> None:
    """Until it has moved. OperationError when it has not, and why."""
    from heddle.intent.model import Kind, Machine

    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        fact = _fact(store, begun)
        found = store.snapshot(Kind.MACHINE).objects[Kind.MACHINE].get(begun.id)
        if not isinstance(found, Machine):
            raise NotFoundError(f"machine {begun.name} has been removed meanwhile")
        if found.host == begun.migrating_to:
            return
        if not found.migrating_to:
            raise OperationError(_reason(store, begun))
        progress.say(f"{begun.name}: {fact.get('state', 'no word from host ' + begun.host)}")
        time.sleep(_LOOK_SECONDS)
    raise OperationError(
        f"{begun.name} has not moved after {seconds:.0f} s; it goes on: run "
        f"heddle migrate {begun.name} --cancel to call it off"
    )


def _warn_of_lost(store: Store, moved: Machine) -> None:
    fact = store.statuses(moved.migrating_to).get(("migration", moved.id), {})
    if fact.get("to") == moved.migrating_to and (count := fact.get("lost_connections")):
        print(
            f"warning: the flow table of host {moved.migrating_to} is full: "
            f"{count} connections of {moved.name} are lost: {fact['lost']}",
            file=sys.stderr,
        )


def _fact(store: Store, machine: Machine) -> Mapping[str, Any]:
    return store.statuses(machine.host).get(("migration", machine.id), {})


def _reason(store: Store, begun: Machine) -> str:
    """Facts come a little later than what is stored."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    while time.monotonic() < deadline:
        fact = _fact(store, begun)
        if fact.get("to") == begun.migrating_to and fact.get("error"):
            return f"{fact['error']} ({begun.name} runs on host {begun.host} as before)"
        time.sleep(_LOOK_SECONDS)
    return f"{begun.name} stays on host {begun.host}: the migration was called off"
