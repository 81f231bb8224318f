"""The network between the hosts of a lab: a switch, and a cable to each."""

from __future__ import annotations

import hashlib
import ipaddress
import json
from collections.abc import Iterator

from heddle.lab.folder import ETCD
from heddle.lab.plan import LabHost, LabPlan, link_name
from heddle.lab.spaces import Space

NIC = "eth0"
_SWITCH = "switch"
# Of a kernel with br_netfilter: a switch has no firewall, and tracks nothing.
_NO_NETFILTER = """
for file in /proc/sys/net/bridge/bridge-nf-call-*tables; do
    if [ -e "$file" ]; then echo 0 >"$file"; fi
done
"""
_QUIET_IPV6 = "echo 1 >/proc/sys/net/ipv6/conf/{}/disable_ipv6"


def build_switch(underlay: Space, lock: int) -> None:
    """The switch itself, which floods multicast to all cables."""
    if _SWITCH in _links(underlay, lock):
        return
    underlay.run(["sh", "-c", _QUIET_IPV6.format("default")], lock)
    underlay.run(["sh", "-c", _NO_NETFILTER], lock)
    underlay.configure(
        [f"link add {_SWITCH} type bridge mcast_snooping 0", f"link set {_SWITCH} up"], lock
    )


def connect(underlay: Space, spaces: dict[str, Space], plan: LabPlan, lock: int) -> None:
    """A cable from the switch to each host, and one to etcd."""
    there = _links(underlay, lock)
    ends = {host.name: [host.address] for host in plan.hosts} | {ETCD: list(plan.members)}
    for name, addresses in ends.items():
        if link_name(name) not in there:
            _plug(underlay, spaces[name], plan, lock)
        if addresses[0] not in _addresses(spaces[name], lock):
            _address(spaces[name], plan, addresses, lock)


def _plug(underlay: Space, space: Space, plan: LabPlan, lock: int) -> None:
    link, mac = link_name(space.name), _mac(plan.name, space.name)
    underlay.configure(
        [
            f"link add {link} mtu {plan.mtu} type veth "
            f"peer name {NIC} address {mac} mtu {plan.mtu} netns {space.network}",
            f"link set {link} master {_SWITCH}",
            f"link set {link} up",
        ],
        lock,
    )


def _mac(lab: str, host: str) -> str:
    """Of a host's NIC: stable, and none that a guest could have."""
    digest = hashlib.sha256(f"{lab}/{host}".encode()).digest()
    return (b"\x02" + digest[:5]).hex(":")


def _address(space: Space, plan: LabPlan, addresses: list[str], lock: int) -> None:
    if plan.ip_version == 4:
        space.run(["sh", "-c", _QUIET_IPV6.format(NIC)], lock)
    no_detection = " nodad" if plan.ip_version == 6 else ""
    commands = [f"link set {NIC} up"]
    commands += [f"address replace {address} dev {NIC}{no_detection}" for address in addresses]
    commands += [f"route replace {other} dev {NIC}" for other in _strangers(plan)]
    space.configure(commands, lock)


def _strangers(plan: LabPlan) -> Iterator[str]:
    """Addresses and prefixes outside of the underlay's own, which its hosts must
    know how to reach, and be reached from."""
    own = ipaddress.ip_interface(plan.members[0]).network
    strangers = [host for host in plan.hosts if _address_of(host) not in own]
    if strangers:
        yield str(own)
    yield from (host.vtep for host in strangers)


def _address_of(host: LabHost) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(host.vtep)


def unplug(underlay: Space, host: str, lock: int) -> None:
    """Take a host's cable away."""
    if link_name(host) in _links(underlay, lock):
        underlay.configure([f"link delete {link_name(host)}"], lock)


def _links(space: Space, lock: int) -> set[str]:
    return {link["ifname"] for link in json.loads(space.run(["ip", "-json", "link"], lock))}


def _addresses(space: Space, lock: int) -> set[str]:
    found = json.loads(space.run(["ip", "-json", "address"], lock))
    return {
        f"{address['local']}/{address['prefixlen']}"
        for link in found
        if link["ifname"] == NIC
        for address in link["addr_info"]
    }
