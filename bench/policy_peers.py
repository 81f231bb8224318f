"""Peers of security groups: what else keeps track of connections.

Each lets the same through: packets of a known connection, and new ones to the
receiver that a rule names; the sender may open what it likes. None of them
checks source addresses, as heddle does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from bench import openvswitch, peers, private
from bench.commands import run
from bench.peers import DEVICE, Pair, run_in

UDP_PORTS = range(9, 25)  # at which the receiver takes new datagrams
TCP_PORTS = range(5201, 5217)  # ... and connections

_NFTABLES = """\
table ip guard {{
    chain forward {{
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        ct state invalid drop
        udp dport {udp} accept
        tcp dport {tcp} accept
        icmp type echo-request accept
    }}
}}
"""

_OVS_GATEWAY_MAC = "02:00:00:00:00:01"
# Known connections pass, others need a rule; then a route, written by hand as a
# controller would write it.
_OVS_FLOWS = """\
priority=1,ip actions=ct(table=1,zone=1)
priority=0 actions=drop
table=1,priority=3,ct_state=+trk+inv,ip actions=drop
table=1,priority=2,ct_state=+trk+est,ip actions=resubmit(,2)
table=1,priority=2,ct_state=+trk+rel,ip actions=resubmit(,2)
table=1,priority=0 actions=drop
"""


def nftables_forwarding() -> Pair:
    """Two subnets, routed by the Linux kernel, with a stateful ruleset."""
    return _with_nftables(peers.ip_forwarding())


def nftables_bridge() -> Pair:
    """One subnet on a Linux bridge; br_netfilter shows its frames to the ruleset."""
    return _with_nftables(peers.linux_bridge(netfilter=True))


def _with_nftables(pair: Pair) -> Pair:
    ruleset = _NFTABLES.format(udp=dashed(UDP_PORTS), tcp=dashed(TCP_PORTS))
    run("ip", "netns", "exec", pair.switch, "nft", "-f", "-", stdin=ruleset)
    # The meters' frames come without a checksum, as those of a container do.
    run_in(pair.switch, "sysctl", "-qw", "net.netfilter.nf_conntrack_checksum=0")
    return replace(pair, name=f"{pair.name}, nftables").check()


def dashed(ports: range) -> str:
    """A range of ports as rules are written."""
    return f"{ports[0]}-{ports[-1]}"


def open_vswitch() -> tuple[Pair, int]:
    """Two subnets, routed by Open vSwitch in user space, and its process id."""
    switch = peers.add_namespace("vswitch")
    sender, receiver = _attach_to_ovs(switch, 1), _attach_to_ovs(switch, 2)
    vswitch = openvswitch.start(private.ROOT / "openvswitch", switch)
    vswitch.add_bridge("br0")
    vswitch.vsctl("set-fail-mode", "br0", "secure")
    for number, name in enumerate((sender, receiver), 1):
        port = ("set", "interface", name, f"ofport_request={number}")
        vswitch.vsctl("add-port", "br0", name, "--", *port)
    flows = "\n".join([*_OVS_FLOWS.splitlines(), *_new_flows(), *map(_route_flow, (1, 2))])
    vswitch.add_flows("br0", flows)
    name = "Open vSwitch, user space"
    pair = Pair(name, sender, receiver, switch, "10.87.1.2", "10.87.2.2")
    return pair.check(), vswitch.pid


def _attach_to_ovs(switch: str, number: int) -> str:
    """A container whose gateway nobody answers for: its MAC is given. Open
    vSwitch sees frames before a device would sum them up, so it sums up itself."""
    name = peers.attach(switch, f"vswitch-{number}", f"10.87.{number}.2/24")
    gateway = f"10.87.{number}.1"
    run_in(name, "ethtool", "-K", DEVICE, "tx", "off")
    run("ip", "-n", name, "route", "add", "default", "via", gateway)
    known = ("lladdr", _OVS_GATEWAY_MAC, "dev", DEVICE, "nud", "permanent")
    run("ip", "-n", name, "neighbor", "replace", gateway, *known)
    return name


def _new_flows() -> Iterator[str]:
    matches = [f"udp,tp_dst={port}" for port in UDP_PORTS]
    matches += [f"tcp,tp_dst={port}" for port in TCP_PORTS]
    for match in [*matches, "icmp,icmp_type=8"]:
        new = f"table=1,priority=1,ct_state=+trk+new,in_port=1,{match}"
        yield f"{new} actions=ct(commit,zone=1),resubmit(,2)"


def _route_flow(number: int) -> str:
    mac = peers.mac_of(f"vswitch-{number}")
    rewrite = f"dec_ttl,mod_dl_src:{_OVS_GATEWAY_MAC},mod_dl_dst:{mac}"
    return f"table=2,ip,nw_dst=10.87.{number}.2 actions={rewrite},output:{number}"
