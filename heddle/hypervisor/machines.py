"""Machines of one host: virtual machines and containers behind one door."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import libvirt

from heddle.compiler.state import MachineSpec
from heddle.errors import HypervisorError
from heddle.hypervisor import guest_agent
from heddle.hypervisor.containers import Containers
from heddle.hypervisor.guest_agent import ExecResult
from heddle.hypervisor.images import TINY
from heddle.hypervisor.libvirtd import (
    Progress,
    connect,
    connection_uri,
    ensure_libvirtd,
    libvirt_errors,
)
from heddle.hypervisor.namespaces import exec_in_container, shell_command
from heddle.hypervisor.status import MachineStatus
from heddle.hypervisor.tiny import ensure_tiny_image
from heddle.hypervisor.vms import VirtualMachines

__all__ = [
    "ExecResult",
    "MachineStatus",
    "Machines",
    "console_command",
    "destroy",
    "exec_in",
    "prepare",
    "reboot",
    "shutdown",
]


class AnyMachine(Protocol):
    """A MachineSpec, or a Machine of the intent."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def machine_kind(self) -> str: ...


class Machines:
    """Brings the machines of a host to their wanted state, step by step."""

    def __init__(self, host: str) -> None:
        self._vms = VirtualMachines(host)
        self._containers = Containers()

    def reconcile(self, specs: Mapping[str, MachineSpec]) -> dict[str, MachineStatus]:
        """One step towards ``specs`` (by machine id); returns the state of each.

        Starts what should run, plugs and unplugs NICs, asks what should not run
        to shut down, removes what is ours and not in ``specs``. What fails is
        tried again with growing patience; it never raises for that. May take
        seconds; a guest's boot is not waited for.
        """
        vms = {name: spec for name, spec in specs.items() if spec.machine_kind == "vm"}
        others = {name: spec for name, spec in specs.items() if name not in vms}
        return self._containers.reconcile(others) | self._vms.reconcile(vms)

    def definition(self, spec: MachineSpec) -> str:
        """What libvirt must be told of a VM that comes from another host. Raises
        HypervisorError when this host can't have it, and says why."""
        return self._vms.definition(spec)

    def retry(self) -> None:
        """Let the next ``reconcile`` try at once what failed before."""
        self._containers.retry()
        self._vms.retry()


def prepare(images: Iterable[str], progress: Progress) -> None:
    """What takes long before VMs of these images can start on this host for the
    first time; ``progress`` is told of each such thing. Raises HypervisorError."""
    if TINY in images:
        ensure_tiny_image(progress)
    with contextlib.closing(ensure_libvirtd(progress)):
        pass


def exec_in(
    machine: AnyMachine, argv: Sequence[str], *, timeout: float | None = None
) -> ExecResult:
    """Run a command in a machine, without standard input, and wait for its end.

    A command that the machine does not have gives code 127. ``timeout`` is in
    seconds. Raises HypervisorError when the machine can't be asked.
    """
    if machine.machine_kind == "container":
        return exec_in_container(machine.name, argv, timeout)
    with _running_domain(machine) as domain:
        return guest_agent.run(domain, argv, timeout)


def console_command(machine: AnyMachine) -> list[str]:
    """The command that gives a person the machine's console, to run on a terminal."""
    if machine.machine_kind == "container":
        return shell_command(machine.name)
    return ["virsh", "--quiet", "--connect", connection_uri(), "console", machine.name, "--force"]


def shutdown(machine: AnyMachine) -> None:
    """Ask the guest to shut down; returns before it has."""
    with _running_domain(machine) as domain:
        domain.shutdown()


def reboot(machine: AnyMachine) -> None:
    """Ask the guest to boot again; returns before it has."""
    with _running_domain(machine) as domain:
        domain.reboot()


def destroy(machine: AnyMachine) -> None:
    """Switch a machine off at once. One that is off already is left alone."""
    with _domain(machine) as domain:
        if domain.isActive():
            domain.destroy()


@contextlib.contextmanager
def _domain(machine: AnyMachine) -> Iterator[libvirt.virDomain]:
    if machine.machine_kind != "vm":
        raise HypervisorError(
            f"machine {machine.name} is a {machine.machine_kind}, which has no power switch: "
            "take it out of the topology file to remove it"
        )
    connection = connect()
    if connection is None:
        raise HypervisorError(
            f"machine {machine.name}: no libvirt daemon runs: run heddle vm start {machine.name}"
        )
    with contextlib.closing(connection), libvirt_errors(f"machine {machine.name}"):
        yield connection.lookupByUUIDString(machine.id)


@contextlib.contextmanager
def _running_domain(machine: AnyMachine) -> Iterator[libvirt.virDomain]:
    with _domain(machine) as domain:
        if not domain.isActive():
            raise HypervisorError(
                f"machine {machine.name} is not running: run heddle vm start {machine.name}"
            )
        yield domain
