"""Faults of the underlay: cables that carry nothing, one way or both.

They are rules of nftables at the switch, one for each pair and direction, so
that neither end sees its link go down: what is sent is lost. The rules are the
only record of what is cut.
"""

from __future__ import annotations

import errno
from collections.abc import Collection, Iterable
from typing import NamedTuple

from heddle.applier import nftables
from heddle.applier.netlink import NETLINK_NETFILTER, Netlink
from heddle.applier.nftables import Family, Hook, Meta
from heddle.errors import KernelError
from heddle.lab.plan import link_name
from heddle.lab.spaces import Space

EVERYTHING = "*"
"""In place of a host: all that is plugged into the switch, etcd included."""

_TABLE = "heddle-lab"


class Cut(NamedTuple):
    """Nothing gets from one host to another; EVERYTHING stands for all."""

    sender: str
    receiver: str

    def touches(self, hosts: Collection[str]) -> bool:
        """Whether it is about these: one host, or both of two."""
        return set(hosts) <= {self.sender, self.receiver}


def between(one: str, other: str, *, one_way: bool) -> set[Cut]:
    cuts = {Cut(one, other)}
    return cuts if one_way else cuts | {Cut(other, one)}


def read_cuts(underlay: Space) -> set[Cut]:
    """What is cut now."""
    return underlay.in_network(_read)


def write_cuts(underlay: Space, cuts: Iterable[Cut]) -> None:
    """Cut this and nothing else, at one stroke. KernelError."""
    underlay.in_network(lambda: _write(sorted(cuts)))


def _read() -> set[Cut]:
    with Netlink(NETLINK_NETFILTER) as netlink:
        try:
            bodies = netlink.dump(nftables.get_rules(Family.BRIDGE, _TABLE))
        except KernelError:  # no table yet
            return set()
    rules = map(nftables.parse_rule, bodies)
    return {Cut(*remark.decode().split()) for table, _, remark in rules if table == _TABLE}


def _write(cuts: list[Cut]) -> None:
    requests = nftables.replace_table(Family.BRIDGE, _TABLE)
    requests.append(nftables.add_chain(Family.BRIDGE, _TABLE, Hook.FORWARD, 0))
    requests += [
        nftables.add_rule(
            Family.BRIDGE, _TABLE, Hook.FORWARD, _expressions(cut), " ".join(cut).encode()
        )
        for cut in cuts
    ]
    with Netlink(NETLINK_NETFILTER) as netlink:
        try:
            netlink.transaction(requests)
        except OSError as error:
            remedy = "; the kernel needs nf_tables for bridges" if error.errno in _LACKING else ""
            raise KernelError(f"cut the underlay: {error.strerror}{remedy}") from error


_LACKING = (errno.EOPNOTSUPP, errno.ENOENT, errno.EAFNOSUPPORT)


def _expressions(cut: Cut) -> list[bytes]:
    found: list[bytes] = []
    if cut.sender != EVERYTHING:
        found += nftables.interface_is(Meta.INTERFACE_IN, link_name(cut.sender))
    if cut.receiver != EVERYTHING:
        found += nftables.interface_is(Meta.INTERFACE_OUT, link_name(cut.receiver))
    return found + nftables.drop()
