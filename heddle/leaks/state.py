"""Leaks that show in the kernel's state of our links, without a packet passing."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path

from heddle.applier import filters
from heddle.applier.links import LinkInfo
from heddle.applier.netlink import Netlink, Request
from heddle.errors import KernelError
from heddle.intent.names import port_alias
from heddle.leaks.catalogue import Leak
from heddle.leaks.physical import HostLinks

TUNNEL_ALIAS = "heddle:tunnel:"
_PORT_ALIAS = port_alias("")

# What programs that announce their host ask the kernel for (linux/if_ether.h),
# and the names of those that ask for everything and choose by themselves.
_ANNOUNCING = {0x88CC: "LLDP", 0x0004: "802.2 (STP, CDP)", 0x888E: "802.1X", 0x2000: "CDP"}
_ANNOUNCERS = {"lldpd", "lldpad", "ladvd", "openlldpd", "mstpd", "cdpr", "hostapd"}
_ALL_HOSTS = {"010000E0", "ff020000000000000000000000000001", "ff010000000000000000000000000001"}


def is_of_guest(link: LinkInfo) -> bool:
    """Whether a guest is at its other end."""
    return link.alias.startswith(_PORT_ALIAS)


def is_tunnel(link: LinkInfo) -> bool:
    return link.alias.startswith(TUNNEL_ALIAS)


def find_in_state(host_links: HostLinks, programs: Collection[int]) -> Iterator[Leak]:
    """All there is; ``programs`` are the ids of ours."""
    guarded = [link for link in host_links.ours if is_of_guest(link) or is_tunnel(link)]
    everything = [*host_links.ours, *host_links.others]
    by_index = {link.ifindex: link for link in everything}
    for link in guarded:
        for address in host_links.addresses.get(link.ifindex, ()):
            yield Leak("link-address", link.name, f"has {ip_address(address)}")
        if link.master:
            master = by_index.get(link.master)
            name = master.name if master else f"device {link.master}"
            yield Leak("link-bridge", link.name, f"is a port of {name}")
        for setting, name, meaning in _settings(link.name):
            yield Leak(name, link.name, f"{setting} {meaning}")
    yield from _stacked(guarded, everything)
    yield from _filters(guarded, programs)
    names = {link.name: link for link in guarded}
    yield from _groups(names)
    yield from _sockets({link.ifindex: link.name for link in guarded})


def _stacked(guarded: list[LinkInfo], everything: list[LinkInfo]) -> Iterator[Leak]:
    below = {link.ifindex: link.name for link in guarded}
    for link in everything:
        if link.peer in below and link.peer_nsid is None and link.kind != "veth":
            detail = f"{link.name} ({link.kind}) is stacked on it"
            yield Leak("link-stacked", below[link.peer], detail)


def _settings(device: str) -> Iterator[tuple[str, str, str]]:
    """Settings of a link that are wrong: its name, the leak, and what is wrong."""
    wanted: tuple[tuple[str, str, str], ...] = (
        ("ipv6/conf/{}/disable_ipv6", "link-ipv6", "1"),
        ("ipv4/conf/{}/proxy_arp", "link-proxy", "0"),
        ("ipv4/conf/all/proxy_arp", "link-proxy", "0"),  # what is on for all is on for each
        ("ipv6/conf/{}/proxy_ndp", "link-proxy", "0"),
        ("ipv6/conf/all/proxy_ndp", "link-proxy", "0"),
    )
    for path, leak, value in wanted:
        with contextlib.suppress(OSError):  # no such protocol on this link
            found = Path("/proc/sys/net", path.format(device)).read_text().strip()
            if found != value:
                yield path.partition("conf/")[2].removeprefix("{}/"), leak, f"is {found}"


# ---- filters ----------------------------------------------------------------


def _filters(guarded: list[LinkInfo], programs: Collection[int]) -> Iterator[Leak]:
    def is_ours(found: filters.FilterInfo) -> bool:
        return found.is_ours and found.program_id in programs

    with Netlink() as netlink:
        for link in guarded:
            at_ingress = _dump(netlink, filters.get_all(link.ifindex))
            # An ingress qdisc, which has no egress, lists what it has once more.
            at_egress = _dump(netlink, filters.get_egress(link.ifindex))
            if not any(map(is_ours, at_ingress[:1])):
                yield Leak("link-filter", link.name, "our program is not the first at its ingress")
            if not all(map(is_ours, at_ingress)):
                yield Leak("link-foreign-filter", link.name, "at its ingress")
            elif not all(map(is_ours, at_egress)):
                yield Leak("link-foreign-filter", link.name, "at its egress")


def _dump(netlink: Netlink, request: Request) -> list[filters.FilterInfo]:
    """In the order in which they run. None where nothing can stand."""
    with contextlib.suppress(KernelError):
        return [filters.parse(body) for body in netlink.dump(request) if filters.is_filter(body)]
    return []


# ---- groups and sockets ------------------------------------------------------


def _groups(names: Collection[str]) -> Iterator[Leak]:
    """Multicast groups that the host has joined on these links."""
    device = ""
    for line in _lines("/proc/self/net/igmp"):
        words = line.split()
        if not line.startswith("\t"):
            device = words[1].rstrip(":") if len(words) > 1 else ""
        elif device in names and words[0] not in _ALL_HOSTS:
            group = ip_address(bytes.fromhex(words[0])[::-1])
            yield Leak("link-group", device, f"the host is in group {group}")
    for line in _lines("/proc/self/net/igmp6"):
        words = line.split()
        if words[1] in names and words[2] not in _ALL_HOSTS:
            group = ip_address(bytes.fromhex(words[2]))
            yield Leak("link-group", words[1], f"the host is in group {group}")


def _sockets(names: Mapping[int, str]) -> Iterator[Leak]:
    """Packet sockets bound to these links, or to all, that are there to announce."""
    holder_of: Callable[[str], str] | None = None
    for line in _lines("/proc/self/net/packet")[1:]:
        words = line.split()
        protocol, index, inode = int(words[3], 16), int(words[4]), words[8]
        if index and index not in names:
            continue
        if protocol not in _ANNOUNCING and index == 0:
            continue
        holder_of = holder_of or _holders()
        holder = holder_of(inode)
        if protocol in _ANNOUNCING or holder.split(" ")[0] in _ANNOUNCERS:
            what = _ANNOUNCING.get(protocol, "everything")
            yield Leak("link-daemon", names.get(index, "all links"), f"{holder} listens for {what}")


def _holders() -> Callable[[str], str]:
    """Who holds a socket, by its inode."""
    found: dict[str, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            for descriptor in (folder / "fd").iterdir():
                target = os.readlink(descriptor)
                if target.startswith("socket:["):
                    name = (folder / "comm").read_text().strip()
                    found[target[8:-1]] = f"{name} (pid {folder.name})"
    return lambda inode: found.get(inode, "somebody")


def _lines(file: str) -> list[str]:
    with contextlib.suppress(OSError):
        return Path(file).read_text().splitlines()
    return []
