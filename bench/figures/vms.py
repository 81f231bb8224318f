"""TCP between two VMs: through heddle, and with the same TAPs on a Linux bridge.
And what it takes until they run.

The VMs boot once, in two subnets. Then the agent is stopped, so that it does not
repair what this does to its TAPs, and they are moved between heddle's program
and a bridge. On the bridge the guests use addresses of one subnet of their own.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from bench import private, product
from bench.commands import BenchError, progress, run
from bench.product import RECEIVER, RECEIVER_IP, SENDER, heddle
from bench.report import Figure, Measured, at_least, at_most
from bench.rounds import interleave, medians, ratio
from heddle.agent.daemon import stop_running
from heddle.hypervisor.tiny import ensure_tiny_image
from heddle.paths import host_name, pin_dir

ROUNDS = 15
SECONDS = 2
BRIDGE = "bench-bridge"
BRIDGED = {SENDER: "10.88.0.2", RECEIVER: "10.88.0.3"}
PATIENCE = 20.0  # seconds until a path carries packets


def prepare() -> None:
    """Build the guest's image where packages can be reached."""
    ensure_tiny_image(progress)


def measure() -> Measured:
    product.boot_vms()
    boot_seconds = max(private.cpu_seconds(pid) for pid in emulators())
    for name, address in BRIDGED.items():
        _in_guest(name, "ip", "address", "add", f"{address}/24", "dev", "eth0")
    _in_guest(RECEIVER, "iperf3", "-s", "-D")
    stop_running()
    give_cpus()
    taps = _Taps()
    contenders = {
        "heddle": _stream(taps.give_to_heddle, RECEIVER_IP),
        "Linux bridge": _stream(taps.give_to_bridge, BRIDGED[RECEIVER]),
    }
    samples = interleave(contenders, ROUNDS)
    values = {
        "vm-tcp-of-bridge": ratio(samples["heddle"], samples["Linux bridge"]),
        "tiny-guest-boot": boot_seconds,
    }
    return Measured(values, "Gbit/s", medians(samples))


def _stream(take_over: Callable[[], None], address: str) -> Callable[[], float]:
    """Gbit/s that the receiving guest got."""

    def gbit_per_second() -> float:
        take_over()
        _await_ping(address)
        client = ("iperf3", "-c", address, "-t", str(SECONDS), "-J")
        result = json.loads(_in_guest(SENDER, *client))
        return float(result["end"]["sum_received"]["bits_per_second"]) / 1e9

    return gbit_per_second


def _in_guest(name: str, *argv: str) -> str:
    return heddle("exec", name, "--", *argv)


def _await_ping(address: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            _in_guest(SENDER, "ping", "-c", "1", "-W", "1", address)
        except BenchError:
            if time.monotonic() > deadline:
                raise
        else:
            return


def give_cpus() -> None:
    """A core to each of the two QEMUs, with all its threads."""
    for cpu, pid in enumerate(emulators()):
        private.claim_cpus(pid)
        run("taskset", "--all-tasks", "--cpu-list", "--pid", str(cpu), str(pid))


def emulators() -> list[int]:
    """Process ids of the two QEMUs."""
    commands = Path("/proc").glob("[0-9]*/comm")
    names = {int(path.parent.name): path.read_text() for path in commands}
    return sorted(pid for pid, name in names.items() if name.startswith("qemu-system"))


class _Taps:
    """The TAPs of the two VMs, and whose they are at the moment."""

    def __init__(self) -> None:
        links = json.loads(run("ip", "-j", "link", "show", "type", "tun"))
        self._names = [str(link["ifname"]) for link in links]
        self._bridged = False
        run("ip", "link", "add", BRIDGE, "mtu", "1450", "type", "bridge")
        run("ip", "link", "set", BRIDGE, "up")

    def give_to_bridge(self) -> None:
        if self._bridged:
            return
        for name in self._names:
            run("tc", "qdisc", "delete", "dev", name, "ingress")
            run("ip", "link", "set", name, "master", BRIDGE)
        self._bridged = True

    def give_to_heddle(self) -> None:
        if not self._bridged:
            return
        program = str(pin_dir(host_name()) / "from_vm")
        for name in self._names:
            run("ip", "link", "set", name, "nomaster")
            run("tc", "qdisc", "add", "dev", name, "ingress")
            at_ingress = ("dev", name, "ingress", "bpf", "direct-action")
            run("tc", "filter", "add", *at_ingress, "object-pinned", program)
        self._bridged = False


FIGURE = Figure(
    "vms",
    "TCP between two VMs in two subnets",
    {
        "vm-tcp-of-bridge": at_least(1.0, "of the same VMs on one Linux bridge"),
        "tiny-guest-boot": at_most(5, "s of CPU time of its QEMU"),
    },
    measure,
    prepare,
)
