"""The Linux kernel of the network namespace in which the process runs:
rtnetlink for links and filters, ioctl for TAPs, the pinned maps for tables."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from functools import partial

from heddle.applier import links, namespaces
from heddle.applier.diff import limit
from heddle.applier.guard import Guard
from heddle.applier.kernel import (
    Aspect,
    LinkFact,
    LinkFix,
    Made,
    Peer,
    TunnelFact,
)
from heddle.applier.links import LinkInfo
from heddle.applier.making import LinkMaker
from heddle.applier.netlink import Netlink, Request
from heddle.applier.notifications import Notifications
from heddle.applier.shaping import Allowance, ShaperFact
from heddle.applier.shaping_kernel import Bandwidth, is_of_pair
from heddle.applier.taps import silence
from heddle.applier.tunnel_kernel import TunnelDevice
from heddle.applier.tunnel_messages import is_tunnel
from heddle.compiler.state import Link, Tunnel
from heddle.datapath.abi import Abi
from heddle.datapath.loader import Datapath
from heddle.errors import KernelError
from heddle.intent.names import port_alias

_ALIAS_PREFIX = port_alias("")


class LinuxKernel:
    """The real kernel. Not for use by two threads at once."""

    def __init__(self, datapath: Datapath) -> None:
        self._datapath = datapath
        self._netlink = Netlink()
        self._guard = Guard(self._netlink, datapath)
        self._notifications = Notifications(self._guard.block)
        self._maker = LinkMaker(self._netlink, self._guard)
        self._bandwidth = Bandwidth(self._netlink, self._guard, datapath.abi.value("SHAPER_MAJOR"))
        self._tunnel = TunnelDevice(self._netlink, datapath)

    @property
    def abi(self) -> Abi:
        return self._datapath.abi

    def close(self) -> None:
        self._netlink.close()
        self._notifications.close()
        self._maker.close()
        self._tunnel.close()

    # ---- namespaces ------------------------------------------------------

    def namespaces(self) -> dict[str, bool]:
        return namespaces.ours()

    def existing_namespaces(self) -> set[str]:
        return namespaces.existing()

    def add_namespace(self, name: str) -> bool:
        return namespaces.add(name)

    def remove_namespace(self, name: str) -> None:
        namespaces.remove(name)

    # ---- links: reading --------------------------------------------------

    def links(self) -> dict[str, LinkFact]:
        self._maker.conclude()
        ours = self._ours()
        if any(links.is_doomed(info) for info in ours):  # a removal that was cut short
            self._netlink.batch([links.delete_doomed()])
            ours = self._ours()
        peers = self._peers([info for info in ours if info.kind == "veth"])
        filtered = self._guard.guarded(info.ifindex for info in ours)
        limits = self._bandwidth.limits(ours)
        return {
            info.name: _fact(
                info,
                info.ifindex in filtered,
                peers.get(info.ifindex),
                limits.get(info.ifindex),
            )
            for info in ours
        }

    def _ours(self) -> list[LinkInfo]:
        found = [links.parse(body) for body in self._netlink.dump(links.get_all())]
        ours = [info for info in found if links.is_ours(info, _ALIAS_PREFIX)]
        return [info for info in ours if not is_of_pair(info) and not is_tunnel(info)]

    def inspect(self, indexes: Sequence[int]) -> dict[int, LinkFact]:
        answers = self._netlink.read([links.get(index) for index in indexes])
        found = [links.parse(body) for body in answers if isinstance(body, bytes)]
        filtered = self._guard.guarded(info.ifindex for info in found)
        limits = self._bandwidth.limits(found)
        return {
            info.ifindex: _fact(info, info.ifindex in filtered, to_vm=limits.get(info.ifindex))
            for info in found
        }

    def altered(self) -> set[int] | None:
        return self._notifications.indexes()

    def _peers(self, veths: Sequence[LinkInfo]) -> dict[int, Peer]:
        """The other ends of veths, by the ifindex of the host's end."""
        remote = [info for info in veths if info.peer and info.peer_nsid is not None]
        answers = self._netlink.read([links.get(info.peer, info.peer_nsid) for info in remote])
        names = self._namespace_numbers()
        peers = {}
        for info, body in zip(remote, answers, strict=True):
            if isinstance(body, bytes):
                peer = links.parse(body)
                peers[info.ifindex] = Peer(names.get(info.peer_nsid or 0), peer.name, peer.mac)
        return peers

    def _namespace_numbers(self) -> dict[int, str]:
        """Our namespaces by the number under which this one knows them."""
        numbers = {}
        for name, whole in namespaces.ours().items():
            if whole:
                descriptor = namespaces.descriptor(name)
                body = self._netlink.read([links.nsid_of(descriptor)])[0]
                os.close(descriptor)
                number = links.parse_nsid(body) if isinstance(body, bytes) else None
                if number is not None:
                    numbers[number] = name
        return numbers

    # ---- links: changing -------------------------------------------------

    def foresee_link(self, link: Link) -> None:
        self._maker.foresee(link)

    def make_links(self, links: Sequence[Link]) -> Made:
        return self._maker.make(links)

    def fix_links(self, fixes: Sequence[LinkFix]) -> dict[str, str]:
        self._maker.settle()  # up with nobody at the other end costs least
        failures = self._restore_guard([fix for fix in fixes if Aspect.FILTER in fix.aspects])
        fixes = [fix for fix in fixes if fix.link.name not in failures]
        unlimited = self._limit([fix for fix in fixes if Aspect.TO_VM in fix.aspects])
        requests = [(fix.link.name, request) for fix in fixes for request in self._requests_of(fix)]
        errors = self._netlink.batch([request for _, request in requests])
        for (name, _), error in zip(requests, errors, strict=True):
            if error is not None:
                failures.setdefault(name, f"link {name}: {error.strerror}")
        for index, link, aspects in fixes:
            reason = None
            if aspects & {Aspect.SILENCE, Aspect.MTU}:
                error = silence(link.name)
                reason = error.strerror if error else None
            if Aspect.MTU in aspects:
                reason = reason or self._fix_peer_mtu(index, link)
            if reason:
                failures.setdefault(link.name, f"link {link.name}: {reason}")
        return unlimited | failures

    def _limit(self, fixes: Sequence[LinkFix]) -> dict[str, str]:
        """A link whose limit fails is open all the same, and says so."""
        failures = self._bandwidth.set_limits({fix.ifindex: limit(fix.link) for fix in fixes})
        names = {fix.ifindex: fix.link.name for fix in fixes}
        return {names[i]: f"link {names[i]}: {reason}" for i, reason in failures.items()}

    def _restore_guard(self, fixes: Sequence[LinkFix]) -> dict[str, str]:
        """A link that can't be guarded is set down; returns why it can't, by name."""
        errors = self._guard.restore([fix.ifindex for fix in fixes]) if fixes else {}
        self._netlink.batch([links.change(index, up=False) for index in errors])
        return {
            fix.link.name: f"link {fix.link.name}: {errors[fix.ifindex].strerror}"
            for fix in fixes
            if fix.ifindex in errors
        }

    def _requests_of(self, fix: LinkFix) -> Iterator[Request]:
        index, link, aspects = fix
        if Aspect.NAME in aspects:  # before Linux 6.2 only a link that is down can be renamed
            yield links.change(index, up=False)
            yield links.change(index, name=link.name, up=True)
        if Aspect.FREEDOM in aspects:
            yield links.release(index)
        if Aspect.MTU in aspects:
            yield links.change(index, mtu=link.mtu)
        if Aspect.QUEUE in aspects:
            yield links.change(index, queue=link.queue)
        if aspects & {Aspect.ALIAS, Aspect.MTU}:  # a small MTU made IPv6 forget its settings
            yield links.adopt(index, link.alias, link.mtu)
        if Aspect.UP in aspects:
            yield links.change(index, up=True)

    def _fix_peer_mtu(self, index: int, link: Link) -> str | None:
        """From inside the other end's namespace: seen from outside, the kernel
        would take its index for that of a link here. Returns why it failed."""
        body = self._netlink.read([links.get(index)])[0]
        info = links.parse(body) if isinstance(body, bytes) else None
        if info is None or not info.peer or link.namespace is None:
            return None
        try:
            with namespaces.netlink_in(link.namespace) as inside:
                error = inside.batch([links.change(info.peer, mtu=link.mtu)])[0]
        except KernelError as failure:
            return str(failure)
        return f"{link.peer} in {link.namespace}: {error.strerror}" if error else None

    def remove_links(self, indexes: Mapping[str, int]) -> dict[str, str]:
        self._maker.settle()
        if len(indexes) == 1:
            requests = [links.delete(index) for index in indexes.values()]
            errors = self._netlink.batch(requests)
        else:
            errors = self._netlink.batch([links.doom(index) for index in indexes.values()])
            deleted = self._netlink.batch([links.delete_doomed()] if indexes else [])
            errors = [error or deleted[0] for error in errors]
        return {
            name: f"link {name}: {error.strerror}"
            for name, error in zip(indexes, errors, strict=True)
            if error is not None and error.errno != errno.ENODEV
        }

    # ---- the shaper ------------------------------------------------------

    def read_shaper(self, host: Allowance) -> ShaperFact | None:
        return self._bandwidth.read_shaper(host)

    def make_shaper(self, host: Allowance) -> ShaperFact:
        return self._bandwidth.make_shaper(host)

    def remove_shaper(self, index: int, minors: Sequence[int]) -> None:
        self._bandwidth.remove_shaper(index, minors)

    def put_allowances(
        self, index: int, wanted: Mapping[int, Allowance], damaged: Set[int]
    ) -> dict[int, str]:
        return self._bandwidth.put_allowances(index, wanted, damaged)

    def drop_allowances(self, index: int, minors: Sequence[int]) -> dict[int, str]:
        return self._bandwidth.drop_allowances(index, minors)

    # ---- the tunnel ------------------------------------------------------

    def read_tunnel(self, wanted: Tunnel | None) -> TunnelFact | None:
        return self._tunnel.read(wanted)

    def mend_tunnel(self, wanted: Tunnel) -> TunnelFact:
        return self._tunnel.mend(wanted)

    def remove_tunnel(self) -> None:
        self._tunnel.remove()

    # ---- tables ----------------------------------------------------------

    def digest(self, table: str) -> int:
        return self._datapath.table(table).digest()

    def read_table(self, table: str) -> dict[bytes, bytes]:
        return dict(self._datapath.table(table).items())

    def write_rows(self, table: str, rows: Mapping[bytes, bytes]) -> dict[bytes, str]:
        target = self._datapath.table(table)
        try:
            target.put_many(rows.items())
        except KernelError:
            return _one_by_one({key: partial(target.put, key, rows[key]) for key in rows})
        return {}

    def delete_rows(self, table: str, keys: Sequence[bytes]) -> dict[bytes, str]:
        target = self._datapath.table(table)
        try:
            target.delete_many(keys)
        except KernelError:
            return _one_by_one({key: partial(target.delete, key) for key in keys})
        return {}

    def clear_counters(self, slots: Sequence[int]) -> None:
        table = self._datapath.table("counters")
        key, _ = self.abi.table_types("counters")
        table.put_many([(key.pack(slot), bytes(table.value_size)) for slot in slots])


def _fact(
    info: LinkInfo, filtered: bool, peer: Peer | None = None, to_vm: Allowance | None = None
) -> LinkFact:
    return LinkFact(
        ifindex=info.ifindex,
        name=info.name,
        alias=info.alias,
        mtu=info.mtu,
        up=info.up,
        is_veth=info.kind == "veth",
        multiqueue=info.multiqueue,
        filtered=filtered,
        peer=peer,
        to_vm=to_vm,
        queue=info.queue,
        silent=not info.has_ipv6,
        free=not info.master,
    )


def _one_by_one(attempts: Mapping[bytes, Callable[[], object]]) -> dict[bytes, str]:
    """After a batch failed: find out which of its items do."""
    failures = {}
    for key, attempt in attempts.items():
        try:
            attempt()
        except KernelError as error:
            failures[key] = str(error)
    return failures
