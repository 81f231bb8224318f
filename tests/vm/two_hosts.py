"""Two hosts on one machine, joined by a wire, each with a libvirt that the other may use."""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from private_host import run, wait_until

from heddle import paths
from heddle.compiler.state import MachineSpec, Nic
from heddle.hypervisor.libvirtd import stop_own_daemons
from heddle.hypervisor.machines import ExecResult, Machines, exec_in
from heddle.hypervisor.moving import Transport, Turn, Turns
from heddle.intent.names import tap_name

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
TRANSPORT = Transport("qemu+tcp://{address}/system", "plain")
MTU = 1450


class LinkedHost:
    """One of the two. Everything of it must happen inside ``entered``."""

    def __init__(self, address: str) -> None:
        self.name = "h" + secrets.token_hex(4)
        self.address = address
        self.root = Path(tempfile.mkdtemp(prefix="heddle-vm-"))
        self.root.chmod(0o755)  # QEMU runs as another user
        self.namespace = "test-" + self.name
        self.specs: dict[str, MachineSpec] = {}
        self.turns: list[tuple[str, Turn]] = []
        self._turns = Turns(lambda machine_id, turn: self.turns.append((machine_id, turn)))
        self.machines = Machines(self.name)

    @contextmanager
    def entered(self) -> Iterator[None]:
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        inside = os.open(f"/run/netns/{self.namespace}", os.O_RDONLY)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HEDDLE_ROOT", str(self.root))
            patch.setenv("HEDDLE_HOST", self.name)
            try:
                assert _libc.setns(inside, _CLONE_NEWNET) == 0
                yield
            finally:
                assert _libc.setns(home, _CLONE_NEWNET) == 0
                os.close(inside)
                os.close(home)

    def prepare(self, tiny_folder: Path) -> None:
        """Images, and settings of a libvirt that listens."""
        shutil.copytree(tiny_folder, paths.images_dir() / tiny_folder.name, copy_function=os.link)
        settings = self.root / "etc/libvirt/libvirtd.conf"
        settings.parent.mkdir(parents=True)
        host_uuid = "-".join((secrets.token_hex(4), *["1111"] * 3, secrets.token_hex(6)))
        settings.write_text(
            f'listen_tls = 0\nlisten_tcp = 1\nauth_tcp = "none"\nlisten_addr = "{self.address}"\n'
            f'host_uuid = "{host_uuid}"\n'
        )

    def tap(self, nic: Nic) -> None:
        run("ip", "tuntap", "add", "dev", nic.device, "mode", "tap", "vnet_hdr")
        run("ip", "link", "set", nic.device, "mtu", str(MTU), "up")

    def listen(self) -> None:
        """For turns, from now on."""
        self._turns.ensure()

    def step(self) -> None:
        self.machines.reconcile(self.specs)

    def until_ready(self, spec: MachineSpec) -> None:
        wait_until(
            lambda: self.machines.reconcile(self.specs)[spec.id].ready, f"{spec.name} is ready"
        )

    def until_turn(self, spec: MachineSpec, turn: Turn) -> None:
        wait_until(lambda: (spec.id, turn) in self.turns, f"{spec.name}: {turn}")

    def exec(self, spec: MachineSpec, *argv: str) -> ExecResult:
        return exec_in(spec, argv, timeout=240)

    def virsh(self, *arguments: str) -> str:
        socket = self.root / "run/libvirt/libvirt-sock"
        return run("virsh", "-q", "-c", f"qemu+unix:///system?socket={socket}", *arguments)

    def leave(self) -> None:
        with self.entered():
            self.specs.clear()
            self.machines.reconcile({})
            self._turns.close()
            stop_own_daemons()
        shutil.rmtree(self.root)


def nic() -> Nic:
    """One that asks nobody for an address."""
    port_id = secrets.token_hex(16)
    mac = "fa:16:3e:" + secrets.token_bytes(3).hex(":")
    return Nic(port_id, tap_name(port_id), mac, MTU, (), (), (), ())


@contextmanager
def two_hosts(tiny_folder: Path) -> Iterator[tuple[LinkedHost, LinkedHost]]:
    hosts = LinkedHost("192.0.2.1"), LinkedHost("192.0.2.2")
    with ExitStack() as stack:
        for host in hosts:
            run("ip", "netns", "add", host.namespace)
            stack.callback(run, "ip", "netns", "delete", host.namespace)
            run("ip", "-n", host.namespace, "link", "set", "lo", "up")
        one, other = hosts
        run(
            *("ip", "-n", one.namespace, "link", "add", "eth0", "type", "veth"),
            *("peer", "name", "eth0", "netns", other.namespace),
        )
        for host in hosts:
            run("ip", "-n", host.namespace, "address", "add", f"{host.address}/24", "dev", "eth0")
            run("ip", "-n", host.namespace, "link", "set", "eth0", "up")
            with host.entered():
                host.prepare(tiny_folder)
            stack.callback(host.leave)
        yield hosts
