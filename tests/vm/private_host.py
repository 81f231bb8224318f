"""A host of its own for tests of virtual machines.

It is a network namespace, entered by the test process, with a folder for
``HEDDLE_ROOT``: product code starts a libvirt daemon of its own there. A Linux
bridge and dnsmasq, an independent DHCP server, stand in for the data plane.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from heddle.compiler.state import MachineSpec, Nic
from heddle.errors import HypervisorError
from heddle.hypervisor.libvirtd import stop_own_daemons
from heddle.hypervisor.machines import ExecResult, Machines, MachineStatus, exec_in
from heddle.intent.names import tap_name

BRIDGE = "lan"
MTU = 1450
ROUTER = "10.7.0.1"
FAR_PREFIX, FAR_HOP = "10.9.0.0/16", "10.7.0.9"
DEADLINE = 300.0  # seconds for what takes up to ten on a quiet machine

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
T = TypeVar("T")


def wait_until(condition: Callable[[], T], what: str, seconds: float = DEADLINE) -> T:
    """Poll until ``condition`` is true and return what it gave."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.05)
    return found


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


class PrivateHost:
    """Made by ``enter``, gone after ``leave``."""

    def __init__(self) -> None:
        self.name = "h" + secrets.token_hex(4)
        self.root = Path(tempfile.mkdtemp(prefix="heddle-vm-"))
        self.root.chmod(0o755)  # QEMU runs as another user
        self.machines = Machines(self.name)
        self.specs: dict[str, MachineSpec] = {}
        self._namespace = "test-" + self.name
        self._home = os.open("/proc/self/ns/net", os.O_RDONLY)
        self._dnsmasq: subprocess.Popen[bytes] | None = None
        self._leases = 2  # of the next NIC

    def enter(self) -> None:
        run("ip", "netns", "add", self._namespace)
        inside = os.open(f"/run/netns/{self._namespace}", os.O_RDONLY)
        assert _libc.setns(inside, _CLONE_NEWNET) == 0
        os.close(inside)
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", BRIDGE, "up", "type", "bridge")
        run("ip", "address", "add", f"{ROUTER}/24", "dev", BRIDGE)
        run("ip", "address", "add", "fd00:7::1/64", "dev", BRIDGE, "nodad")
        self._serve_dhcp()

    def leave(self) -> None:
        try:
            self.specs.clear()
            leftovers = self.machines.reconcile({})
            stop_own_daemons()
        finally:
            if self._dnsmasq is not None:
                self._dnsmasq.terminate()
                self._dnsmasq.wait()
            assert _libc.setns(self._home, _CLONE_NEWNET) == 0
            os.close(self._home)
            run("ip", "netns", "delete", self._namespace)
            shutil.rmtree(self.root)
        assert leftovers == {}

    # ---- network -------------------------------------------------------

    def _serve_dhcp(self) -> None:
        (self.root / "hosts").mkdir()
        options = (
            f"option:mtu,{MTU}",
            f"option:router,{ROUTER}",
            "option:dns-server,10.7.0.53",
            f"option:classless-static-route,0.0.0.0/0,{ROUTER},{FAR_PREFIX},{FAR_HOP}",
            "option6:dns-server,[fd00:7::53]",
        )
        ranges = ("10.7.0.0,static,255.255.255.0", "fd00:7::,static,64")
        command = ["dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0", "--enable-ra"]
        command += [f"--interface={BRIDGE}", f"--dhcp-hostsdir={self.root}/hosts"]
        command += [
            f"--dhcp-leasefile={self.root}/leases",
            f"--log-facility={self.root}/dnsmasq.log",
        ]
        command += [f"--dhcp-range={value}" for value in ranges]
        command += [f"--dhcp-option={value}" for value in options]
        self._dnsmasq = subprocess.Popen(command, stderr=subprocess.DEVNULL)

    def nic(self, *, queues: int = 1) -> Nic:
        """A TAP on the bridge, and addresses for it at the DHCP server."""
        port_id = secrets.token_hex(16)
        device, mac = tap_name(port_id), "fa:16:3e:" + secrets.token_bytes(3).hex(":")
        address4, address6 = f"10.7.0.{self._leases}", f"fd00:7::{self._leases:x}"
        self._leases += 1
        lease = self.root / "hosts" / port_id
        lease.write_text(f"{mac},{address4}\n{mac},[{address6}]\n")
        self.add_tap(device, queues)
        return Nic(
            port_id, device, mac, MTU, (f"{address4}/24", f"{address6}/64"), (ROUTER,), (), ()
        )

    def add_tap(self, device: str, queues: int = 1) -> None:
        flags = ["multi_queue"] if queues > 1 else []
        run("ip", "tuntap", "add", "dev", device, "mode", "tap", "vnet_hdr", *flags)
        run("ip", "link", "set", device, "mtu", str(MTU), "master", BRIDGE, "up")

    # ---- machines ------------------------------------------------------

    def want(self, spec: MachineSpec) -> MachineSpec:
        self.specs[spec.id] = spec
        return spec

    def vm(self, *nics: Nic, image: str = "tiny", cpus: int = 1) -> MachineSpec:
        """Want a machine of random name, running."""
        name = "vm" + secrets.token_hex(4)
        return self.want(
            MachineSpec(str(uuid.uuid4()), name, "vm", image, cpus, 256 << 20, True, nics)
        )

    def status(self, spec: MachineSpec) -> MachineStatus:
        """One step of reconciling, and what it says of a machine."""
        return self.machines.reconcile(self.specs)[spec.id]

    def until_ready(self, spec: MachineSpec, seconds: float = DEADLINE) -> None:
        wait_until(lambda: self.status(spec).ready, f"{spec.name} is ready", seconds)

    def until_state(self, spec: MachineSpec, state: str) -> MachineStatus:
        def reached() -> MachineStatus | None:
            status = self.status(spec)
            return status if status.state == state else None

        return wait_until(reached, f"{spec.name} is {state}")

    def exec(self, spec: MachineSpec, *argv: str) -> ExecResult:
        return exec_in(spec, argv, timeout=240)

    def output(self, spec: MachineSpec, *argv: str) -> str:
        done = self.exec(spec, *argv)
        assert done.code == 0, done
        return done.out.decode()

    def boot_id(self, spec: MachineSpec) -> str:
        """Differs from boot to boot of a guest."""
        return wait_until(lambda: self._boot_id(spec), f"{spec.name} answers")

    def _boot_id(self, spec: MachineSpec) -> str:
        """Empty while the guest can't be asked; a busy one may miss a question."""
        try:
            return self.output(spec, "cat", "/proc/sys/kernel/random/boot_id")
        except HypervisorError:
            return ""

    def macs(self, spec: MachineSpec) -> set[str]:
        """MACs of the Ethernet devices that the guest has."""
        shown = self.output(spec, "sh", "-c", "cat /sys/class/net/eth*/address")
        return set(shown.split())

    def starts(self, spec: MachineSpec) -> int:
        """How often libvirt has started QEMU for a machine, or tried to."""
        log = self.root / "var/log/libvirt/qemu" / f"{spec.name}.log"
        return log.read_text(errors="replace").count(": starting up libvirt version")

    def virsh(self, *arguments: str) -> str:
        socket = self.root / "run/libvirt/libvirt-sock"
        return run("virsh", "-q", "-c", f"qemu+unix:///system?socket={socket}", *arguments)
