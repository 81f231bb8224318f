"""What each drop reason means and what to do about it, in words for a person.

Keyed by the enumerators of ``enum drop_reason`` (bpf/shared/abi.h) without
their ``DROP_``; a test compares the two. docs/drops.md is made from this table
by ``python -m heddle.events.reasons``, so that an installed wheel, which has no
docs folder, can explain a drop as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

PREFIX = "DROP_"


class Reason(NamedTuple):
    """One sentence each, without a final full stop."""

    meaning: str
    remedy: str


REASONS: dict[str, Reason] = {
    "UNKNOWN_PORT": Reason(
        "no port is configured for the device the frame came from",
        "wait until `heddle show port` says active; if it stays so, look for the error there",
    ),
    "MALFORMED": Reason(
        "headers are shorter than they say, or contradict each other",
        "look at the frame in `heddle drops --follow`; the guest or its driver is at fault",
    ),
    "VLAN_TAGGED": Reason(
        "the frame carries an 802.1Q or 802.1ad tag, but the port is no trunk",
        "remove the VLAN interface in the guest and give it one NIC per network",
    ),
    "UNSUPPORTED_ETHERTYPE": Reason(
        "the frame is neither IPv4, IPv6 nor ARP",
        "nothing, if the guest merely probes (LLDP, STP); other protocols are not carried",
    ),
    "SOURCE_MAC": Reason(
        "the source MAC is not the one the port was given",
        "undo the change of MAC in the guest, or set `mac` of the NIC in the topology file",
    ),
    "SOURCE_IP": Reason(
        "the source address does not belong to the port, nor is there a static route behind it",
        "let the guest use DHCP, or set `address` of the NIC; a guest that routes needs a static "
        "route on the router with this port as next hop",
    ),
    "ARP_SPOOF": Reason(
        "the sender fields of an ARP message are not the port's own MAC and address",
        "as for SOURCE_IP and SOURCE_MAC",
    ),
    "ND_SPOOF": Reason(
        "a neighbour discovery message speaks for an address or MAC that is not the port's own",
        "as for SOURCE_IP; privacy addresses (RFC 8981) must be off in the guest",
    ),
    "DHCP_SERVER": Reason(
        "a guest sent a DHCP or DHCPv6 server's message",
        "stop the DHCP server in the guest; heddle serves the subnet itself",
    ),
    "ROUTER_ADVERTISEMENT": Reason(
        "a guest sent a router advertisement or a redirect",
        "stop radvd or the like in the guest; heddle advertises the router itself",
    ),
    "ARP_UNKNOWN": Reason(
        "ARP asked for an address that nobody on the network has",
        "check the address the guest talks to, and its netmask: a remote one goes to the gateway",
    ),
    "ND_UNKNOWN": Reason(
        "a neighbour solicitation asked for an address that nobody on the network has",
        "check the address the guest talks to, and its prefix length",
    ),
    "DHCP_INVALID": Reason(
        "a DHCP or DHCPv6 message that no server would answer",
        "look at the captured frame; the client sends a message type that only servers send, or "
        "leaves out what it must contain",
    ),
    "UNKNOWN_MAC": Reason(
        "no port or router of the network has the destination MAC",
        "remove a static ARP entry in the guest, or wait for its cache to expire",
    ),
    "TO_ITSELF": Reason(
        "the destination is the port the frame came from",
        "check for a loop inside the guest, such as a bridge or a route to its own address",
    ),
    "LINK_RESERVED": Reason(
        "the destination is one of 01:80:c2:00:00:00 to 0f, which no bridge forwards "
        "(IEEE 802.1Q, 8.6.3)",
        "nothing; turn off STP, LLDP or LACP in the guest to silence it",
    ),
    "NO_ROUTE": Reason(
        "the router has no route to the destination",
        "add the network or a static route to the router in the topology file",
    ),
    "NO_NEIGHBOR": Reason(
        "the packet was routed to a subnet in which nobody has the destination or next hop address",
        "check the address; `heddle show port` lists those in use",
    ),
    "NEIGHBOR_ASKED": Reason(
        "the packet was routed to a network with foreign members, where somebody not known yet may "
        "have the destination or next hop address; the router has just asked for it",
        "nothing, if it stays at the first packets; else check the address, and that the foreign "
        "VTEP sends what is flooded and its answers to this host",
    ),
    "BLACKHOLE": Reason(
        "a static route without a next hop discards what goes there",
        "remove the route from the router if that is not wanted",
    ),
    "TTL_EXCEEDED": Reason(
        "TTL or hop limit ran out at a router; the sender got an ICMP time exceeded",
        "nothing for traceroute; else look for a routing loop in the static routes",
    ),
    "TOO_BIG": Reason(
        "the packet is larger than the MTU of the network it must enter and may not be fragmented; "
        "the sender got the ICMP error that says so",
        "nothing, if the guest then sends smaller packets; else give both networks the same `mtu`",
    ),
    "ROUTED_MULTICAST": Reason(
        "multicast, broadcast and link-local addresses do not pass a router",
        "put both ends on one network, or use unicast",
    ),
    "ROUTER_SERVICE": Reason(
        "the packet is for a router's own address, where nothing but ping is answered",
        "send it to the machine that offers the service",
    ),
    "ROUTE_LOOP": Reason(
        "static routes hand the packet from router to router without end",
        "check the next hops of the routers' static routes",
    ),
    "POLICY_FROM_VM": Reason(
        "no rule of the port's security groups allows what its machine sends there",
        "add a rule `{direction: from_vm, ...}` for it to one of the port's security groups, or "
        "give the NIC another group; `heddle show security-group` lists the rules",
    ),
    "POLICY_TO_VM": Reason(
        "no rule of the port's security groups allows the packet to its machine",
        "add a rule `{direction: to_vm, ...}` for it to one of the port's security groups, if it "
        "is wanted; `heddle trace` from the sender shows what was looked at",
    ),
    "CONNECTION_INVALID": Reason(
        "the packet belongs to no known connection and can't open one: a SYN+ACK, FIN, RST or an "
        "answer to nothing; or its TCP flags mean nothing together",
        "nothing, if a connection ended or timed out before; else look for packets that take "
        "another way in one direction, and use a stateless security group there",
    ),
    "FRAGMENT_ORPHAN": Reason(
        "a later fragment came without its first one, which alone has the ports that rules ask for",
        "nothing, if fragments are lost or change their order seldom; else let the sender make "
        "packets that fit the `mtu` of the network",
    ),
    "CONNECTION_LIMIT": Reason(
        "the port has as many connections open as it may have: its `connections`, or as many as "
        "the flow table has left free",
        "look at `heddle show flows` for what opens so many; raise `connections` of the NIC in the "
        "topology file if they are wanted",
    ),
    "FLOW_TABLE_FULL": Reason(
        "the flow table of the host is full, so that no new connection can be known",
        "find the ports with most connections in `heddle show port`, and give them a limit with "
        "`connections` of the NIC",
    ),
    "PACKET_RATE_FROM_VM": Reason(
        "the machine sends more packets a second than its port may",
        "nothing, if the limit is meant; else raise `packets_from_vm` or `packet_burst` in `rate` "
        "of the NIC",
    ),
    "PACKET_RATE_TO_VM": Reason(
        "the machine is sent more packets a second than its port may take",
        "nothing, if the limit is meant; else raise `packets_to_vm` or `packet_burst` in `rate` "
        "of the NIC",
    ),
    "BANDWIDTH_FROM_VM": Reason(
        "the machine sends more than its bandwidth: the queue of its limit was full",
        "nothing, if the limit is meant, since TCP slows down so; else raise `from_vm` in `rate` "
        "of the NIC",
    ),
    "BANDWIDTH_TO_VM": Reason(
        "the machine is sent more than its bandwidth: the queue of its limit was full",
        "nothing, if the limit is meant, since TCP slows down so; else raise `to_vm` in `rate` "
        "of the NIC",
    ),
    "NOT_TAKEN_TO_VM": Reason(
        "the machine does not run, or does not take frames as fast as they come: its device has "
        "no room for them; a few while it starts are no harm",
        "start the machine; if it runs, give it more CPU or queues (`cpus`), or hold its senders "
        "to a `rate`",
    ),
    "FLOOD_LIMIT": Reason(
        "the machine sends more broadcast and multicast than its share; each copy counts",
        "look for a loop or a storm in the guest (a bridge, a chatty discovery protocol); use "
        "unicast for bulk data",
    ),
    "UNKNOWN_VTEP": Reason(
        "an envelope came from an address that belongs to no host of the cluster",
        "`heddle drops --follow` shows the address; name it in the topology file as the `vtep` of "
        "a host if it is meant to be one, else look for who sends it",
    ),
    "UNKNOWN_VNI": Reason(
        "an envelope came for a network that has no port on this host",
        "nothing, if a port has just left the host; else look for two clusters that share an "
        "underlay, or at the VNI of a foreign VTEP",
    ),
    "TUNNEL_MALFORMED": Reason(
        "the packet in an envelope is cut off, or its headers contradict each other",
        "look at the frame in `heddle drops --follow`, which names the host that sent it",
    ),
    "NO_VTEP": Reason(
        "the packet is for another host, of which no underlay address is known",
        "start `heddle agent` there; a host makes itself known",
    ),
    "TUNNEL_LOOP": Reason(
        "hosts sent the packet on to each other: they disagree about where its port is",
        "nothing, if the machine is being migrated; else see that the agents of the hosts run and "
        "reach the store",
    ),
    "TUNNEL_MTU": Reason(
        "the packet fits its network, but not the path to the host that has the receiver; the "
        "sender got the ICMP error that says so",
        "raise the MTU of the underlay, or lower the `mtu` of the network",
    ),
    "INTERNAL": Reason(
        "a kernel helper failed, mostly for want of memory",
        "check memory and the kernel log; report it as a bug when neither explains it",
    ),
}


def explain(name: str) -> Reason:
    """The entry of an enumerator of ``enum drop_reason``, with or without DROP_."""
    return REASONS[name.removeprefix(PREFIX)]


def explain_at(name: str, groups: Sequence[str]) -> Reason:
    """The same for a port with these security groups: rules only allow, so what
    they leave out is all there is to say."""
    reason, bare = explain(name), name.removeprefix(PREFIX)
    if not bare.startswith("POLICY_"):
        return reason
    if groups:
        meaning = f"no rule of its security groups ({', '.join(groups)}) allows it"
    else:
        meaning = "it has no security groups, so nothing is allowed"
    return reason._replace(meaning=meaning)


def direction_of(name: str) -> str | None:
    """The direction that a reason is about, as the rules call it; None: either."""
    for direction in ("from_vm", "to_vm"):
        if name.endswith(direction.upper()):
            return direction
    return None


_HEAD = """\
# Drop reasons

Every frame that heddle drops is counted by port and reason and, sampled, reported as an event:
`heddle drops` shows the counters, `heddle drops --follow` the events, and `heddle trace` says which
reason a packet would meet. The port is the one whose rules or limits the frame broke: the receiver
for reasons that end in TO_VM, else the sender; what comes from other hosts counts at the VXLAN
device. Nothing is dropped elsewhere. What finds the queue
of a bandwidth limit (`rate`) or the receive queue of a machine full is dropped by the kernel, which
counts packets alone: it shows in `heddle drops`, but makes no event, and no trace can foresee it
(but that a machine does not run).

This page is made by `python -m heddle.events.reasons > docs/drops.md`; a test keeps it equal.

| reason | meaning | what to do |
|---|---|---|
"""


def page() -> str:
    """The text of docs/drops.md."""
    rows = (
        f"| {name} | {reason.meaning} | {reason.remedy} |\n" for name, reason in REASONS.items()
    )
    return _HEAD + "".join(rows)


if __name__ == "__main__":
    print(page(), end="")
