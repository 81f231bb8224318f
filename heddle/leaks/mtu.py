"""Whether all that guests can learn of an MTU is their network's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from heddle.datapath.loader import Datapath
from heddle.leaks.catalogue import Leak
from heddle.leaks.guests import Guests
from heddle.leaks.physical import HostLinks


def find_in_mtu(
    guests: Guests, host_links: HostLinks, datapath: Datapath, paths: Iterable[Mapping[str, Any]]
) -> Iterator[Leak]:
    """Links and their rows in the data plane; then ``paths``, facts of this host's
    paths, across which guests get ICMP errors with a size that is not the network's."""
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
    needed = max((port.network.mtu for port in guests.ports.values()), default=0)
    for path in paths:
        if path["mtu"] and path["mtu"] < needed:
            detail = f"only {path['mtu']} bytes pass; guests that send more are told so"
            yield Leak("mtu", f"path to {path['host']}", detail)
