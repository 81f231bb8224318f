"""Live migration between two libvirt hosts, without a network of heddle's."""

from __future__ import annotations

import dataclasses
import json
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from private_host import run, wait_until
from two_hosts import TRANSPORT, LinkedHost, nic, two_hosts

from heddle.compiler.state import MachineSpec
from heddle.errors import HypervisorError
from heddle.hypervisor import moving
from heddle.hypervisor.accelerator import accelerator
from heddle.hypervisor.moving import Goal, Turn, Whereabouts

pytestmark = pytest.mark.timeout(900)
MEMORY = 128 << 20
_MEMORY_SIZE = '{"execute": "query-memory-size-summary"}'


@pytest.fixture(scope="session", autouse=True)
def events() -> None:
    moving.start_events()


@pytest.fixture(scope="module")
def hosts(tiny_folder: Path) -> Iterator[tuple[LinkedHost, LinkedHost]]:
    with two_hosts(tiny_folder) as pair:
        yield pair


@pytest.fixture(scope="module")
def guest(hosts: tuple[LinkedHost, LinkedHost]) -> MachineSpec:
    """Ready on the first host; the second one has its TAP."""
    name = "vm" + uuid.uuid4().hex[:8]
    spec = MachineSpec(str(uuid.uuid4()), name, "vm", "tiny", 1, MEMORY, True, (nic(),))
    for host in hosts:
        with host.entered():
            host.tap(spec.nics[0])
    first, _ = hosts
    first.specs[spec.id] = spec
    with first.entered():
        first.until_ready(spec)
        first.listen()
    return spec


def offer(host: LinkedHost, spec: MachineSpec) -> Goal:
    """What the host says that a machine shall come to."""
    coming = dataclasses.replace(spec, moving="in")
    host.specs[spec.id] = coming
    with host.entered():
        goal = Goal(host.name, host.address, host.machines.definition(coming))
        host.listen()
    return goal


def settle(to: LinkedHost, away: LinkedHost, spec: MachineSpec) -> None:
    """As the store says when it has moved."""
    away.specs.pop(spec.id, None)
    to.specs[spec.id] = spec
    with away.entered():
        away.step()
    with to.entered():
        to.until_ready(spec)


def test_no_write_is_lost_for_the_size_of_its_memory(
    hosts: tuple[LinkedHost, LinkedHost], guest: MachineSpec
) -> None:
    """An emulated guest's memory has a size in which QEMU sees what moves meanwhile."""
    with hosts[0].entered():
        told = hosts[0].virsh("qemu-monitor-command", guest.name, _MEMORY_SIZE)
    size = json.loads(told)["return"]["base-memory"]
    assert MEMORY < size < MEMORY + (1 << 20)
    assert accelerator() == "kvm" or size % (256 << 10)


def test_there_and_back(hosts: tuple[LinkedHost, LinkedHost], guest: MachineSpec) -> None:
    """The guest goes on; both hosts hear of each turn; nothing is started twice."""
    first, second = hosts
    with first.entered():
        boot = first.exec(guest, "cat", "/proc/sys/kernel/random/boot_id")
    for here, there in ((first, second), (second, first)):
        goal = offer(there, guest)
        with here.entered():
            here.specs[guest.id] = dataclasses.replace(guest, moving="out")
            moving.move(guest.id, goal, TRANSPORT)
            here.step()
            assert moving.whereabouts(guest.id) is Whereabouts.ABSENT
        here.until_turn(guest, Turn.PAUSED)
        here.until_turn(guest, Turn.MOVED)
        there.until_turn(guest, Turn.RESUMED)
        with there.entered():
            assert moving.whereabouts(guest.id) is Whereabouts.RUNNING
            there.step()
        settle(there, here, guest)
        with there.entered():
            after = there.exec(guest, "cat", "/proc/sys/kernel/random/boot_id")
        assert after == boot
        here.turns.clear()
        there.turns.clear()


def test_a_host_that_has_no_link_for_it(
    hosts: tuple[LinkedHost, LinkedHost], guest: MachineSpec
) -> None:
    first, second = hosts
    goal = offer(second, guest)
    device = guest.nics[0].device
    with second.entered():
        run("ip", "link", "delete", device)
        with pytest.raises(HypervisorError, match=f"has no link {device} here yet"):
            second.machines.definition(guest)
    with first.entered():
        first.specs[guest.id] = dataclasses.replace(guest, moving="out")
        with pytest.raises(HypervisorError, match=f"{guest.name} can't move to host {goal.host}"):
            moving.move(guest.id, goal, TRANSPORT)
        assert moving.whereabouts(guest.id) is Whereabouts.RUNNING
        first.specs[guest.id] = guest
        first.until_ready(guest)
    with second.entered():
        second.tap(guest.nics[0])


def test_a_host_that_is_dead(hosts: tuple[LinkedHost, LinkedHost], guest: MachineSpec) -> None:
    first, _ = hosts
    goal = Goal("h9", "192.0.2.1", "<domain/>")
    with first.entered():
        with pytest.raises(HypervisorError, match=f"{guest.name} can't move to host h9: "):
            moving.move(guest.id, goal, moving.Transport("qemu+tcp://{address}:1/system", "plain"))
        assert moving.whereabouts(guest.id) is Whereabouts.RUNNING


def test_a_host_that_has_no_memory_for_it(
    hosts: tuple[LinkedHost, LinkedHost], guest: MachineSpec
) -> None:
    _, second = hosts
    large = dataclasses.replace(guest, memory=1 << 50)
    with second.entered(), pytest.raises(HypervisorError, match="MB of memory, host"):
        second.machines.definition(large)


def test_called_off(hosts: tuple[LinkedHost, LinkedHost], guest: MachineSpec) -> None:
    first, second = hosts
    goal = offer(second, guest)
    errors: list[HypervisorError] = []

    def run() -> None:
        with first.entered():
            try:
                moving.move(guest.id, goal, TRANSPORT)
            except HypervisorError as error:
                errors.append(error)

    with first.entered():
        first.virsh("migrate-setspeed", guest.name, "1")
    mover = threading.Thread(target=run)
    mover.start()
    try:
        with first.entered():
            wait_until(lambda: moving.whereabouts(guest.id) is Whereabouts.MOVING, "it moves")
            wait_until(lambda: moving.abort(guest.id) or not mover.is_alive(), "it is called off")
    finally:
        mover.join()
        with first.entered():
            first.virsh("migrate-setspeed", guest.name, "10000")
    assert errors
    with first.entered():
        assert moving.whereabouts(guest.id) is Whereabouts.RUNNING
        first.until_ready(guest)


def test_switched_off_on_its_way(hosts: tuple[LinkedHost, LinkedHost], guest: MachineSpec) -> None:
    """Its end is told; the other host has nothing of it."""
    first, second = hosts
    goal = offer(second, guest)
    with first.entered():
        first.turns.clear()
        first.virsh("destroy", guest.name)
        first.until_turn(guest, Turn.ENDED)
        with pytest.raises(HypervisorError, match=f"can't move to host {goal.host}"):
            moving.move(guest.id, goal, TRANSPORT)
        assert moving.whereabouts(guest.id) is Whereabouts.OFF
    with second.entered():
        assert moving.whereabouts(guest.id) is Whereabouts.ABSENT
