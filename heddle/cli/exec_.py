"""heddle exec"""

from __future__ import annotations

import argparse
import sys

from heddle.cli.machine import StoredMachine, find_machine
from heddle.cli.options import become, describe, require_root


def configure(parser: argparse.ArgumentParser) -> None:
    describe(
        parser,
        "Run a command in a machine: of a container in its network namespace, with terminal\n"
        "and standard input; of a VM through its QEMU guest agent (the tiny guest carries one),\n"
        "without standard input. The exit code is the command's.",
        ("heddle exec vm0 -- ping -c 3 192.168.0.2", "ping from vm0"),
        ("heddle exec c0 -- sh", "a shell in a container"),
        ("heddle exec vm0 --timeout 5 -- uname -a", "give up after five seconds"),
    )
    parser.add_argument("machine", metavar="MACHINE")
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="end a VM's command then")
    parser.add_argument("command", metavar="COMMAND", nargs="+", help="what to run there")
    parser.usage = "heddle exec [-h] [--timeout SECONDS] MACHINE -- COMMAND ..."


def run(arguments: argparse.Namespace) -> int:
    require_root("heddle exec")
    machine = find_machine(arguments.machine, here=True)
    if machine.machine_kind == "container":
        from heddle.hypervisor.namespaces import command_in_container

        become(command_in_container(machine.name, arguments.command), "iproute2")
    return _run_in_vm(machine, arguments.command, arguments.timeout)


def _run_in_vm(machine: StoredMachine, command: list[str], timeout: float | None) -> int:
    from heddle.hypervisor.machines import exec_in

    result = exec_in(machine, command, timeout=timeout)
    sys.stdout.flush()
    sys.stdout.buffer.write(result.out)
    sys.stdout.buffer.flush()
    sys.stderr.buffer.write(result.err)
    sys.stderr.buffer.flush()
    return result.code
