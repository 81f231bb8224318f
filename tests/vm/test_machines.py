"""Virtual machines on real QEMU: boot, addresses, exec, NICs, power, errors."""

from __future__ import annotations

import dataclasses
import os
import pty
import select
import subprocess

import pytest
from private_host import FAR_HOP, FAR_PREFIX, MTU, ROUTER, PrivateHost, run, wait_until

from heddle.compiler.state import MachineSpec
from heddle.errors import HypervisorError
from heddle.hypervisor import machines, pinning
from heddle.hypervisor.libvirtd import connect
from heddle.hypervisor.vms import console_log

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def guest(vm_host: PrivateHost) -> MachineSpec:
    """A guest with one NIC, ready, for tests that leave it so."""
    spec = vm_host.vm(vm_host.nic())
    vm_host.until_ready(spec)
    return spec


def test_the_guest_configures_itself(vm_host: PrivateHost, guest: MachineSpec) -> None:
    """By DHCP and router advertisement, with every option that dnsmasq offers."""
    nic = guest.nics[0]
    shown = vm_host.output(guest, "ip", "address", "show", "dev", "eth0")
    assert f"mtu {MTU} " in shown
    assert nic.mac in shown
    assert f"inet {nic.addresses[0]} " in shown
    assert f"inet6 {nic.addresses[1].split('/')[0]}/" in shown
    routes = vm_host.output(guest, "ip", "route")
    assert f"default via {ROUTER} dev eth0" in routes
    assert f"{FAR_PREFIX} via {FAR_HOP} dev eth0" in routes
    resolver = vm_host.output(guest, "cat", "/etc/resolv.conf").split()
    assert {"10.7.0.53", "fd00:7::53"} <= set(resolver)
    assert vm_host.output(guest, "hostname") == f"{guest.name}\n"


def test_the_guest_reaches_its_router(vm_host: PrivateHost, guest: MachineSpec) -> None:
    vm_host.output(guest, "ping", "-c", "1", "-W", "30", ROUTER)
    vm_host.output(guest, "ping", "-c", "1", "-W", "30", "fd00:7::1")


def test_exec_gives_code_and_both_outputs(vm_host: PrivateHost, guest: MachineSpec) -> None:
    done = vm_host.exec(guest, "sh", "-c", "echo out; echo err >&2; exit 7")
    assert done == (7, b"out\n", b"err\n")


def test_exec_passes_arguments_as_they_are(vm_host: PrivateHost, guest: MachineSpec) -> None:
    assert vm_host.output(guest, "printf", "%s|", "a b", "'", "$HOME", "") == "a b|'|$HOME||"


def test_a_missing_command_is_127(vm_host: PrivateHost, guest: MachineSpec) -> None:
    assert vm_host.exec(guest, "no-such-command").code == 127


def test_exec_does_not_wait_for_ever(guest: MachineSpec) -> None:
    with pytest.raises(HypervisorError, match=f"{guest.name}: sleep still runs after 1 s"):
        machines.exec_in(guest, ["sleep", "1000"], timeout=1)


def test_iperf3_listens(vm_host: PrivateHost, guest: MachineSpec) -> None:
    address = guest.nics[0].addresses[0].split("/")[0]
    run("iperf3", "--client", address, "--bytes", "1M", "--connect-timeout", "60000")


def test_the_console_shows_a_shell(guest: MachineSpec) -> None:
    terminal, inner = pty.openpty()
    command = machines.console_command(guest)
    seen = b""

    def answered() -> bool:
        nonlocal seen
        # Time and again: virsh throws away what was typed before it is connected.
        os.write(terminal, b"echo $((6 * 7)) is the answer\n")
        while select.select([terminal], [], [], 0.2)[0]:
            seen += os.read(terminal, 4096)
        return b"42 is the answer" in seen

    with subprocess.Popen(command, stdin=inner, stdout=inner, stderr=inner) as console:
        try:
            wait_until(answered, "the shell on the console answers")
        finally:
            console.terminate()
            os.close(inner)
            os.close(terminal)


def test_the_console_is_recorded(guest: MachineSpec) -> None:
    assert "BusyBox" in console_log(guest.name).read_text(errors="replace")


def test_a_second_step_changes_nothing(vm_host: PrivateHost, guest: MachineSpec) -> None:
    before = vm_host.virsh("dumpxml", guest.name), vm_host.boot_id(guest)
    assert vm_host.status(guest).ready
    assert (vm_host.virsh("dumpxml", guest.name), vm_host.boot_id(guest)) == before


def test_nics_come_and_go_while_it_runs(vm_host: PrivateHost) -> None:
    spec = vm_host.vm(vm_host.nic())
    vm_host.until_ready(spec)
    boot = vm_host.boot_id(spec)
    second = vm_host.nic()
    wider = vm_host.want(dataclasses.replace(spec, nics=(*spec.nics, second)))
    assert not vm_host.status(wider).ready  # the new NIC has no address yet
    vm_host.until_ready(wider)
    assert second.addresses[0] in vm_host.output(wider, "ip", "address", "show", "dev", "eth1")

    vm_host.want(spec)
    macs = wait_until(
        lambda: (vm_host.status(spec), vm_host.macs(spec))[1] == {spec.nics[0].mac},
        "the second NIC is gone",
    )
    assert macs
    assert vm_host.boot_id(spec) == boot


@pytest.mark.parametrize("cpus", [1, 2])
def test_a_tap_made_anew_is_plugged_in_again(vm_host: PrivateHost, cpus: int) -> None:
    """QEMU holds the old device, which leads nowhere. The guest does not notice more
    than a cable that was pulled."""
    spec = vm_host.vm(vm_host.nic(queues=cpus), cpus=cpus)
    vm_host.until_ready(spec)
    boot = vm_host.boot_id(spec)
    nic = spec.nics[0]
    run("ip", "link", "delete", nic.device)
    vm_host.add_tap(nic.device, queues=cpus)
    address = nic.addresses[0].split("/")[0]

    def answers() -> bool:
        vm_host.status(spec)
        ping = ["ping", "-c", "1", "-W", "1", address]
        return subprocess.run(ping, check=False, capture_output=True).returncode == 0

    wait_until(answers, "the guest answers through its new TAP")
    assert vm_host.boot_id(spec) == boot


def test_several_cpus_have_several_queues(vm_host: PrivateHost) -> None:
    spec = vm_host.vm(vm_host.nic(queues=2), cpus=2)
    vm_host.until_ready(spec)
    queues = vm_host.output(spec, "ls", "/sys/class/net/eth0/queues").split()
    assert [queue for queue in queues if queue.startswith("rx")] == ["rx-0", "rx-1"]


def test_power(vm_host: PrivateHost) -> None:
    """Reboot, shutdown, start, destroy; the wanted state wins in the end."""
    spec = vm_host.vm(vm_host.nic())
    vm_host.until_ready(spec)
    boot = vm_host.boot_id(spec)
    machines.reboot(spec)
    wait_until(lambda: vm_host.boot_id(spec) != boot, "the guest has booted again")
    vm_host.until_ready(spec)

    off = vm_host.want(dataclasses.replace(spec, running=False))
    assert vm_host.until_state(off, "stopped").error is None
    with pytest.raises(HypervisorError, match=f"{spec.name} is not running: run heddle vm start"):
        machines.exec_in(spec, ["true"])

    vm_host.want(spec)
    vm_host.until_ready(spec)
    machines.destroy(spec)
    assert vm_host.virsh("domstate", spec.name).strip() == "shut off"
    vm_host.until_ready(spec)  # it should run, so it is started again


def test_the_power_button(vm_host: PrivateHost) -> None:
    """Without the guest agent, as any virsh user may press it."""
    spec = vm_host.vm(vm_host.nic())
    vm_host.until_ready(spec)
    vm_host.virsh("shutdown", spec.name, "--mode", "acpi")
    wait_until(
        lambda: vm_host.virsh("domstate", spec.name).strip() == "shut off", "the guest is off"
    )


def test_what_is_not_wanted_any_more_is_removed(vm_host: PrivateHost) -> None:
    spec = vm_host.vm(vm_host.nic())
    vm_host.status(spec)
    assert spec.name in vm_host.virsh("list", "--all", "--name").split()
    del vm_host.specs[spec.id]
    assert spec.id not in vm_host.machines.reconcile(vm_host.specs)
    assert spec.name not in vm_host.virsh("list", "--all", "--name").split()
    assert not console_log(spec.name).exists()


def test_what_is_not_ours_is_left_alone(vm_host: PrivateHost) -> None:
    """Neither removed nor taken over."""
    name = "foreign-" + vm_host.name
    xml = vm_host.root / "foreign.xml"
    xml.write_text(
        f"<domain type='qemu'><name>{name}</name><memory>65536</memory>"
        "<os><type machine='pc'>hvm</type></os></domain>"
    )
    vm_host.virsh("define", str(xml))
    try:
        before = vm_host.virsh("dumpxml", name)
        spec = vm_host.want(dataclasses.replace(vm_host.vm(), name=name))
        status = vm_host.status(spec)
        assert status.state == "error"
        assert "is not heddle's: give the machine another name" in (status.error or "")
        del vm_host.specs[spec.id]
        vm_host.machines.reconcile(vm_host.specs)
        assert vm_host.virsh("dumpxml", name) == before
    finally:
        vm_host.virsh("undefine", name)


def test_definitions_survive_libvirtd(vm_host: PrivateHost, guest: MachineSpec) -> None:
    """The guest runs on while the daemon is gone, and is recognised afterwards."""
    boot = vm_host.boot_id(guest)
    pid_file = vm_host.root / "run/heddle/libvirtd.pid"
    run("kill", "-9", pid_file.read_text().strip())
    vm_host.until_ready(guest)
    assert vm_host.boot_id(guest) == boot


def test_a_missing_tap_is_waited_for(vm_host: PrivateHost) -> None:
    nic = vm_host.nic()
    run("ip", "link", "delete", nic.device)
    spec = vm_host.vm(nic)
    status = vm_host.status(spec)
    assert (status.state, status.ready) == ("stopped", False)
    assert f"waits for its link {nic.device}" in (status.error or "")
    vm_host.add_tap(nic.device)
    assert vm_host.status(spec).state == "booting"


@pytest.mark.parametrize(
    ("image", "complaint"),
    [
        ("missing.qcow2", "does not exist: correct it in the topology file"),
        ("text.qcow2", "is no qcow2 file: was it downloaded in full?"),
        ("empty.raw", "is empty: was it downloaded in full?"),
        ("orphan.qcow2", "put it there, or name another one by qemu-img rebase -u"),
        ("hidden/disk.raw", "which may not enter {root}/hidden: run chmod o+x"),
    ],
)
def test_a_bad_image_is_one_clear_error(vm_host: PrivateHost, image: str, complaint: str) -> None:
    (vm_host.root / "text.qcow2").write_text("<html>404</html>" * 100)
    (vm_host.root / "empty.raw").touch()
    orphan = [
        "-u",
        "-f",
        "qcow2",
        "-F",
        "raw",
        "-b",
        "/gone.raw",
        str(vm_host.root / "orphan.qcow2"),
    ]
    run("qemu-img", "create", *orphan, "1M")
    hidden = vm_host.root / "hidden"
    hidden.mkdir(mode=0o700, exist_ok=True)
    (hidden / "disk.raw").write_bytes(bytes(1 << 20))
    spec = vm_host.vm(image=str(vm_host.root / image))
    status = vm_host.status(spec)
    assert status.state == "error"
    assert complaint.format(root=vm_host.root) in (status.error or "")
    assert "\n" not in (status.error or "")


def test_what_libvirt_refuses_names_the_machine_and_is_tried_again_later(
    vm_host: PrivateHost,
) -> None:
    """More memory than there can be: QEMU does not start. The error is told at
    every look, but QEMU is not asked at every look."""
    spec = vm_host.want(dataclasses.replace(vm_host.vm(), memory=1 << 50))
    first = vm_host.status(spec)
    assert first.state == "error"
    assert first.error == (
        f"machine {spec.name}: cannot set up guest memory 'pc.ram': Cannot allocate memory: "
        "give it less memory in the topology file, or free some"
    )
    starts = vm_host.starts(spec)
    assert starts

    def told_without_asking() -> bool:
        before = vm_host.starts(spec)
        assert vm_host.status(spec) == first
        return vm_host.starts(spec) == before

    # A slow host may find at the first look that the time to try again has come.
    wait_until(told_without_asking, "a look that does not start QEMU")
    wait_until(
        lambda: (vm_host.status(spec), vm_host.starts(spec))[1] > starts, "QEMU is asked again"
    )


def test_threads_are_pinned_and_released(guest: MachineSpec) -> None:
    """As far as two cores go: what is chosen on larger hosts is a unit test."""
    connection = connect()
    assert connection is not None
    domain = connection.lookupByUUIDString(guest.id)
    cpus = connection.getCPUMap()[0]
    pinning.pin_to(domain, pinning.Pinning((cpus - 1,), frozenset({0})), cpus)
    assert domain.vcpuPinInfo() == [tuple(cpu == cpus - 1 for cpu in range(cpus))]
    assert domain.emulatorPinInfo() == tuple(cpu == 0 for cpu in range(cpus))
    pinning.release(connection, domain, guest.cpus)
    assert domain.vcpuPinInfo() == [(True,) * cpus]
    assert domain.emulatorPinInfo() == (True,) * cpus
