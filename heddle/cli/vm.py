"""heddle vm"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from heddle.cli.machine import StoredMachine, find_machine
from heddle.cli.options import add_action, add_json, add_timeout, become, describe, require_root
from heddle.cli.progress import Progress
from heddle.cli.table import render, render_json
from heddle.cli.view import Item, View, addresses
from heddle.cli.waiting import in_state, ready, runs, wait_for
from heddle.errors import RequestError
from heddle.paths import state_dir

_BYTES_PER_MEGABYTE = 1 << 20


def configure(parser: argparse.ArgumentParser) -> None:
    describe(
        parser,
        "List, start, stop and enter the virtual machines. What is started or shut down here\n"
        "stays so, also after the host boots anew. Each action has --help.",
        ("heddle vm list", "all VMs with their state"),
        ("heddle vm start vm0", "boot, and wait until it is ready"),
        ("heddle vm shutdown vm0", "ask the guest to shut down, wait until it has"),
        ("heddle vm destroy vm0", "switch it off at once"),
        ("heddle vm reboot vm0", "ask the guest to boot again"),
        ("heddle vm pause vm0", "stop its CPUs; resume lets it go on"),
        ("heddle vm save vm0", "write its memory to a file and end it; restore goes on from there"),
        ("heddle vm console vm0", "its serial console; Ctrl-] leaves"),
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = add_action(
        actions,
        "list",
        "list all VMs with their state",
        ("heddle vm list", "a table"),
        ("heddle vm list --json", "all that is known of them, for programs"),
    )
    add_json(listing)
    for name, (summary, wait, examples) in _ACTIONS.items():
        action = add_action(actions, name, summary, *examples)
        action.add_argument("name", metavar="NAME")
        if wait:
            add_timeout(action, 120, wait)
        if name == "restore":
            action.add_argument(
                "--host",
                metavar="HOST",
                help="on another host, which has the file under the same path",
            )
        if name == "save":
            action.add_argument(
                "--to",
                metavar="FILE",
                help="where its memory goes (default: a file of that name in heddle's folder)",
            )


class _Action(NamedTuple):
    """``wait``: what is waited for, if anything."""

    summary: str
    wait: str
    examples: tuple[tuple[str, str], ...]


_ACTIONS = {
    "start": _Action(
        "boot a VM and wait until it is ready",
        "it is ready",
        (
            ("heddle vm start vm0", "and wait two minutes at most"),
            ("heddle vm start vm0 --timeout 600", "of a guest that takes long"),
        ),
    ),
    "shutdown": _Action(
        "ask the guest to shut down and wait until it has",
        "it is off",
        (("heddle vm shutdown vm0 --timeout 30", "give up after half a minute"),),
    ),
    "destroy": _Action(
        "switch a VM off at once",
        "it is off",
        (("heddle vm destroy vm0", "what the guest has not written to its disk is lost"),),
    ),
    "reboot": _Action(
        "ask the guest to boot again",
        "",
        (("heddle vm reboot vm0", "its memory is lost, its address stays"),),
    ),
    "pause": _Action(
        "stop the CPUs of a VM",
        "it stands still",
        (("heddle vm pause vm0", "`heddle vm resume vm0` lets it go on"),),
    ),
    "resume": _Action(
        "let a paused VM go on",
        "it goes on",
        (("heddle vm resume vm0", "with the connections that it had"),),
    ),
    "save": _Action(
        "write the memory of a VM to a file and end it",
        "it is saved",
        (
            ("heddle vm save vm0", "`heddle vm restore vm0` goes on from there"),
            ("heddle vm save vm0 --to /mnt/shared/vm0", "where another host finds it"),
        ),
    ),
    "restore": _Action(
        "start a saved VM where it was when it was saved",
        "it is ready",
        (
            ("heddle vm restore vm0", "on the host where it was"),
            ("heddle vm restore vm0 --host h2", "on another one"),
        ),
    ),
    "console": _Action(
        "enter the serial console of a VM; Ctrl-] leaves",
        "",
        (("heddle vm console vm0", "what is typed goes to the guest"),),
    ),
}


# These ask libvirt, which knows the machines of its host alone; all others want something
# of the store.
_AT_LIBVIRT = ("destroy", "reboot", "console")


def run(arguments: argparse.Namespace) -> int:
    if arguments.action == "list":
        return _list(as_json=arguments.json)
    require_root(f"heddle vm {arguments.action}")
    machine = find_machine(arguments.name, only_vm=True, here=arguments.action in _AT_LIBVIRT)
    actions: dict[str, Callable[[], None]] = {
        "start": lambda: _start(machine, arguments.timeout),
        "shutdown": lambda: _shutdown(machine, arguments.timeout),
        "destroy": lambda: _destroy(machine, arguments.timeout),
        "reboot": lambda: _reboot(machine),
        "pause": lambda: _pause(machine, arguments.timeout),
        "resume": lambda: _resume(machine, arguments.timeout),
        "save": lambda: _save(machine, arguments.to, arguments.timeout),
        "restore": lambda: _restore(machine, arguments.host, arguments.timeout),
        "console": lambda: _console(machine),
    }
    actions[arguments.action]()
    return 0


def _list(*, as_json: bool) -> int:
    view = View()
    machines = [item for item in view.of_kind("machine") if item["machine_kind"] == "vm"]
    if as_json:
        print(render_json([{**item, "status": view.status(item)} for item in machines]))
    else:
        headers = ("vm", "state", "ready", "cpus", "memory", "image", "addresses", "error")
        print(render(headers, [_row(view, item) for item in machines]))
    return 0


def _row(view: View, item: Item) -> tuple[object, ...]:
    status = view.status(item)
    return (
        item["name"],
        status.get("state", "unknown" if item["running"] else "stopped"),
        bool(status.get("ready")),
        item["cpus"],
        f"{item['memory'] // _BYTES_PER_MEGABYTE}M",
        item["image"],
        [address for port in view.ports_of(item) for address in addresses(port)],
        status.get("error"),
    )


def _start(machine: StoredMachine, timeout: float) -> None:
    revision = _want(machine, running=True, paused=False)
    _wait_ready(machine, revision, timeout)
    print(f"{machine.name} is ready")


def _shutdown(machine: StoredMachine, timeout: float) -> None:
    revision = _want(machine, running=False)
    _wait_state(machine, revision, "stopped", timeout)
    print(f"{machine.name} is off")


def _destroy(machine: StoredMachine, timeout: float) -> None:
    from heddle.hypervisor.machines import destroy

    # Intent first: the agent would boot what should run and does not.
    revision = _want(machine, running=False, saved="")
    destroy(machine)
    _wait_state(machine, revision, "stopped", timeout)
    print(f"{machine.name} is off")


def _pause(machine: StoredMachine, timeout: float) -> None:
    revision = _want(machine, paused=True)
    _wait_state(machine, revision, "paused", timeout)
    print(f"{machine.name} is paused")


def _resume(machine: StoredMachine, timeout: float) -> None:
    view = View()
    if view.status(view.find("machine", machine.id)).get("state") == "error":
        _pause(machine, timeout)
    revision = _want(machine, paused=False)
    _wait_ready(machine, revision, timeout)
    print(f"{machine.name} goes on")


def _save(machine: StoredMachine, file: str | None, timeout: float) -> None:
    if not machine.running:
        raise RequestError(f"{machine.name} does not run: there is nothing to save")
    path = Path(file).absolute() if file else state_dir() / "saved" / machine.name
    revision = _want(machine, running=False, paused=False, saved=str(path))
    _wait_state(machine, revision, "saved", timeout)
    print(f"{machine.name} is saved in {path}")


def _restore(machine: StoredMachine, host: str | None, timeout: float) -> None:
    if not machine.saved:
        raise RequestError(f"{machine.name} is not saved: run heddle vm start {machine.name}")
    if host is None:
        revision = _want(machine, running=True)
    else:
        revision = _want(machine, running=True, host=host)
        machine = replace(machine, host=host)
    hosts = {machine.host}
    with Progress() as progress:
        wait_for(runs(revision, machine.id, machine.name, hosts), progress, timeout, hosts=hosts)
    # The file is gone. Were it still to start from that, and the guest not get ready, it
    # could neither start again nor move.
    _wait_ready(machine, _want(machine, saved=""), timeout)
    print(f"{machine.name} is ready")


def _reboot(machine: StoredMachine) -> None:
    from heddle.hypervisor.machines import reboot

    reboot(machine)
    print(f"{machine.name} was asked to boot again")


def _console(machine: StoredMachine) -> None:
    from heddle.hypervisor.machines import console_command

    become(console_command(machine), "libvirt-clients")


def _want(machine: StoredMachine, **wanted: bool | str) -> int:
    from heddle.cli.change import set_machine
    from heddle.store.open import open_store

    with closing(open_store()) as store:
        return set_machine(store, machine.id, **wanted)


def _wait_ready(machine: StoredMachine, revision: int, timeout: float) -> None:
    hosts = {machine.host}
    with Progress() as progress:
        missing = ready(revision, {machine.id: machine.name}, {}, hosts)
        wait_for(missing, progress, timeout, hosts=hosts)


def _wait_state(machine: StoredMachine, revision: int, state: str, timeout: float) -> None:
    hosts = {machine.host}
    with Progress() as progress:
        missing = in_state(revision, machine.id, machine.name, state, hosts)
        wait_for(missing, progress, timeout, hosts=hosts)
