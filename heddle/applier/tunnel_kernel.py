"""The tunnel in the Linux kernel: its device, the program at its ingress, the
underlay multicast groups, and the rules that keep envelopes untracked."""

from __future__ import annotations

import errno
import ipaddress
import time
from collections.abc import Sequence
from typing import NamedTuple

from heddle.applier import filters, links
from heddle.applier import tunnel_messages as messages
from heddle.applier.ethtool import has_gro, turn_off_gro
from heddle.applier.kernel import TunnelFact
from heddle.applier.links import LinkInfo
from heddle.applier.netlink import Netlink, Request
from heddle.applier.sysctl import disable_ipv6
from heddle.applier.tunnel_messages import MTU, Address, Settings
from heddle.applier.untracked import Untracked
from heddle.compiler.state import Tunnel
from heddle.datapath.loader import Datapath
from heddle.datapath.watch import UnderlayWatch
from heddle.errors import KernelError
from heddle.intent.model import EnvelopeWay
from heddle.intent.names import TUNNEL, tunnel_alias
from heddle.paths import settings_file

_ALIAS_PREFIX = tunnel_alias("")
_LOCAL_WAY_SECONDS = 0.5
_LOCAL_WAY_PAUSE = 0.002


class _Found(NamedTuple):
    info: LinkInfo
    settings: Settings


class TunnelDevice:
    """Reads and writes by a netlink socket."""

    def __init__(self, netlink: Netlink, datapath: Datapath) -> None:
        self._netlink = netlink
        self._program = program = datapath.from_tunnel
        self._watch = UnderlayWatch(datapath.host, datapath.to_underlay)
        ports = (datapath.abi.value("SOURCE_PORT_MIN"), datapath.abi.value("SOURCE_PORT_MAX"))
        self._source_ports = ports
        self._options = filters.bpf_options(program.fd, program.name)
        self._untracked = Untracked()

    def close(self) -> None:
        self._untracked.close()

    def read(self, wanted: Tunnel | None) -> TunnelFact | None:
        """Our device with what is wrong of it; None: there is none."""
        ours = self._ours()
        if not ours:
            return None
        found = ours[0]
        doubled = ("doubled",) if len(ours) > 1 else ()
        if wanted is None:
            return TunnelFact(found.info.ifindex, ("unwanted", *doubled))
        addresses = self._addresses()
        faults = self._faults(found, wanted, addresses)
        envelopes = self._way_of_envelopes(wanted, _link_of(wanted, addresses))
        return TunnelFact(found.info.ifindex, (*faults, *doubled), envelopes)

    def mend(self, wanted: Tunnel) -> TunnelFact:
        """Make or mend it. KernelError names what stands in the way."""
        fitting = [each for each in self._ours() if each.settings == self._settings(wanted)]
        self._delete([each for each in self._ours() if each not in fitting[:1]])
        if not fitting:
            self._carry_out([messages.create(wanted, self._source_ports)], wanted)
            fitting = self._ours()
        self._furnish(fitting[0].info, wanted)
        if not self._untracked.is_right(wanted.udp_port):
            self._untracked.put(wanted.udp_port)
        addresses = self._addresses()
        link = _underlay_of(wanted, addresses)
        self._change_groups(wanted, link, addresses)
        if not wanted.is_direct:
            self._watch.remove()
        elif not self._is_watched(wanted, link):
            self._watch.put(link)
        fact = self.read(wanted)
        if fact is None or fact.faults:
            left = ", ".join(fact.faults) if fact else "gone"
            raise KernelError(f"link {wanted.name}: {left} again as soon as it was put right")
        return fact

    def remove(self) -> None:
        """Remove it and what belongs to it. KernelError."""
        self._delete(self._ours())
        ours = [each for each in self._addresses() if each.is_ours]
        self._netlink.batch([request for each in ours for request in _leaving(each)])
        self._untracked.remove()
        self._watch.remove()

    # ---- what is there -----------------------------------------------------

    def _ours(self) -> list[_Found]:
        """All that bear our mark; the one that has the right name first."""
        found = [
            _Found(info, messages.parse_settings(body))
            for body in self._netlink.dump(messages.get_devices())
            if messages.is_tunnel(info := links.parse(body)) and links.is_ours(info, _ALIAS_PREFIX)
        ]
        return sorted(found, key=lambda each: each.info.name != TUNNEL)

    def _faults(self, found: _Found, wanted: Tunnel, addresses: Sequence[Address]) -> list[str]:
        info = found.info
        right = {
            "underlay address": _link_of(wanted, addresses) is not None,
            "name": info.name == wanted.name,
            "settings": found.settings == self._settings(wanted),
            "alias": info.alias == wanted.alias,
            "mtu": info.mtu == MTU,
            "down": info.up,
            "filter": self._is_guarded(info.ifindex),
            "gro": not _merges(info.name),
            "watch of the underlay": self._is_watched(wanted, _link_of(wanted, addresses)),
            "groups": _groups_are_right(wanted, addresses) and self._leads_out(wanted, addresses),
            "connection tracking": self._untracked.is_right(wanted.udp_port),
        }
        return [what for what, is_right in right.items() if not is_right]

    def _settings(self, wanted: Tunnel) -> Settings:
        return Settings(wanted.udp_port, self._source_ports)

    def _is_watched(self, wanted: Tunnel, link: int | None) -> bool:
        """Whether the program that sees what leaves by our underlay address's link is
        there, if it shall be. Frames alone show how: other links have none."""
        if not wanted.is_direct:
            return not self._watch.is_there()
        return link is None or self._watch.is_right(link) or not self._has_frames(link)

    def _way_of_envelopes(self, wanted: Tunnel, link: int | None) -> str:
        if not wanted.is_direct:
            reason = "settings"
        elif ":" in wanted.vtep:
            reason = "IPv6 underlay"
        elif self._watch.is_refused:
            reason = "kernel without tcx"
        elif link is None or not self._has_frames(link):
            reason = "no Ethernet"
        else:
            return EnvelopeWay.DIRECT
        return f"{EnvelopeWay.STACK} ({reason})"

    def _has_frames(self, link: int) -> bool:
        answer = self._netlink.read([links.get(link)])[0]
        return isinstance(answer, bytes) and links.has_frames(answer)

    def _is_guarded(self, index: int) -> bool:
        try:
            found = map(filters.parse, self._netlink.dump(filters.get_all(index)))
        except KernelError:  # the link has gone meanwhile
            return False
        return any(
            each.is_ours and each.direct_action and each.program_id == self._program.id
            for each in found
        )

    # ---- making it so ------------------------------------------------------

    def _furnish(self, info: LinkInfo, wanted: Tunnel) -> None:
        """Mark, guard, then open: what came in before would reach the host itself."""
        index = info.ifindex
        if info.name != wanted.name:
            self._carry_out([links.change(index, up=False)], wanted)
            self._carry_out([links.change(index, name=wanted.name)], wanted)
        self._carry_out([links.adopt(index, wanted.alias, MTU)], wanted)
        for what, turn_off in (("IPv6", disable_ipv6), ("GRO", turn_off_gro)):
            try:
                turn_off(wanted.name)
            except OSError as error:
                reason = error.strerror
                raise KernelError(f"link {wanted.name}: turn {what} off: {reason}") from error
        self._guard(index)
        self._carry_out([links.change(index, up=True)], wanted)

    def _guard(self, index: int) -> None:
        """Our program at the ingress, whatever has become of it; without it the
        device is set down."""
        attach = filters.attach(index, self._options)
        for prepare in (
            [filters.add_own_ingress(index)],
            [filters.remove_ingress(index), filters.add_own_ingress(index)],  # a shared block
        ):
            if self._is_guarded(index):
                return
            error = self._netlink.batch([*prepare, attach])[-1]
        if not self._is_guarded(index):
            self._netlink.batch([links.change(index, up=False)])
            reason = error.strerror if error else "its filter is gone again"
            raise KernelError(f"link {TUNNEL}: {self._program.name}: {reason}")

    def _delete(self, doomed: Sequence[_Found]) -> None:
        for each in doomed:
            error = self._netlink.batch([links.delete(each.info.ifindex)])[0]
            if error is not None and error.errno != errno.ENODEV:
                raise KernelError(f"link {each.info.name}: {error.strerror}")

    def _carry_out(self, requests: Sequence[Request], wanted: Tunnel) -> None:
        for error in self._netlink.batch(requests):
            if error is not None:
                raise KernelError(f"link {wanted.name}: {_in_words(error, wanted)}") from error

    # ---- underlay ----------------------------------------------------------

    def _addresses(self) -> list[Address]:
        bodies = self._netlink.dump(messages.get_addresses())
        return [messages.parse_address(body) for body in bodies]

    def _change_groups(self, wanted: Tunnel, link: int, addresses: Sequence[Address]) -> None:
        """Be in the wanted groups on the link of our underlay address."""
        there = {each.address for each in addresses if each.ifindex == link}
        news = [group for group in wanted.groups if group not in there]
        requests = [messages.join(link, group) for group in news]
        for each in addresses:
            if each.is_ours and (each.ifindex != link or each.address not in wanted.groups):
                requests += _leaving(each)
        self._carry_out(requests, wanted)
        for group in filter(_is_ipv6, wanted.groups):
            if group in news:
                self._await_local_way(group)
            delete, add = messages.open_way(link, group)
            self._netlink.batch([delete])
            self._carry_out([add], wanted)

    def _await_local_way(self, group: str) -> None:
        """The kernel makes it some time after the address (addrconf_dad_work). If
        it takes longer still, the next audit sees to it."""
        deadline = time.monotonic() + _LOCAL_WAY_SECONDS
        while time.monotonic() < deadline:
            answer = self._netlink.read([messages.get_way(group)])[0]
            if isinstance(answer, bytes) and messages.is_local_way(answer):
                return
            time.sleep(_LOCAL_WAY_PAUSE)

    def _leads_out(self, wanted: Tunnel, addresses: Sequence[Address]) -> bool:
        """Whether what is sent to IPv6 groups leaves by the link of our address."""
        link = _link_of(wanted, addresses) or 0
        groups = list(filter(_is_ipv6, wanted.groups))
        answers = self._netlink.read([messages.get_way(group) for group in groups])
        return all(isinstance(way, bytes) and messages.is_open_way(way, link) for way in answers)


def _merges(link: str) -> bool:
    """Whether packets wait there to be merged, a turn of the kernel's receive loop
    each. What can be merged has been by the link of the underlay."""
    try:
        return has_gro(link)
    except OSError:  # it has gone meanwhile
        return True


def _is_ipv6(address: str) -> bool:
    return ":" in address


def _leaving(group: Address) -> list[Request]:
    way = [messages.close_way(group.ifindex, group.address)] if _is_ipv6(group.address) else []
    return [*way, messages.leave(group.ifindex, group.address)]


def _link_of(wanted: Tunnel, addresses: Sequence[Address]) -> int | None:
    """The ifindex of the link that has our underlay address."""
    vtep = str(ipaddress.ip_address(wanted.vtep))
    return next((each.ifindex for each in addresses if each.address == vtep), None)


def _underlay_of(wanted: Tunnel, addresses: Sequence[Address]) -> int:
    """The same; KernelError when there is none."""
    link = _link_of(wanted, addresses)
    if link is None:
        raise KernelError(
            f"no link of this host has the underlay address {wanted.vtep}: add it "
            f"(`ip address add`), or correct vtep in {settings_file()}"
        )
    return link


def _groups_are_right(wanted: Tunnel, addresses: Sequence[Address]) -> bool:
    link = _link_of(wanted, addresses)
    ours = {each.address for each in addresses if each.is_ours}
    return ours <= set(wanted.groups) <= {a.address for a in addresses if a.ifindex == link}


def _in_words(error: OSError, wanted: Tunnel) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"UDP port {wanted.udp_port} is taken by another program or VXLAN device "
            f"(`ss -ulnp`, `ip link show type vxlan`): end it, or choose another udp_port"
        )
    if error.errno == errno.EEXIST:
        return (
            "a link of the name, or one that takes the same envelopes, exists and is not "
            f"heddle's: remove it (`ip link show type vxlan`, `ip link delete {wanted.name}`)"
        )
    if error.errno == errno.EOPNOTSUPP:
        return f"{error.strerror}; the kernel needs VXLAN (`modprobe vxlan`)"
    return error.strerror or f"error {error.errno}"
