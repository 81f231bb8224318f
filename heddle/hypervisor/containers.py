"""What is inside a container's namespace: addresses, routes, MTU, links up.

Namespace and veths are made by the applier. A container does not ask by DHCP:
it is set up from what it would have been told, at once and with no process of
its own. What is lost or altered inside is put back.
"""

from __future__ import annotations

import logging
import socket
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path

from heddle.applier import links, namespaces, tap
from heddle.applier.links import LinkInfo
from heddle.applier.netlink import Netlink, Request
from heddle.compiler.state import MachineSpec, Nic
from heddle.errors import HypervisorError, KernelError
from heddle.hypervisor import addressing
from heddle.hypervisor.addressing import PROTOCOL, Address, Route
from heddle.hypervisor.backoff import Backoff
from heddle.hypervisor.namespaces import (
    forget_resolver,
    forget_resolvers_of_the_gone,
    write_resolver,
)
from heddle.hypervisor.status import MachineStatus
from heddle.intent.names import namespace_name

log = logging.getLogger(__name__)

_AUDIT_SECONDS = 0.02  # per reconciliation, for looking into containers that did not change
_FIRST_METRIC = 100  # the default route of the first NIC; of equal ones the lowest is taken
_LOOPBACK = "lo"


@dataclass(frozen=True, slots=True)
class _Done:
    """What a container was last set up for. Its links may be made anew, under
    the same names, which their indexes tell."""

    spec: MachineSpec
    indexes: tuple[int, ...]  # of the host ends


class Containers:
    """The containers of one host."""

    def __init__(self) -> None:
        self._done: dict[str, _Done] = {}  # by machine id
        self._rounds: deque[str] = deque()  # machine ids, the one longest not looked into first
        self._backoff = Backoff()

    def reconcile(self, specs: Mapping[str, MachineSpec]) -> dict[str, MachineStatus]:
        """Set up what is new, changed or altered; returns the state of each."""
        if not self._rounds:  # what an earlier run may have left
            forget_resolvers_of_the_gone()
        for machine_id in self._done.keys() - specs.keys():
            forget_resolver(self._done.pop(machine_id).spec.name)
        due = self._altered(specs)
        statuses = {i: self._reconcile_one(specs[i]) for i in due}
        return {i: statuses.get(i, _RUNNING) for i in specs} | self._audit(specs, due)

    def retry(self) -> None:
        self._backoff.forget()

    def _altered(self, specs: Mapping[str, MachineSpec]) -> set[str]:
        """Containers that are not set up for their spec and their present links."""
        with _any_socket() as control:
            return {
                machine_id
                for machine_id, spec in specs.items()
                if self._done.get(machine_id) != _Done(spec, _indexes(spec, control))
            }

    def _audit(self, specs: Mapping[str, MachineSpec], done: set[str]) -> dict[str, MachineStatus]:
        """Look into the others for as long as the time allows, in turn."""
        for machine_id in specs.keys() - set(self._rounds):
            self._rounds.append(machine_id)
        statuses = {}
        until = time.monotonic() + _AUDIT_SECONDS
        for _ in range(len(self._rounds)):
            machine_id = self._rounds.popleft()
            if machine_id not in specs:
                continue
            self._rounds.append(machine_id)
            if machine_id not in done:
                statuses[machine_id] = self._reconcile_one(specs[machine_id])
            if time.monotonic() > until:
                break
        return statuses

    def _reconcile_one(self, spec: MachineSpec) -> MachineStatus:
        if error := self._backoff.waiting(spec.id):
            return MachineStatus("error", False, error)
        self._done.pop(spec.id, None)
        with _any_socket() as control:
            indexes = _indexes(spec, control)
        try:
            if not all(indexes):
                waiting = f"machine {spec.name} waits for its links: see heddle show"
                return MachineStatus("booting", False, waiting)
            changes = _configure(spec)
            write_resolver(spec)
        except (KernelError, HypervisorError, OSError) as error:
            text = f"machine {spec.name}: {error}"
            self._backoff.failed(spec.id, text)
            return MachineStatus("error", False, text)
        if changes:
            log.info("machine %s: %d changes in its namespace", spec.name, changes)
        self._backoff.succeeded(spec.id)
        self._done[spec.id] = _Done(spec, indexes)
        return _RUNNING


def _indexes(spec: MachineSpec, control: socket.socket) -> tuple[int, ...]:
    """ifindexes of the host ends, 0 for a missing one."""
    return tuple(_index(nic.device, control) for nic in spec.nics)


def _index(device: str, control: socket.socket) -> int:
    try:
        return tap.index_of(device, control)
    except OSError:
        return 0


def _any_socket() -> socket.socket:
    """Something to make an ioctl on."""
    return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)


_RUNNING = MachineStatus("running", True, None)


def _configure(spec: MachineSpec) -> int:
    """Make the namespace as ``spec`` wants it; returns the number of changes."""
    namespace = namespace_name(spec.name)
    with namespaces.netlink_in(namespace) as netlink:
        found = [links.parse(body) for body in netlink.dump(links.get_all())]
        by_mac = {link.mac: link for link in found if link.name != _LOOPBACK}
        nics = [(nic, _link_of(nic, by_mac, spec)) for nic in spec.nics]
        # One after the other: a link has IPv6 settings only where its MTU allows
        # IPv6, and the kernel takes away routes when a link or address goes.
        changes = _carry_out(netlink, _mtu_changes(nics))
        if any(not link.up for _, link in nics):
            namespaces.run_in(namespace, lambda: _silence_ipv6([link.name for _, link in nics]))
        changes += _carry_out(
            netlink, [links.change(x.ifindex, up=True) for x in found if not x.up]
        )
        changes += _carry_out(netlink, _address_changes(netlink, set(_wanted_addresses(nics))))
        return changes + _carry_out(netlink, _route_changes(netlink, set(_wanted_routes(nics))))


def _link_of(nic: Nic, by_mac: Mapping[str, LinkInfo], spec: MachineSpec) -> LinkInfo:
    link = by_mac.get(nic.mac)
    if link is None:
        raise HypervisorError(
            f"no link has MAC {nic.mac} in namespace {namespace_name(spec.name)}: "
            f"remove {nic.device} to have it made anew"
        )
    return link


def _silence_ipv6(names: list[str]) -> None:
    """Before a link goes up, in a thread that is in the namespace: what router
    advertisements and duplicate detection would find out is known already."""
    for name in names:
        folder = Path("/proc/sys/net/ipv6/conf") / name
        if folder.exists():  # not with an MTU below 1280
            (folder / "accept_ra").write_text("0")
            (folder / "dad_transmits").write_text("0")


def _wanted_addresses(nics: list[tuple[Nic, LinkInfo]]) -> Iterator[Address]:
    for nic, link in nics:
        for address in nic.addresses:
            yield Address(link.ifindex, address)


def _wanted_routes(nics: list[tuple[Nic, LinkInfo]]) -> Iterator[Route]:
    for metric, (nic, link) in enumerate(nics, _FIRST_METRIC):
        for gateway in nic.gateways:
            default = "::/0" if ":" in gateway else "0.0.0.0/0"
            yield Route(link.ifindex, default, gateway, metric)
        for destination, next_hop in nic.routes:
            yield Route(link.ifindex, str(ip_network(destination)), next_hop, metric)


def _mtu_changes(nics: list[tuple[Nic, LinkInfo]]) -> list[Request]:
    return [links.change(link.ifindex, mtu=nic.mtu) for nic, link in nics if link.mtu != nic.mtu]


def _address_changes(netlink: Netlink, wanted: set[Address]) -> list[Request]:
    found = [addressing.parse_address(body) for body in netlink.dump(addressing.get_addresses())]
    present = {address for address, _ in found}
    ours = {address for address, protocol in found if protocol == PROTOCOL}
    surplus = [addressing.delete_address(address) for address in sorted(ours - wanted)]
    return surplus + [addressing.add_address(address) for address in sorted(wanted - present)]


def _route_changes(netlink: Netlink, wanted: set[Route]) -> list[Request]:
    found = {addressing.parse_route(body) for body in netlink.dump(addressing.get_routes())}
    ours = {route for route in found if route is not None}
    surplus = [addressing.delete_route(route) for route in sorted(ours - wanted)]
    return surplus + [addressing.add_route(route) for route in sorted(wanted - ours)]


def _carry_out(netlink: Netlink, requests: list[Request]) -> int:
    """Returns the number of requests; the first that is refused raises."""
    for error in netlink.batch(requests):
        if error is not None:
            raise HypervisorError(f"the kernel refuses: {error.strerror}") from error
    return len(requests)
