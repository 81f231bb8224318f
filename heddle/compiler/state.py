"""The desired state of one host, and the difference between two of them.

Rows name their fields as the C structs of bpf/shared/abi.h do; the codec packs
them by name with layouts from BTF. What only the kernel can know stands in them
as a reference: a ``Device`` becomes its ifindex, a ``CounterSlot`` an index
into the counters, both when the row is written.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from heddle.intent.names import TUNNEL


class Device(str):
    """Name of a link of this host; written as its ifindex."""

    __slots__ = ()


class CounterSlot(str):
    """Name of a link; written as the slot of its counters."""

    __slots__ = ()


class Symbol(NamedTuple):
    """A bit set of enumerators of abi.h, by enum and names."""

    enum: str
    names: tuple[str, ...]


# One class per key or value struct of abi.h. Fields left out here (padding)
# are zero. A scalar key or value stands for itself.


class PortRow(NamedTuple):
    network: int
    flags: Symbol
    counter_slot: CounterSlot
    flood_next: Device
    dhcp4_subnet: int
    dhcp6_subnet: int
    dhcp4_address: bytes
    dhcp6_address: bytes
    mac: bytes
    mtu: int
    shaper: int | Device = 0
    from_vm_packet_ns: int = 0
    to_vm_packet_ns: int = 0
    packet_burst: int = 0
    connections_max: int = 0
    dscp: int = 0
    group_count: int = 0
    groups: tuple[int, ...] = ()  # numbers of security groups; the rest of the array is zero
    elsewhere: int = 0  # number of the host where its machine runs meanwhile


class MacKey(NamedTuple):
    network: int
    mac: bytes


class EndpointRow(NamedTuple):
    kind: Symbol
    target: int | Device


class AddressKey(NamedTuple):
    network: int
    address: bytes


class NeighborRow(NamedTuple):
    kind: Symbol
    target: int | Device
    mac: bytes


class SourcePrefixKey(NamedTuple):
    prefix_bits: int
    ifindex: Device
    mac: bytes
    address: bytes


class RouterInterfaceKey(NamedTuple):
    router: int
    network: int


class RouterInterfaceRow(NamedTuple):
    mac: bytes
    mtu: int
    address4: bytes
    address6: bytes


class RouteKey(NamedTuple):
    prefix_bits: int
    router: int
    address: bytes


class RouteRow(NamedTuple):
    kind: Symbol
    network: int
    ip_version: int
    bits: int
    via: bytes


class PolicyGroupKey(NamedTuple):
    group: int
    direction: Symbol
    ip_version: int


class PolicyGroupRow(NamedTuple):
    flags: Symbol
    prefix_count: int
    set_count: int
    prefix_bits: bytes
    sets: tuple[int, ...]  # the rest of the array is zero


class SetRow(NamedTuple):
    in_network: int
    prefix_count4: int
    prefix_count6: int
    prefix_bits4: bytes
    prefix_bits6: bytes


class SetMemberKey(NamedTuple):
    set: int
    network: int
    ip_version: int
    prefix_bits: int
    address: bytes


class PolicyRemoteKey(NamedTuple):
    group: int
    set: int
    direction: Symbol
    ip_version: int
    prefix_bits: int
    address: bytes


class PolicyRemoteRow(NamedTuple):
    any_protocol: int
    tcp: int
    udp: int
    icmp: int
    other: int


class PolicyRuleKey(NamedTuple):
    group: int
    set: int
    direction: Symbol
    ip_version: int
    prefix_bits: int
    port_bits: int
    address: bytes
    protocol: int | Symbol
    port: int


class Dhcp4TemplateRow(NamedTuple):
    server_mac: bytes
    options_length: int
    server_address: bytes
    options: bytes


class Dhcp6TemplateRow(NamedTuple):
    server_mac: bytes
    options_length: int
    server_id_length: int
    preferred_lifetime: int
    valid_lifetime: int
    options: bytes


class RaTemplateRow(NamedTuple):
    router_mac: bytes
    length: int
    message: bytes


class ThisHostRow(NamedTuple):
    number: int
    tunnel_ifindex: int | Device
    udp_port_be: int = 0


class VtepRow(NamedTuple):
    address: bytes
    source: bytes
    relayed_to: int
    mtu: int
    ip_version: int
    flags: Symbol


class TunnelSenderKey(NamedTuple):
    address: bytes


class TunnelNetworkRow(NamedTuple):
    first_port: int | Device
    first_host: int
    mtu: int
    flags: Symbol


class FloodHostKey(NamedTuple):
    network: int
    host: int


RowKeyPart = (
    int
    | Device
    | MacKey
    | AddressKey
    | SourcePrefixKey
    | RouterInterfaceKey
    | RouteKey
    | PolicyGroupKey
    | SetMemberKey
    | PolicyRemoteKey
    | PolicyRuleKey
    | TunnelSenderKey
    | FloodHostKey
)
RowValue = (
    int
    | PortRow
    | EndpointRow
    | NeighborRow
    | RouterInterfaceRow
    | RouteRow
    | PolicyGroupRow
    | SetRow
    | PolicyRemoteRow
    | Dhcp4TemplateRow
    | Dhcp6TemplateRow
    | RaTemplateRow
    | ThisHostRow
    | VtepRow
    | TunnelNetworkRow
)


class RowKey(NamedTuple):
    """Which entry of which map."""

    table: str
    key: RowKeyPart


# The order in which tables are written; removals go the other way round. What
# others point to comes first, the port that opens a device to traffic late, and
# what opens the tunnel last.
TABLE_ORDER = (
    "this_host",
    "vteps",
    "flood_hosts",
    "dhcp4_templates",
    "dhcp6_templates",
    "ra_templates",
    "router_interfaces",
    "addresses",
    "macs",
    "source_prefixes",
    "routes",
    "policy_rules",
    "policy_remotes",
    "set_members",
    "sets",
    "policy_groups",
    "open_networks",
    "ports",
    "tunnel_networks",
    "tunnel_senders",
)


class Rate(NamedTuple):
    """A limit of bandwidth, of IP packets as the VM hands them over."""

    bits_per_second: int
    burst: int  # bytes


class Shaping(NamedTuple):
    """Bandwidth of a port. ``minimum`` is guaranteed, in bits per second, of
    what the VM sends, when the ports of the host share too little."""

    from_vm: Rate | None = None
    to_vm: Rate | None = None
    minimum: int = 0


UNSHAPED = Shaping()


QUEUE = 1000  # frames, as the kernel makes a TAP (DEFAULT_TX_QUEUE_LEN)


@dataclass(frozen=True, slots=True)
class Link:
    """A link that heddle owns, with the from_vm program at its ingress."""

    name: str
    alias: str
    mtu: int
    multiqueue: bool = False  # TAP only
    namespace: str | None = None  # set for a veth: where the peer lives
    peer: str | None = None  # its name there, eth0, eth1, ...
    peer_mac: str | None = None
    shaping: Shaping = UNSHAPED
    queue: int = QUEUE  # of a TAP: frames that wait there for the VM

    @property
    def is_veth(self) -> bool:
        return self.namespace is not None


@dataclass(frozen=True, slots=True)
class Tunnel:
    """The one VXLAN device of a host, for every VNI, with the from_tunnel program
    at its ingress. Its rows name it as ``Device(TUNNEL)``."""

    udp_port: int  # of envelopes, here and at all hosts that send here
    vtep: str  # our underlay address: IPv4 or IPv6
    alias: str
    groups: tuple[str, ...] = ()  # underlay multicast groups to listen to, sorted
    is_direct: bool = True  # envelopes may go past the host's stack
    name: str = TUNNEL


@dataclass(frozen=True, slots=True)
class Nic:
    """A machine's view of a port."""

    port_id: str
    device: str  # link on the host
    mac: str
    mtu: int
    addresses: tuple[str, ...]  # with prefix length, e.g. 10.0.0.5/24
    gateways: tuple[str, ...]  # default routes, one per family at most
    routes: tuple[tuple[str, str], ...]  # destination, next hop
    dns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """A domain or container that this host must have."""

    id: str
    name: str
    machine_kind: str
    image: str
    cpus: int
    memory: int
    running: bool
    nics: tuple[Nic, ...]
    pinned: bool = True  # its threads to CPUs, where there are enough
    moving: Literal["", "in", "out"] = ""  # from or to another host: the hypervisor has it
    paused: bool = False
    saved: str = ""  # file with its memory: it starts from there, or is saved there


@dataclass(slots=True)
class HostState:
    """Everything one host must have. Equal states mean equal hosts."""

    links: dict[str, Link] = field(default_factory=dict)
    rows: dict[RowKey, RowValue] = field(default_factory=dict)
    machines: dict[str, MachineSpec] = field(default_factory=dict)
    namespaces: set[str] = field(default_factory=set)
    tunnel: Tunnel | None = None  # None: this host has no underlay address


@dataclass(slots=True)
class HostDelta:
    """What turns one HostState into the next. ``touched`` holds the VNIs whose
    flows must be decided again; ``tunnel`` counts when ``tunnel_changed``."""

    links: dict[str, Link | None] = field(default_factory=dict)  # None: remove
    rows: dict[RowKey, RowValue | None] = field(default_factory=dict)
    machines: dict[str, MachineSpec | None] = field(default_factory=dict)
    namespaces: dict[str, bool] = field(default_factory=dict)  # False: remove
    touched: set[int] = field(default_factory=set)
    tunnel: Tunnel | None = None  # None: remove
    tunnel_changed: bool = False

    def __bool__(self) -> bool:
        changes = (self.links, self.rows, self.machines, self.namespaces, self.tunnel_changed)
        return any(changes)
