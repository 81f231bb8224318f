"""What heddle's overlay is compared with, on foreign hosts of the same underlay:
one subnet across two hosts, with VXLAN made by the kernel or by Open vSwitch."""

from __future__ import annotations

from dataclasses import dataclass

from bench import openvswitch, peers, private
from bench.cluster_lab import KERNEL_HOSTS, VSWITCH_HOSTS, vtep_of
from bench.commands import run
from bench.openvswitch import OpenVSwitch
from bench.peers import DEVICE, MTU, Pair, run_in

_VNI = "42"
_UNDERLAY = "eth0"
_UNDERLAY_BITS = 24


@dataclass(frozen=True, slots=True)
class VSwitchPair:
    pair: Pair
    daemons: tuple[int, ...]  # process ids


def kernel_vxlan() -> Pair:
    """A Linux bridge on each host, joined by a VXLAN device of the kernel."""
    ends = []
    for number, host in enumerate(KERNEL_HOSTS):
        run("ip", "-n", host, "link", "add", "br0", "mtu", str(MTU), "type", "bridge")
        run("ip", "-n", host, "link", "set", "br0", "up")
        tunnel = ("id", _VNI, "dstport", "4789", "remote", vtep_of(KERNEL_HOSTS[1 - number]))
        run("ip", "-n", host, "link", "add", "vx0", "mtu", str(MTU), "type", "vxlan", *tunnel)
        ends.append(peers.attach(host, f"{host}-end", f"10.84.0.{2 + number}/24"))
        for port in ("vx0", ends[-1]):
            run("ip", "-n", host, "link", "set", port, "master", "br0", "up")
    name = "kernel VXLAN and Linux bridge"
    sender, receiver = ends
    return Pair(name, sender, receiver, KERNEL_HOSTS[0], "10.84.0.2", "10.84.0.3").check()


def vswitch_vxlan() -> VSwitchPair:
    """Open vSwitch in user space on each host, with its own VXLAN."""
    ends, daemons = [], []
    for number, host in enumerate(VSWITCH_HOSTS):
        end = peers.attach(host, f"{host}-end", f"10.85.0.{2 + number}/24")
        # Open vSwitch sees frames before a device would sum them up.
        run_in(end, "ethtool", "-K", DEVICE, "tx", "off")
        switch = openvswitch.start(private.ROOT / f"openvswitch-{host}", host)
        _give_underlay(switch, host)
        switch.add_bridge("br-int")
        switch.vsctl("add-port", "br-int", end)
        remote = f"options:remote_ip={vtep_of(VSWITCH_HOSTS[1 - number])}"
        tunnel = ("set", "interface", "vx0", "type=vxlan", remote, f"options:key={_VNI}")
        switch.vsctl("add-port", "br-int", "vx0", "--", *tunnel)
        ends.append(end)
        daemons.append(switch.pid)
    name = "Open vSwitch, user space, VXLAN"
    sender, receiver = ends
    pair = Pair(name, sender, receiver, VSWITCH_HOSTS[0], "10.85.0.2", "10.85.0.3")
    return VSwitchPair(pair.check(), tuple(daemons))


def _give_underlay(switch: OpenVSwitch, host: str) -> None:
    """Put the host's uplink and address on a bridge of Open vSwitch, which sends
    envelopes only where it routes itself."""
    switch.add_bridge("br-phy")
    mac = run("ip", "netns", "exec", host, "cat", f"/sys/class/net/{_UNDERLAY}/address").strip()
    switch.vsctl("set", "bridge", "br-phy", f'other-config:hwaddr="{mac}"')
    run("ip", "-n", host, "address", "flush", "dev", _UNDERLAY)
    switch.vsctl("add-port", "br-phy", _UNDERLAY)
    address = f"{vtep_of(host)}/{_UNDERLAY_BITS}"
    run("ip", "-n", host, "address", "add", address, "dev", "br-phy")
    run("ip", "-n", host, "link", "set", "br-phy", "up")
