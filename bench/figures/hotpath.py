"""Where the nanoseconds of a frame go: CPU time from one TAP to another.

What forwarding adds is the difference to frames that are dropped where they
enter, so the cost of writing to a TAP cancels out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench import product
from bench.commands import run
from bench.meters import ns_per_frame
from bench.report import Figure, Measured, at_most
from bench.rounds import interleave, medians
from heddle.agent.daemon import stop_running

ROUNDS = 15
MILLISECONDS = 200
LENGTH = 60
CPU = 0
SENDER_MAC = "02:00:00:00:00:0a"
RECEIVER_MAC = "02:00:00:00:00:0b"


@dataclass(frozen=True, slots=True)
class TapPath:
    """Two TAPs with something between them, and the frame that passes it."""

    name: str
    source_tap: str
    destination_tap: str
    source_mac: str
    destination_mac: str
    source_ip: str
    destination_ip: str
    forwarding: str = "given"

    def meter(self) -> float:
        """CPU nanoseconds per frame."""
        return ns_per_frame(
            "taps",
            source_tap=self.source_tap,
            destination_tap=self.destination_tap,
            source_mac=self.source_mac,
            destination_mac=self.destination_mac,
            source_ip=self.source_ip,
            destination_ip=self.destination_ip,
            forwarding=self.forwarding,
            length=LENGTH,
            cpu=CPU,
            milliseconds=MILLISECONDS,
        )


def measure() -> Measured:
    paths = (
        _least_program("dropped at once", "sink"),
        _least_program("least tc redirect", "redirect"),
        _linux_bridge(),
        _ip_forwarding(),
        _heddle(),
    )
    contenders: dict[str, Callable[[], float]] = {path.name: path.meter for path in paths}
    cost = medians(interleave(contenders, ROUNDS))
    base = cost.pop("dropped at once")
    added = {name: total - base for name, total in cost.items()}
    values = {
        "hotpath-of-bridge": added["heddle"] / added["Linux bridge, br_netfilter off"],
        "hotpath-of-ip-forwarding": added["heddle"] / added["IP forwarding"],
    }
    return Measured(values, "ns added per frame", added)


def _least_program(name: str, program: str) -> TapPath:
    source, destination = _taps(program[:4])
    addresses = ("10.84.0.2", "10.84.0.3")
    macs = (SENDER_MAC, RECEIVER_MAC)
    return TapPath(name, source, destination, *macs, *addresses, forwarding=program)


def _linux_bridge() -> TapPath:
    run("ip", "link", "add", "br0", "type", "bridge")
    run("ip", "link", "set", "br0", "up")
    for family in ("ip", "ip6", "arp"):
        run("sysctl", "-q", "-e", "-w", f"net.bridge.bridge-nf-call-{family}tables=0")
    source, destination = _taps("brid")
    for tap in (source, destination):
        run("ip", "link", "set", tap, "master", "br0")
    run("bridge", "fdb", "replace", RECEIVER_MAC, "dev", destination, "master", "static")
    addresses = ("10.85.0.2", "10.85.0.3")
    title = "Linux bridge, br_netfilter off"
    return TapPath(title, source, destination, SENDER_MAC, RECEIVER_MAC, *addresses)


def _ip_forwarding() -> TapPath:
    run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    source, destination = _taps("forw")
    run("ip", "address", "add", "10.86.1.1/24", "dev", source)
    run("ip", "address", "add", "10.86.2.1/24", "dev", destination)
    neighbor = ("10.86.2.2", "lladdr", RECEIVER_MAC, "dev", destination, "nud", "permanent")
    run("ip", "neighbor", "replace", *neighbor)
    gateway_mac = "02:00:00:00:00:01"
    run("ip", "link", "set", source, "address", gateway_mac)
    addresses = ("10.86.1.2", "10.86.2.2")
    return TapPath("IP forwarding", source, destination, SENDER_MAC, gateway_mac, *addresses)


def _taps(prefix: str) -> tuple[str, str]:
    """Two persistent TAPs, up, with no traffic of their own."""
    names = (f"{prefix}-source", f"{prefix}-sink")
    for name in names:
        run("ip", "tuntap", "add", name, "mode", "tap", "vnet_hdr")
        run("sysctl", "-qw", f"net.ipv6.conf.{name}.disable_ipv6=1")
        run("tc", "qdisc", "replace", "dev", name, "root", "noqueue")  # as heddle's TAPs
        run("ip", "link", "set", name, "up")
    return names


def _heddle() -> TapPath:
    vms = product.stopped_vms()
    stop_running()  # it would take notice of the TAPs' comings and goings
    taps, macs = (vms.sender_tap, vms.receiver_tap), (vms.sender_mac, vms.gateway_mac)
    return TapPath("heddle", *taps, *macs, product.SENDER_IP, product.RECEIVER_IP)


FIGURE = Figure(
    "hotpath",
    "60-byte frames from TAP to TAP: CPU time that forwarding adds",
    {
        "hotpath-of-bridge": at_most(1.0, "of a Linux bridge without br_netfilter"),
        "hotpath-of-ip-forwarding": at_most(0.8, "of Linux IP forwarding"),
    },
    measure,
)
