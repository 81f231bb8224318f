"""Keeps envelopes out of the host's connection tracking.

Two rules in a table of our own, before connection tracking looks: what comes for
the UDP port, and what goes to it. Without them each flow of a guest would take
an entry of the host's table, and a full one would drop envelopes.
"""

from __future__ import annotations

import errno
from pathlib import Path

from heddle.applier import nftables
from heddle.applier.netlink import NETLINK_NETFILTER, Netlink
from heddle.applier.nftables import Family, Hook, Meta
from heddle.errors import KernelError

TABLE = "heddle"

_TRACKING = Path("/proc/sys/net/netfilter/nf_conntrack_max")  # there when it is
_RAW = -300  # NF_IP_PRI_RAW; connection tracking is at -200
_HOOKS = (Hook.PREROUTING, Hook.OUTPUT)
_UDP = b"\x11"
_DESTINATION_PORT = 2  # its offset in the UDP header


class Untracked:
    """The table in the network namespace of the caller."""

    def __init__(self) -> None:
        self._netlink = Netlink(NETLINK_NETFILTER)

    def close(self) -> None:
        self._netlink.close()

    def is_right(self, udp_port: int) -> bool:
        """Whether nothing is to be done: the rules are there, or nobody tracks."""
        if not _TRACKING.exists():
            return True
        try:
            chains = set(map(nftables.parse_chain, self._netlink.dump(nftables.get_chains(_INET))))
            rules = map(nftables.parse_rule, self._netlink.dump(nftables.get_rules(_INET, TABLE)))
            ours = sorted(rule for rule in rules if rule[0] == TABLE)
        except KernelError:  # such as: no such table
            return False
        wanted = [nftables.chain_name(hook) for hook in _HOOKS]
        return {(TABLE, name, _RAW) for name in wanted} <= chains and ours == sorted(
            (TABLE, name, _remark(udp_port)) for name in wanted
        )

    def put(self, udp_port: int) -> None:
        """Make the table anew. KernelError."""
        requests = nftables.replace_table(_INET, TABLE)
        requests += [nftables.add_chain(_INET, TABLE, hook, _RAW) for hook in _HOOKS]
        expressions = nftables.meta_is(Meta.L4_PROTOCOL, _UDP)
        expressions += nftables.transport_is(_DESTINATION_PORT, udp_port.to_bytes(2, "big"))
        expressions += nftables.notrack()
        remark = _remark(udp_port)
        requests += [nftables.add_rule(_INET, TABLE, h, expressions, remark) for h in _HOOKS]
        try:
            self._netlink.transaction(requests)
        except OSError as error:
            raise KernelError(
                f"keep envelopes out of connection tracking: {error.strerror}; "
                "the kernel needs nf_tables"
            ) from error

    def remove(self) -> None:
        """Take the table away, if there is one. KernelError."""
        try:
            self._netlink.transaction([nftables.delete_table(_INET, TABLE)])
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EOPNOTSUPP, errno.EINVAL):
                raise KernelError(f"remove nftables table {TABLE}: {error.strerror}") from error


_INET = Family.INET


def _remark(udp_port: int) -> bytes:
    return f"heddle:{udp_port}".encode()
