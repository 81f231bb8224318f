"""The Linux kernel of the network namespace in which the process runs:
rtnetlink for links and filters, ioctl for TAPs, the pinned maps for tables."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from heddle.applier import filters, links, namespaces, tap
from heddle.applier.kernel import Aspect, LinkFact, LinkFix, Made, Peer
from heddle.applier.links import LinkInfo
from heddle.applier.netlink import Netlink, Request
from heddle.applier.notifications import Notifications
from heddle.applier.sysctl import disable_ipv6
from heddle.compiler.state import Link
from heddle.datapath.abi import Abi
from heddle.datapath.loader import PROGRAM, Datapath
from heddle.errors import KernelError
from heddle.intent.names import port_alias

_ALIAS_PREFIX = port_alias("")
# TAPs that are open at once while they are made: well below the usual limit
# of 1024 descriptors, and enough to spread the cost of a system call.
_TAPS_AT_ONCE = 256


class LinuxKernel:
    """The real kernel. Not for use by two threads at once."""

    def __init__(self, datapath: Datapath) -> None:
        self._datapath = datapath
        self._netlink = Netlink()
        self._notifications = Notifications()
        self._control = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    @property
    def abi(self) -> Abi:
        return self._datapath.abi

    def close(self) -> None:
        self._netlink.close()
        self._notifications.close()
        self._control.close()

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
        ours = self._ours()
        if any(links.is_doomed(info) for info in ours):  # a removal that was cut short
            self._netlink.batch([links.delete_doomed()])
            ours = self._ours()
        peers = self._peers([info for info in ours if info.kind == "veth"])
        filtered = self._filtered([info.ifindex for info in ours])
        return {
            info.name: _fact(info, info.ifindex in filtered, peers.get(info.ifindex))
            for info in ours
        }

    def _ours(self) -> list[LinkInfo]:
        found = [links.parse(body) for body in self._netlink.dump(links.get_all())]
        return [info for info in found if links.is_ours(info, _ALIAS_PREFIX)]

    def inspect(self, indexes: Sequence[int]) -> dict[int, LinkFact]:
        answers = self._netlink.read([links.get(index) for index in indexes])
        found = [links.parse(body) for body in answers if isinstance(body, bytes)]
        filtered = self._filtered([info.ifindex for info in found])
        return {info.ifindex: _fact(info, info.ifindex in filtered) for info in found}

    def altered(self) -> set[int] | None:
        return self._notifications.indexes()

    def _filtered(self, indexes: Sequence[int]) -> set[int]:
        """Those at whose ingress our program stands."""
        answers = self._netlink.read([filters.get(index) for index in indexes])
        found = (filters.parse(body) for body in answers if isinstance(body, bytes))
        program = self._datapath.program_id
        return {
            found.ifindex for found in found if found.program_id == program and found.direct_action
        }

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

    # ---- links: making ---------------------------------------------------

    def make_links(self, wanted: Sequence[Link]) -> Made:
        made = Made({}, {})
        taps = [link for link in wanted if not link.is_veth]
        for start in range(0, len(taps), _TAPS_AT_ONCE):
            self._make_taps(taps[start : start + _TAPS_AT_ONCE], made)
        self._make_veths([link for link in wanted if link.is_veth], made)
        return made

    def _make_taps(self, wanted: Sequence[Link], made: Made) -> None:
        """TAPs are kept only when all is in place: dying before leaves nothing."""
        with contextlib.ExitStack() as descriptors:
            opened: dict[str, int] = {}
            new: list[tuple[Link, int]] = []
            for link in wanted:
                try:
                    descriptor = tap.create(link.name, multiqueue=link.multiqueue)
                except OSError as error:
                    made.failures[link.name] = _cannot_make(link, error)
                    continue
                descriptors.callback(os.close, descriptor)
                opened[link.name] = descriptor
                new.append((link, tap.index_of(link.name, self._control)))
            self._furnish(new, made)
            for link, _ in new:
                if link.name in made.indexes:
                    tap.keep(opened[link.name])

    def _make_veths(self, wanted: Sequence[Link], made: Made) -> None:
        requests: list[tuple[Link, Request]] = []
        with contextlib.ExitStack() as descriptors:
            opened: dict[str, int] = {}
            for link in wanted:
                name = link.namespace or ""
                try:
                    if name not in opened:
                        opened[name] = namespaces.descriptor(name)
                        descriptors.callback(os.close, opened[name])
                except KernelError as error:
                    made.failures[link.name] = f"link {link.name}: {error}"
                    continue
                requests.append((link, _veth(link, opened[name])))
            errors = self._netlink.batch([request for _, request in requests])
        new = []
        for (link, _), refusal in zip(requests, errors, strict=True):
            if refusal is not None:
                made.failures[link.name] = _cannot_make(link, refusal)
            else:
                new.append((link, tap.index_of(link.name, self._control)))
        self._furnish(new, made)
        self._withdraw([index for link, index in new if link.name in made.failures])

    def _furnish(self, new: Sequence[tuple[Link, int]], made: Made) -> None:
        """Mark new links and put the filter in place. Not link by link: a filter
        that follows its qdisc at once would wait for an RCU grace period."""
        steps = (
            [links.adopt(index, link.alias, link.mtu) for link, index in new],
            [
                filters.remove_queue(index) if not link.is_veth else links.change(index)
                for link, index in new
            ],
            [filters.add_ingress(index) for _, index in new],
            [filters.attach(index, self._datapath.program_fd, PROGRAM) for _, index in new],
        )
        for step in steps:
            for (link, _), error in zip(new, self._netlink.batch(step), strict=True):
                if error is not None:
                    made.failures.setdefault(link.name, f"link {link.name}: {error.strerror}")
        for link, index in new:
            reason = _silence(link) if link.name not in made.failures else None
            if reason:
                made.failures[link.name] = f"link {link.name}: {reason}"
            elif link.name not in made.failures:
                made.indexes[link.name] = index

    def _withdraw(self, indexes: Sequence[int]) -> None:
        self._netlink.batch([links.delete(index) for index in indexes])

    # ---- links: changing -------------------------------------------------

    def fix_links(self, fixes: Sequence[LinkFix]) -> dict[str, str]:
        requests = [(fix.link.name, request) for fix in fixes for request in self._requests_of(fix)]
        failures: dict[str, str] = {}
        errors = self._netlink.batch([request for _, request in requests])
        for (name, request), error in zip(requests, errors, strict=True):
            if error is not None and not _is_there_already(request, error):
                failures.setdefault(name, f"link {name}: {error.strerror}")
        for index, link, aspects in fixes:
            if Aspect.MTU in aspects:
                reason = _silence(link) or self._fix_peer_mtu(index, link)
                if reason:
                    failures.setdefault(link.name, f"link {link.name}: {reason}")
        return failures

    def _requests_of(self, fix: LinkFix) -> Iterator[Request]:
        index, link, aspects = fix
        if Aspect.NAME in aspects:  # before Linux 6.2 only a link that is down can be renamed
            yield links.change(index, up=False)
            yield links.change(index, name=link.name, up=True)
        if Aspect.FILTER in aspects:
            yield filters.add_ingress(index)
            yield filters.attach(index, self._datapath.program_fd, PROGRAM)
        if Aspect.MTU in aspects:
            yield links.change(index, mtu=link.mtu)
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


def _fact(info: LinkInfo, filtered: bool, peer: Peer | None = None) -> LinkFact:
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
    )


def _silence(link: Link) -> str | None:
    """Returns why it failed."""
    try:
        disable_ipv6(link.name)
    except OSError as error:
        return f"turn IPv6 off: {error.strerror}"
    return None


def _veth(link: Link, namespace_fd: int) -> Request:
    return links.create_veth(
        link.name, link.mtu, link.peer or "", link.peer_mac or "", namespace_fd
    )


def _cannot_make(link: Link, error: OSError) -> str:
    if error.errno in (errno.EBUSY, errno.EEXIST):
        inside = f" (or {link.peer} in namespace {link.namespace})" if link.is_veth else ""
        return (
            f"link {link.name}: a link of the name{inside} exists and is not heddle's: "
            f"remove it (`ip link delete {link.name}`)"
        )
    return f"link {link.name}: {error.strerror}"


def _is_there_already(request: Request, error: OSError) -> bool:
    """The qdisc for the filter was still there."""
    return error.errno == errno.EEXIST and request.kind == filters.RTM_NEWQDISC


def _one_by_one(attempts: Mapping[bytes, Callable[[], object]]) -> dict[bytes, str]:
    """After a batch failed: find out which of its items do."""
    failures = {}
    for key, attempt in attempts.items():
        try:
            attempt()
        except KernelError as error:
            failures[key] = str(error)
    return failures
