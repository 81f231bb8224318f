"""The objects an operator can want, in OpenStack Networking's terms.

All models are frozen: intent changes only by writing a new revision to the
store. Addresses are kept as canonical text (``ipaddress`` form), MACs as lower
case with colons, sizes in bytes, times in seconds.
"""

from __future__ import annotations

from enum import StrEnum
from functools import cache
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

PROBE_VNI = (1 << 24) - 1
"""Kept for the probes between hosts; no network may have it."""
VNI_MAX = PROBE_VNI - 1
NUMBER_MAX = (1 << 32) - 1
HOST_NUMBER_MAX = (1 << 15) - 1
VXLAN_PORT = 4789  # RFC 7348 section 8

Vni = Annotated[int, Field(ge=1, le=PROBE_VNI)]
Number = Annotated[int, Field(ge=1, le=NUMBER_MAX)]
HostNumber = Annotated[int, Field(ge=1, le=HOST_NUMBER_MAX)]
UdpPort = Annotated[int, Field(ge=1, le=65535)]


class Kind(StrEnum):
    """Kinds of objects, in the order in which they may refer to each other."""

    HOST = "host"
    DETOUR = "detour"
    PATH = "path"  # never stored
    PRESENCE = "presence"  # never stored
    NETWORK = "network"
    SUBNET = "subnet"
    ROUTER = "router"
    ADDRESS_GROUP = "address_group"
    ADDRESS_GROUP_ENTRY = "address_group_entry"
    SECURITY_GROUP = "security_group"
    SECURITY_GROUP_RULE = "security_group_rule"
    QOS_POLICY = "qos_policy"
    MACHINE = "machine"
    PORT = "port"


@cache
def _field_names(model: type[BaseModel]) -> set[str]:
    return set(model.model_fields)


class Part(BaseModel):
    """A piece of an object that has no life of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def model_post_init(self, context: Any, /) -> None:  # noqa: ANN401 - pydantic's signature
        """Share the set of field names among the objects of a class: sets of
        their own would be a third of the memory that ten thousand ports take."""
        object.__setattr__(self, "__pydantic_fields_set__", _field_names(type(self)))


class Resource(Part):
    """What every stored object has. ``origin`` says who owns it: the resolved
    path of a topology file, or ``api``."""

    kind: ClassVar[Kind]

    id: str
    name: str
    project_id: str = "default"
    origin: str = ""
    tags: tuple[str, ...] = ()
    revision_number: int = 0
    created_at: str = ""
    updated_at: str = ""


class EnvelopeWay(StrEnum):
    """Who makes the envelopes that a host sends: the data plane, past the host's
    network stack where that is possible, or the stack."""

    DIRECT = "direct"
    STACK = "stack"


class Host(Resource):
    """A machine with an agent, which registers it, or a foreign VTEP that a
    topology file names. ``name`` is what machines and ports give as their host,
    ``vtep`` its address in the underlay ("": it has no part in the overlay).
    ``machine_id`` tells two real machines with one name."""

    kind: ClassVar[Kind] = Kind.HOST

    number: HostNumber
    vtep: str
    udp_port: UdpPort = VXLAN_PORT
    foreign: bool = False
    machine_id: str = ""
    envelopes: EnvelopeWay = EnvelopeWay.DIRECT


class Detour(Resource):
    """Everybody reaches ``host`` through ``relay``, and it reaches everybody so;
    both are names of hosts. Probed paths come before it."""

    kind: ClassVar[Kind] = Kind.DETOUR

    host: str
    relay: str


class Path(Resource):
    """How this host reaches ``host``, as its probes found: through ``relay``, or
    straight. A relay that is this host itself: others reach ``host`` through it.
    ``mtu`` is the largest IP packet of a guest that passes, 0: any that the
    networks here allow. A fact that the agent hands to its compiler; never stored."""

    kind: ClassVar[Kind] = Kind.PATH

    host: str
    relay: str | None = None
    mtu: Annotated[int, Field(ge=0, le=65535)] = 0


class Presence(Resource):
    """Whether a machine that is being moved runs on this host at this moment. A
    fact as ``Path`` is."""

    kind: ClassVar[Kind] = Kind.PRESENCE

    machine_id: str
    here: bool


class ForeignMac(Part):
    """A machine behind a foreign VTEP."""

    mac: str
    address: str | None = None


class ForeignMember(Part):
    """A foreign VTEP in a network, and what is known to be behind it. With
    ``learn``, what it sends tells what else is."""

    host: str
    learn: bool = False
    macs: tuple[ForeignMac, ...] = ()


class NetworkMode(StrEnum):
    OVERLAY = "overlay"
    NAT = "nat"
    HOST_ONLY = "host-only"
    BRIDGED = "bridged"


class Network(Resource):
    """One L2 broadcast domain. What is flooded goes to the underlay's multicast
    group ``flood_group``; None: to each host of the network."""

    kind: ClassVar[Kind] = Kind.NETWORK

    vni: Vni
    mode: NetworkMode = NetworkMode.OVERLAY
    mtu: Annotated[int, Field(ge=576, le=9216)] = 1450
    domain: str = ""
    flood_group: str | None = None
    foreign_members: tuple[ForeignMember, ...] = ()


class Ipv6Mode(StrEnum):
    """How guests of an IPv6 subnet get their address (Neutron's names)."""

    SLAAC = "slaac"
    STATEFUL = "dhcpv6-stateful"
    STATELESS = "dhcpv6-stateless"


class HostRoute(Part):
    """A route handed to guests (DHCP option 121, RA route information)."""

    destination: str
    nexthop: str


class Subnet(Resource):
    """An address range of a network."""

    kind: ClassVar[Kind] = Kind.SUBNET

    network_id: str
    number: Number
    cidr: str
    gateway_ip: str
    enable_dhcp: bool = True
    ipv6_mode: Ipv6Mode | None = None
    dns: tuple[str, ...] = ()
    host_routes: tuple[HostRoute, ...] = ()
    lease_time: Annotated[int, Field(ge=60, le=0xFFFFFFFF)] = 86400


class RouterInterface(Part):
    """A router's side of a network: one MAC, one address per subnet."""

    network_id: str
    mac: str
    addresses: tuple[str, ...]


class Route(Part):
    """A static route; without a next hop it drops what it matches."""

    destination: str
    nexthop: str | None = None


class Router(Resource):
    """Joins networks; every host routes for its own ports."""

    kind: ClassVar[Kind] = Kind.ROUTER

    number: Number
    interfaces: tuple[RouterInterface, ...] = ()
    routes: tuple[Route, ...] = ()


class AddressGroup(Resource):
    """A named set of prefixes that rules refer to. Its entries are objects of
    their own, so that one of ten thousand can change alone. ``number`` is
    unique among address groups and security groups."""

    kind: ClassVar[Kind] = Kind.ADDRESS_GROUP

    number: Number


class AddressGroupEntry(Resource):
    """One prefix of an address group."""

    kind: ClassVar[Kind] = Kind.ADDRESS_GROUP_ENTRY

    address_group_id: str
    cidr: str


class SecurityGroup(Resource):
    """Rules for the ports that name it; nothing is allowed that no rule allows.
    Without ``stateful``, replies need a rule of their own."""

    kind: ClassVar[Kind] = Kind.SECURITY_GROUP

    number: Number
    stateful: bool = True


class Direction(StrEnum):
    FROM_VM = "from_vm"
    TO_VM = "to_vm"


class SecurityGroupRule(Resource):
    """Allows packets of one direction and IP version. At most one of
    ``remote_cidr``, ``remote_group_id``, ``address_group_id``; none: any peer.
    Ports are the destination's, or type and code of ICMP (then ``port_max``
    is the code, or None for any)."""

    kind: ClassVar[Kind] = Kind.SECURITY_GROUP_RULE

    number: Number
    security_group_id: str
    direction: Direction
    ip_version: Literal[4, 6]
    protocol: Annotated[int, Field(ge=0, le=255)] | None = None
    port_min: Annotated[int, Field(ge=0, le=65535)] | None = None
    port_max: Annotated[int, Field(ge=0, le=65535)] | None = None
    remote_cidr: str | None = None
    remote_group_id: str | None = None
    address_group_id: str | None = None


class BandwidthLimit(Part):
    """``rate`` in bits per second, ``burst`` in bytes."""

    rate: Annotated[int, Field(ge=1)]
    burst: Annotated[int, Field(ge=1)]


class PacketRateLimit(Part):
    """``rate`` in packets per second, ``burst`` in packets."""

    rate: Annotated[int, Field(ge=1, le=1_000_000_000)]
    burst: Annotated[int, Field(ge=1, le=1_000_000)]


class QosPolicy(Resource):
    """Bandwidth and marking for the ports that name it; None: no such rule.
    ``minimum_bandwidth`` in bits per second, of what the VM sends."""

    kind: ClassVar[Kind] = Kind.QOS_POLICY

    bandwidth_from_vm: BandwidthLimit | None = None
    bandwidth_to_vm: BandwidthLimit | None = None
    packet_rate_from_vm: PacketRateLimit | None = None
    packet_rate_to_vm: PacketRateLimit | None = None
    minimum_bandwidth: Annotated[int, Field(ge=1)] | None = None
    dscp: Annotated[int, Field(ge=0, le=63)] | None = None


class FixedIp(Part):
    subnet_id: str
    ip: str


class AddressPair(Part):
    """What a port may send from besides its own MAC and addresses: ``cidr``,
    with ``mac`` in place of its own if given."""

    cidr: str
    mac: str | None = None


class Port(Resource):
    """One vNIC. ``machine_id`` and ``nic`` say where it is plugged in, ``host`` where
    that is now, ``migrating_to`` where it will be ("": it stays), ``moved_from``
    which host still sends on what comes for it there ("": none)."""

    kind: ClassVar[Kind] = Kind.PORT

    network_id: str
    mac: str
    fixed_ips: tuple[FixedIp, ...] = ()
    machine_id: str
    nic: Annotated[int, Field(ge=0, le=31)] = 0
    host: str
    migrating_to: str = ""
    moved_from: str = ""
    port_security: bool = True
    security_group_ids: tuple[str, ...] = ()  # none: nothing is allowed
    address_pairs: tuple[AddressPair, ...] = ()
    qos_policy_id: str | None = None
    connections_max: Annotated[int, Field(ge=0, le=NUMBER_MAX)] = 0


class Machine(Resource):
    """What ports are plugged into: a libvirt domain or a network namespace.
    ``running`` is wanted state: the agent starts what should run. ``paused``: its
    CPUs stand still. ``saved``: file with the memory of one that was saved while it
    ran ("": none); it is saved there while it should not run, and starts from there.
    ``host``, ``migrating_to`` and ``moved_from`` as of a port; ``home`` is the host
    that the topology file named when it last had a say ("": none)."""

    kind: ClassVar[Kind] = Kind.MACHINE

    machine_kind: Literal["vm", "container"]
    host: str
    home: str = ""
    migrating_to: str = ""
    moved_from: str = ""
    image: str = "tiny"
    cpus: Annotated[int, Field(ge=1, le=255)] = 1
    memory: Annotated[int, Field(ge=64 << 20)] = 256 << 20
    pin: Literal["auto", "off"] = "auto"
    running: bool = False
    paused: bool = False
    saved: str = ""


AnyResource = (
    Host
    | Detour
    | Path
    | Presence
    | Network
    | Subnet
    | Router
    | AddressGroup
    | AddressGroupEntry
    | SecurityGroup
    | SecurityGroupRule
    | QosPolicy
    | Machine
    | Port
)

# What a store holds.
MODELS: dict[Kind, type[AnyResource]] = {
    model.kind: model
    for model in (
        Host,
        Detour,
        Network,
        Subnet,
        Router,
        AddressGroup,
        AddressGroupEntry,
        SecurityGroup,
        SecurityGroupRule,
        QosPolicy,
        Machine,
        Port,
    )
}
