"""Every leak that `heddle leaks` looks for, in words for a person.

docs/leaks.md is made from this table by ``python -m heddle.leaks.catalogue``; a
test compares the two.
"""

from __future__ import annotations

from typing import NamedTuple


class Line(NamedTuple):
    """``leak``: what would be wrong; ``check``: how it is looked for; ``remedy``:
    what to do about one that is found."""

    leak: str
    check: str
    remedy: str


class Leak(NamedTuple):
    """One that was found: a name of the catalogue, the device or port, and what
    was seen there."""

    name: str
    where: str
    detail: str


_ASK = "asks for each port of the host, through the live data plane"
_READ = "reads the kernel's state of our links"
_GUESTS = "captures what leaves towards guests"
_WIRE = "captures what passes the links outside"
_RESTART = "let the agent repair it (`heddle agent --detach` when none runs)"
_INTRUDER = "keep that program off links whose names begin with tap, hdl or heddle"

CATALOGUE: dict[str, Line] = {
    "arp-answer": Line(
        "an answer to ARP or neighbour discovery has a MAC or an address of a host",
        _ASK,
        _RESTART,
    ),
    "dhcp-answer": Line(
        "DHCP or DHCPv6 hands out a MAC or an address of a host",
        _ASK,
        "take the host's address out of `dns` and `host_routes` of the subnet",
    ),
    "ra-answer": Line(
        "a router advertisement has a MAC or an address of a host",
        _ASK,
        "take the host's address out of `dns` of the subnet",
    ),
    "icmp-error": Line(
        "an ICMP error that the data plane makes comes from, or quotes, an address of a host",
        _ASK,
        _RESTART,
    ),
    "ttl": Line(
        "a packet loses more or less than one of its TTL per router, so that hosts can be counted",
        _ASK,
        "report it: the data plane does not do what it must",
    ),
    "mtu": Line(
        "guests of one network are told different MTUs, by DHCP, RA, their link, or ICMP errors "
        "from a path that carries less",
        _ASK + ", and compares links, tables and proven paths with the network's MTU",
        _RESTART + "; of a path (`heddle show paths`): mend the underlay, or lower `mtu`",
    ),
    "link-filter": Line(
        "our program is not the first at the ingress of a link, so that frames from guests or "
        "envelopes reach the host's own network stack, which may answer",
        _READ,
        _RESTART,
    ),
    "link-foreign-filter": Line(
        "somebody else's filter stands on a link of ours and may copy or change frames",
        _READ,
        "remove it with `tc filter del`",
    ),
    "link-address": Line(
        "the host has an address on a link of ours: it would answer ARP and ping there",
        _READ,
        "remove it with `ip address del`",
    ),
    "link-ipv6": Line(
        "the host's own IPv6 is on for a link of ours: it would send MLD, DAD and solicitations",
        _READ,
        "set net.ipv6.conf.DEVICE.disable_ipv6=1",
    ),
    "link-bridge": Line(
        "a link of ours is a port of a bridge, bond or VRF: STP, IGMP queries and other ports' "
        "frames would reach the guest",
        _READ,
        "take it out with `ip link set DEVICE nomaster`",
    ),
    "link-stacked": Line(
        "another link (macvlan, VLAN, ...) is stacked on one of ours and can send to the guest",
        _READ,
        "remove that link",
    ),
    "link-proxy": Line(
        "the host answers ARP or neighbour discovery for others on a link of ours (proxy_arp, "
        "proxy_ndp)",
        _READ,
        "set net.ipv4.conf.DEVICE.proxy_arp=0 and net.ipv6.conf.DEVICE.proxy_ndp=0, of all as well",
    ),
    "link-group": Line(
        "the host has joined a multicast group on a link of ours: it would send IGMP or MLD",
        _READ,
        _INTRUDER,
    ),
    "link-daemon": Line(
        "a program that announces the host (LLDP, CDP, STP, 802.1X) listens on a link of ours",
        _READ,
        _INTRUDER,
    ),
    "guest-lldp": Line("the host sends LLDP or CDP to a guest", _GUESTS, _INTRUDER),
    "guest-stp": Line("a bridge sends STP to a guest", _GUESTS, _INTRUDER),
    "guest-igmp": Line("the host sends IGMP to a guest", _GUESTS, _INTRUDER),
    "guest-mld": Line(
        "the host sends MLD to a guest",
        _GUESTS,
        "set net.ipv6.conf.DEVICE.disable_ipv6=1",
    ),
    "guest-nd": Line(
        "the host sends neighbour discovery or router advertisements to a guest",
        _GUESTS,
        _INTRUDER,
    ),
    "guest-mdns": Line("the host sends mDNS, LLMNR or SSDP to a guest", _GUESTS, _INTRUDER),
    "guest-dhcp": Line(
        "a DHCP server that is not the network's own answers a guest", _GUESTS, _INTRUDER
    ),
    "guest-arp": Line(
        "a guest receives ARP with a MAC or an address of a host", _GUESTS, _INTRUDER
    ),
    "guest-icmp": Line(
        "a guest receives an ICMP error of the physical network, or one that quotes it",
        _GUESTS,
        "find who sends it: the data plane hands no packet of the underlay to guests",
    ),
    "guest-frame": Line(
        "a guest receives any other frame from a MAC that nobody in its network has",
        _GUESTS,
        _INTRUDER,
    ),
    "wire-frame": Line(
        "a guest's frame is on the wire outside of an envelope: it has a guest's or router's MAC",
        _WIRE,
        "look for a bridge or route between the link and a guest (`bridge link`, `ip route`)",
    ),
    "wire-packet": Line(
        "a packet with a guest's address is on the wire outside of an envelope",
        _WIRE,
        "look for a route of the host to the guests' addresses (`ip route get ADDRESS`)",
    ),
    "wire-vtep": Line(
        "an envelope goes to an address that is no host's VTEP",
        _WIRE,
        "find who sends it: the data plane sends to known VTEPs alone",
    ),
    "wire-network": Line(
        "an envelope leaves with a VNI that no network has",
        _WIRE,
        "find who sends it; after a network was removed, look again",
    ),
}

_HEAD = """\
# Leaks

Guests must not learn of the physical network, and the wire must not carry a guest's frame in the
clear. `heddle leaks` looks for every way in which that could happen on this host, and ends with
exit code 1 when it finds one. It looks in three ways: it puts questions to the live data plane as
`heddle trace` does (nothing is sent or changed), reads the kernel's state of the links that heddle
owns, and captures for a short time on these links and on those that lead outside (`--seconds`). A
capture sees what passes meanwhile: a host that announces itself every 30 seconds is found by its
state, or by a longer capture.

"A host's" MACs and addresses are those of every link that heddle does not own, and all VTEPs; an
address that a guest's network has as well does not count there. What a guest of a network says to
others of it is its own affair.

This page is made by `python -m heddle.leaks.catalogue > docs/leaks.md`; a test keeps it equal.

| name | leak | how it is looked for | what to do |
|---|---|---|---|
"""


def page() -> str:
    """The text of docs/leaks.md."""
    rows = (
        f"| {name} | {line.leak} | {line.check} | {line.remedy} |\n"
        for name, line in CATALOGUE.items()
    )
    return _HEAD + "".join(rows)


if __name__ == "__main__":
    print(page(), end="")
