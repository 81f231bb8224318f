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

VNI_MAX = (1 << 24) - 1
NUMBER_MAX = (1 << 32) - 1

Vni = Annotated[int, Field(ge=1, le=VNI_MAX)]
Number = Annotated[int, Field(ge=1, le=NUMBER_MAX)]


class Kind(StrEnum):
    """Kinds of objects, in the order in which they may refer to each other."""

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


class NetworkMode(StrEnum):
    OVERLAY = "overlay"
    NAT = "nat"
    HOST_ONLY = "host-only"
    BRIDGED = "bridged"


class Network(Resource):
    """One L2 broadcast domain."""

    kind: ClassVar[Kind] = Kind.NETWORK

    vni: Vni
    mode: NetworkMode = NetworkMode.OVERLAY
    mtu: Annotated[int, Field(ge=576, le=9216)] = 1450
    domain: str = ""


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
    """One vNIC. ``machine_id`` and ``nic`` say where it is plugged in."""

    kind: ClassVar[Kind] = Kind.PORT

    network_id: str
    mac: str
    fixed_ips: tuple[FixedIp, ...] = ()
    machine_id: str
    nic: Annotated[int, Field(ge=0, le=31)] = 0
    host: str
    port_security: bool = True
    security_group_ids: tuple[str, ...] = ()  # none: nothing is allowed
    address_pairs: tuple[AddressPair, ...] = ()
    qos_policy_id: str | None = None
    connections_max: Annotated[int, Field(ge=0, le=NUMBER_MAX)] = 0


class Machine(Resource):
    """What ports are plugged into: a libvirt domain or a network namespace.
    ``running`` is wanted state: the agent starts what should run."""

    kind: ClassVar[Kind] = Kind.MACHINE

    machine_kind: Literal["vm", "container"]
    host: str
    image: str = "tiny"
    cpus: Annotated[int, Field(ge=1, le=255)] = 1
    memory: Annotated[int, Field(ge=64 << 20)] = 256 << 20
    pin: Literal["auto", "off"] = "auto"
    running: bool = False


AnyResource = (
    Network
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

MODELS: dict[Kind, type[AnyResource]] = {
    model.kind: model
    for model in (
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
