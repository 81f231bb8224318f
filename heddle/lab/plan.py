"""What a lab is to be: hosts, underlay and store, as they follow from a file.

Pure, and kept as JSON in the lab's folder, so that ``heddle lab`` knows a lab
without the file that it was made from.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from ipaddress import IPv4Network, IPv6Network, ip_interface, ip_network
from itertools import islice
from pathlib import Path

from heddle.errors import RequestError
from heddle.intent.topology import Topology

DEFAULT_CIDR = "198.18.0.0/24"  # RFC 2544: for tests between hosts, and routed nowhere
DEFAULT_MTU = 1500
CLIENT_PORT, PEER_PORT = 2379, 2380  # of etcd
MEMBERS_MAX = 7  # etcd's own advice

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_-]{0,30}[A-Za-z0-9])?")
_INTERFACE_NAME_LENGTH = 15


@dataclass(frozen=True, slots=True)
class LabHost:
    """A host: its name and underlay address, with prefix length. A foreign one
    has no agent: what it runs is the user's business."""

    name: str
    address: str
    foreign: bool = False

    @property
    def vtep(self) -> str:
        return _plain(self.address)

    @property
    def link(self) -> str:
        """The end of its cable at the underlay's switch."""
        return link_name(self.name)


@dataclass(frozen=True, slots=True)
class LabPlan:
    """A whole lab. ``members``: addresses of the etcd servers, with prefix length."""

    name: str
    file: str
    hosts: tuple[LabHost, ...]
    members: tuple[str, ...]
    mtu: int
    udp_port: int

    @property
    def ip_version(self) -> int:
        return ip_interface(self.members[0]).version

    @property
    def endpoints(self) -> list[str]:
        """URLs of the etcd servers."""
        return [_url(member, CLIENT_PORT) for member in self.members]

    @property
    def peers(self) -> list[str]:
        """URLs at which the etcd servers talk to each other."""
        return [_url(member, PEER_PORT) for member in self.members]

    def host(self, name: str) -> LabHost:
        """RequestError when there is none of the name."""
        for host in self.hosts:
            if host.name == name:
                return host
        known = ", ".join(host.name for host in self.hosts)
        raise RequestError(f"lab {self.name} has no host {name!r}; it has {known}")

    def own_hosts(self) -> Iterator[LabHost]:
        """Those with an agent."""
        return (host for host in self.hosts if not host.foreign)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"


def from_json(text: str) -> LabPlan:
    found = json.loads(text)
    found["hosts"] = tuple(LabHost(**host) for host in found["hosts"])
    return LabPlan(**{**found, "members": tuple(found["members"])})


def lab_name(file: Path) -> str:
    """The name of a file's lab, when it is given none."""
    return checked_name(re.sub(r"[^A-Za-z0-9_-]+", "-", file.stem).strip("-_")[:32].strip("-_"))


def checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise RequestError(f"lab name {name!r}: up to 32 letters, digits, - and _; use --name")
    return name


def plan_lab(topology: Topology, name: str, members: int, old: LabPlan | None = None) -> LabPlan:
    """The lab of a file; what is in ``old``, which is up, keeps its addresses.
    RequestError when the file names no hosts, when its underlay has no room for
    them, when a VTEP is no host's in it, or when what is up would have to be made anew."""
    file, spec = topology.source.file, topology.spec
    if not any(not host.foreign for host in spec.hosts.values()):
        raise RequestError(f"{file}: it names no hosts; add `hosts: {{h1: {{}}, h2: {{}}}}`")
    underlay = spec.underlay
    network = ip_network(str(underlay.cidr or DEFAULT_CIDR))
    kept = {host.name: host.vtep for host in old.hosts} if old else {}
    given = {n: str(host.vtep) for n, host in spec.hosts.items() if host.vtep is not None}
    _check_host_addresses(file, network, given)
    servers = [_plain(member) for member in old.members] if old else []
    free = _free_addresses(network, {*kept.values(), *given.values(), *servers})
    addresses = {n: given.get(n) or kept.get(n) or next(free, "") for n in spec.hosts}
    servers += islice(free, max(0, members - len(servers)))
    if "" in addresses.values() or len(servers) < members:
        raise RequestError(
            f"{file}: underlay {network} has no room for {len(spec.hosts)} hosts and etcd; "
            "give it a shorter prefix"
        )
    plan = LabPlan(
        name=name,
        file=str(file.resolve()),
        hosts=tuple(
            LabHost(n, f"{addresses[n]}/{network.prefixlen}", host.foreign)
            for n, host in spec.hosts.items()
        ),
        members=tuple(f"{address}/{network.prefixlen}" for address in servers),
        mtu=underlay.mtu or DEFAULT_MTU,
        udp_port=underlay.udp_port,
    )
    if old is not None:
        _check_fits(plan, old)
    return plan


def _check_host_addresses(
    file: Path, network: IPv4Network | IPv6Network, given: dict[str, str]
) -> None:
    """Nobody is reached at the address of a network or at its broadcast address."""
    never = {str(network.network_address)}
    if network.version == 4:
        never.add(str(network.broadcast_address))
    for name, address in given.items():
        if address in never and network.num_addresses > 2:  # RFC 3021, RFC 6164
            raise RequestError(
                f"{file}: host {name}, vtep: {address} stands for all of {network}; "
                "choose another address of it"
            )


def _check_fits(plan: LabPlan, old: LabPlan) -> None:
    """Whether what is up can become this, with no cable pulled."""
    for what in ("members", "mtu", "udp_port"):
        if getattr(plan, what) != getattr(old, what):
            raise RequestError(
                f"lab {plan.name} is up with another underlay or other etcd servers ({what}): "
                f"`heddle lab down {plan.name}` first"
            )
    before = {host.name: host for host in old.hosts}
    for host in plan.hosts:
        if before.get(host.name, host) != host:
            raise RequestError(
                f"lab {plan.name}: host {host.name} is up with address "
                f"{before[host.name].address}: `heddle lab down {plan.name}` first"
            )


def link_name(host: str) -> str:
    """Of a host's cable, whatever the length of the host's name."""
    name = f"to-{host}"
    if len(name) <= _INTERFACE_NAME_LENGTH:
        return name
    return f"to-{hashlib.sha256(host.encode()).hexdigest()[:12]}"


def _free_addresses(network: IPv4Network | IPv6Network, taken: set[str]) -> Iterator[str]:
    return (str(address) for address in network.hosts() if str(address) not in taken)


def _plain(address: str) -> str:
    """An address without its prefix length."""
    return address.partition("/")[0]


def _url(member: str, port: int) -> str:
    address = ip_interface(member).ip
    host = f"[{address}]" if address.version == 6 else str(address)
    return f"http://{host}:{port}"
