"""Whether all that guests can learn of an MTU is their network's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from heddle.datapath.loader import Datapath
from heddle.events.fits import misfits, proven_paths, spread_of
from heddle.leaks.catalogue import Leak
from heddle.leaks.guests import Guests
from heddle.leaks.physical import HostLinks


def find_in_mtu(guests: Guests, host_links: HostLinks, datapath: Datapath) -> Iterator[Leak]:
    """Links, and their rows in the data plane."""
    rows, (key_codec, codec) = datapath.table("ports"), datapath.abi.table_types("ports")
    for link in host_links.ours:
        port = guests.ports.get(link.name)
        if port is None:
            continue
        row = rows.get(key_codec.pack(link.ifindex))
        told = {"its link has": link.mtu}
        if isinstance(row, bytes):
            told["ICMP errors there say"] = codec.unpack(row)["mtu"]
        for who, mtu in told.items():
            if mtu != port.network.mtu:
                detail = f"{who} {mtu}, network {port.network.name} has {port.network.mtu}"
                yield Leak("mtu", port.label, detail)


def find_in_paths(
    objects: Iterable[Mapping[str, Any]], host: str, fact: Mapping[str, Any]
) -> Iterator[Leak]:
    """Paths of this host (``fact``) that carry less than a network needs: its guests
    get ICMP errors with a size that is not the network's."""
    for misfit in misfits(spread_of(objects), proven_paths({("path", host): fact})):
        other = next(name for name in misfit.hosts if name != host)
        yield Leak("mtu", f"path to {other}", str(misfit))
