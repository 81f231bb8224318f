"""What heddle is compared with, each between two containers of its own.

A pair is two network namespaces with an ``eth0`` that reach each other through
whatever lies between; heddle makes one as well (product.py). All have the MTU of
an overlay network, so that all carry the same segments.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from bench.commands import BenchError, run

MTU = 1450
DEVICE = "eth0"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two namespaces, and the one that holds the host ends of their veths."""

    name: str
    sender: str
    receiver: str
    switch: str
    sender_ip: str
    receiver_ip: str

    @property
    def sender_mac(self) -> str:
        return mac_of(self.sender)

    @property
    def host_device(self) -> str:
        """The other end of the sender's veth, in the switch's namespace."""
        index = _link(self.sender)["link_index"]
        links = json.loads(run("ip", "-n", self.switch, "-j", "link", "show"))
        return next(str(link["ifname"]) for link in links if link["ifindex"] == index)

    @property
    def next_hop_mac(self) -> str:
        """MAC to which the sender's frames go: of the receiver or of a gateway."""
        show = ("ip", "-n", self.sender, "-j", "neighbor", "show", "dev", DEVICE)
        for neighbor in json.loads(run(*show)):
            if "lladdr" in neighbor and ":" not in neighbor["dst"]:
                return str(neighbor["lladdr"])
        raise BenchError(f"{self.name}: the sender has not resolved its next hop")

    def reversed(self) -> Pair:
        """The same, seen from the receiver."""
        return replace(
            self,
            sender=self.receiver,
            receiver=self.sender,
            sender_ip=self.receiver_ip,
            receiver_ip=self.sender_ip,
        )

    def check(self) -> Pair:
        """Make sure that packets pass, and that next hops are resolved."""
        run_in(self.sender, "ping", "-q", "-c", "2", "-i", "0.2", "-W", "1", self.receiver_ip)
        return self


def mac_of(namespace: str) -> str:
    """The MAC of a container."""
    return str(_link(namespace)["address"])


def _link(namespace: str) -> dict[str, object]:
    links = json.loads(run("ip", "-n", namespace, "-j", "link", "show", "dev", DEVICE))
    return dict(links[0])


def netns_path(namespace: str) -> str:
    return f"/run/netns/{namespace}"


def run_in(namespace: str, *argv: str) -> str:
    return run("ip", "netns", "exec", namespace, *argv)


def joined_veths() -> Pair:
    """Two directly joined veth ends, nothing between: the limit."""
    sender, receiver = add_namespace("joined-a"), add_namespace("joined-b")
    peer = ("peer", "name", DEVICE, "netns", receiver)
    run("ip", "-n", sender, "link", "add", DEVICE, "mtu", str(MTU), "type", "veth", *peer)
    run("ip", "-n", receiver, "link", "set", DEVICE, "mtu", str(MTU))
    _address(sender, "10.80.0.2/24")
    _address(receiver, "10.80.0.3/24")
    return Pair("joined veth ends", sender, receiver, "", "10.80.0.2", "10.80.0.3").check()


def ip_forwarding() -> Pair:
    """Two subnets, routed by the Linux kernel without any firewall rule."""
    switch = add_namespace("forward")
    run_in(switch, "sysctl", "-qw", "net.ipv4.ip_forward=1")
    sender = attach(switch, "forward-a", "10.81.1.2/24")
    receiver = attach(switch, "forward-b", "10.81.2.2/24")
    for number, namespace in ((1, sender), (2, receiver)):
        gateway = f"10.81.{number}.1"
        run("ip", "-n", switch, "address", "add", f"{gateway}/24", "dev", namespace)
        run("ip", "-n", namespace, "route", "add", "default", "via", gateway)
    return Pair("IP forwarding", sender, receiver, switch, "10.81.1.2", "10.81.2.2").check()


def linux_bridge(*, netfilter: bool) -> Pair:
    """One subnet on a Linux bridge. With br_netfilter in the kernel, frames pass
    through netfilter by default; without it the bridge only switches."""
    name = "bridge" if netfilter else "plain"
    switch = add_namespace(name)
    if not netfilter:
        for family in ("ip", "ip6", "arp"):
            key = f"net.bridge.bridge-nf-call-{family}tables"
            run_in(switch, "sysctl", "-q", "-e", "-w", f"{key}=0")
    run("ip", "-n", switch, "link", "add", "br0", "mtu", str(MTU), "type", "bridge")
    run("ip", "-n", switch, "link", "set", "br0", "up")
    sender = attach(switch, f"{name}-a", "10.82.0.2/24")
    receiver = attach(switch, f"{name}-b", "10.82.0.3/24")
    for device in (sender, receiver):
        run("ip", "-n", switch, "link", "set", device, "master", "br0")
    title = "Linux bridge" if netfilter else "Linux bridge, br_netfilter off"
    return Pair(title, sender, receiver, switch, "10.82.0.2", "10.82.0.3").check()


def attach(switch: str, name: str, address: str) -> str:
    """A namespace with a veth to the switch's namespace; both are called name."""
    namespace = add_namespace(name)
    peer = ("peer", "name", DEVICE, "mtu", str(MTU), "netns", namespace)
    run("ip", "-n", switch, "link", "add", name, "mtu", str(MTU), "type", "veth", *peer)
    run("ip", "-n", switch, "link", "set", name, "up")
    _address(namespace, address)
    return namespace


def add_namespace(name: str) -> str:
    run("ip", "netns", "add", name)
    run("ip", "-n", name, "link", "set", "lo", "up")
    return name


def _address(namespace: str, address: str) -> None:
    run("ip", "-n", namespace, "link", "set", DEVICE, "up")
    run("ip", "-n", namespace, "address", "add", address, "dev", DEVICE)
