"""Machines that are paused, saved and restored, on real QEMU."""

from __future__ import annotations

import dataclasses

import pytest
from private_host import ROUTER, PrivateHost, wait_until

from heddle.compiler.state import MachineSpec
from heddle.hypervisor.domain import read_mark

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def guest(vm_host: PrivateHost) -> MachineSpec:
    """A guest with one NIC, ready, for tests that leave it so."""
    spec = vm_host.vm(vm_host.nic())
    vm_host.until_ready(spec)
    return spec


def change(host: PrivateHost, spec: MachineSpec, **wanted: bool | str) -> MachineSpec:
    return host.want(dataclasses.replace(host.specs[spec.id], **wanted))  # type: ignore[arg-type]


def domain_state(host: PrivateHost, spec: MachineSpec) -> str:
    return host.virsh("domstate", spec.name).strip()


def test_paused_and_resumed(vm_host: PrivateHost, guest: MachineSpec) -> None:
    boot = vm_host.boot_id(guest)
    paused = change(vm_host, guest, paused=True)
    vm_host.until_state(paused, "paused")
    assert domain_state(vm_host, guest) == "paused"
    assert not vm_host.status(paused).ready
    vm_host.until_ready(change(vm_host, guest, paused=False))
    assert vm_host.boot_id(guest) == boot


def test_what_somebody_else_paused_stays_so(vm_host: PrivateHost, guest: MachineSpec) -> None:
    """And the error says how to go on."""
    vm_host.virsh("suspend", guest.name)
    status = vm_host.status(guest)
    assert status.state == "error"
    assert status.error == (
        f"machine {guest.name} is paused: somebody paused it: run heddle vm resume"
    )
    vm_host.until_state(change(vm_host, guest, paused=True), "paused")
    vm_host.until_ready(change(vm_host, guest, paused=False))


def test_saved_and_restored(vm_host: PrivateHost, guest: MachineSpec) -> None:
    """It goes on where it was: the same boot, and its network works."""
    boot = vm_host.boot_id(guest)
    file = vm_host.root / "saved" / guest.name
    saved = change(vm_host, guest, running=False, saved=str(file))
    assert vm_host.until_state(saved, "saved").error is None
    assert domain_state(vm_host, guest) == "shut off"
    assert file.stat().st_size > 1 << 20
    vm_host.until_ready(change(vm_host, guest, running=True))
    assert not file.exists(), "it serves once"
    change(vm_host, guest, saved="")
    assert vm_host.boot_id(guest) == boot
    vm_host.output(guest, "ping", "-c", "1", "-W", "30", ROUTER)


def test_memory_that_is_not_here(vm_host: PrivateHost, guest: MachineSpec) -> None:
    """Nothing is booted in its place."""
    file = vm_host.root / "saved" / guest.name
    saved = change(vm_host, guest, running=False, saved=str(file))
    vm_host.until_state(saved, "saved")
    away = file.rename(file.with_name("away"))
    error = vm_host.until_state(change(vm_host, guest, running=True), "error").error
    assert error == (
        f"machine {guest.name} is saved in {file}, which is not on host {vm_host.name}: "
        f"copy it there, or run heddle vm destroy {guest.name} to forget it"
    )
    assert domain_state(vm_host, guest) == "shut off"
    away.rename(file)
    vm_host.machines.retry()
    vm_host.until_ready(change(vm_host, guest))
    change(vm_host, guest, saved="")


def test_a_machine_that_moves_is_left_alone(vm_host: PrivateHost, guest: MachineSpec) -> None:
    """One that comes is not started, one that goes neither changed nor started again."""
    coming = vm_host.want(
        MachineSpec(
            "e0e0e0e0-0000-4000-8000-000000000001",
            "coming",
            "vm",
            "tiny",
            1,
            256 << 20,
            True,
            (),
            moving="in",
        )
    )
    assert coming.id not in vm_host.machines.reconcile(vm_host.specs)
    assert "coming" not in vm_host.virsh("list", "--all", "--name")
    del vm_host.specs[coming.id]
    going = change(vm_host, guest, moving="out")
    vm_host.virsh("suspend", guest.name)
    assert vm_host.status(going).state == "running", "as the hypervisor does to switch"
    assert domain_state(vm_host, guest) == "paused"
    vm_host.virsh("destroy", guest.name)
    assert vm_host.status(going).state == "stopped"
    assert domain_state(vm_host, guest) == "shut off"
    mark = read_mark(vm_host.virsh("dumpxml", "--inactive", guest.name))
    assert mark is not None
    assert mark.host == vm_host.name
    vm_host.until_ready(change(vm_host, guest, moving=""))
    wait_until(lambda: domain_state(vm_host, guest) == "running", "it runs")
