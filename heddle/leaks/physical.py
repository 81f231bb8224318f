"""What guests must not know: MACs and addresses of this host's own links, and
the underlay addresses of all hosts."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from ipaddress import ip_address
from typing import Any

from heddle.applier import links
from heddle.applier.links import LinkInfo
from heddle.applier.netlink import Netlink, Request, attributes

_RTM_GETADDR = 22
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_ADDRESS = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, ifindex
OUR_ALIAS = "heddle:"


@dataclass(frozen=True, slots=True)
class Physical:
    """Names of what must not show, by its bytes: MACs of 6, addresses of 4 or 16."""

    macs: Mapping[bytes, str]
    addresses: Mapping[bytes, str]

    def seen_in(self, data: bytes, known: Iterable[bytes]) -> str | None:
        """The name of the first thing that stands in ``data``; what guests know
        anyway is left out. IPv4 addresses are looked for as well, since an answer
        is short and mostly zero."""
        expected = set(known)
        for secrets in (self.macs, self.addresses):
            for secret, name in secrets.items():
                if secret not in expected and secret in data:
                    return name
        return None


@dataclass(frozen=True)
class HostLinks:
    """The links of this namespace, and the addresses on them by ifindex."""

    ours: tuple[LinkInfo, ...]
    others: tuple[LinkInfo, ...]
    addresses: Mapping[int, tuple[bytes, ...]]

    @cached_property
    def outside(self) -> set[str]:
        """Names of links that lead out of the host, or may."""
        return {link.name for link in self.others if link.name != "lo"}


def read_links() -> HostLinks:
    with Netlink() as netlink:
        found = [links.parse(body) for body in netlink.dump(links.get_all())]
        bodies = netlink.dump(Request(_RTM_GETADDR, 0, _ADDRESS.pack(0, 0, 0, 0, 0)))
    addresses: dict[int, tuple[bytes, ...]] = {}
    for body in bodies:
        _, _, _, _, index = _ADDRESS.unpack_from(body)
        parts = attributes(body, _ADDRESS.size)
        address = parts.get(_IFA_LOCAL) or parts.get(_IFA_ADDRESS)
        if address:
            addresses[index] = (*addresses.get(index, ()), address)
    return HostLinks(
        ours=tuple(link for link in found if is_ours(link)),
        others=tuple(link for link in found if not is_ours(link)),
        addresses=addresses,
    )


def is_ours(link: LinkInfo) -> bool:
    """Whether heddle made the link, or marks it as its own."""
    return link.alias.startswith(OUR_ALIAS) or link.group == links.GROUP


def read_physical(host_links: HostLinks, objects: Iterable[Mapping[str, Any]]) -> Physical:
    """From the kernel, and VTEPs from the store."""
    macs: dict[bytes, str] = {}
    addresses: dict[bytes, str] = {}
    for link in (*host_links.ours, *host_links.others):
        mac = bytes.fromhex(link.mac.replace(":", ""))
        if len(mac) == 6 and any(mac):
            macs[mac] = f"the MAC {link.mac} of {link.name}"
    for link in host_links.others:
        for address in host_links.addresses.get(link.ifindex, ()):
            if not ip_address(address).is_loopback:
                addresses[address] = f"the address {ip_address(address)} of {link.name}"
    for item in objects:
        if item["kind"] == "host":
            with contextlib.suppress(ValueError):
                vtep = ip_address(item["vtep"])
                addresses[vtep.packed] = f"{vtep}, the VTEP of host {item['name']}"
    return Physical(macs, addresses)
