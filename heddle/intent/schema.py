"""The keys of a topology file: the one owner of their names, types and defaults.

The checker validates files with these models, and docs/topology-file.md holds
tables made from them (heddle/intent/reference.py). What one key alone can tell
is checked here; what needs several objects is checked in check.py.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PlainValidator, PrivateAttr, model_validator
from pydantic_core import PydanticCustomError

from heddle.intent.addresses import SLAAC_PREFIX_BITS, Address, parse_domain
from heddle.intent.model import NUMBER_MAX, VNI_MAX, Ipv6Mode
from heddle.intent.names import DEFAULT_GROUP
from heddle.intent.schema_base import (
    NOT_YET,
    Addresses,
    AddressText,
    MacText,
    PrefixText,
    Servers,
    Spec,
    SubnetPrefixText,
    as_list,
    as_mapping,
    items_of,
)
from heddle.intent.schema_hosts import ForeignMembers, Hosts, UnderlaySpec
from heddle.intent.schema_policy import (
    GROUPS_MAX,
    AddressGroup,
    AddressPairs,
    RateSpec,
    SecurityGroups,
)

BUILT_IN_IMAGE = "tiny"
MTU, MTU_OVER_IPV6 = 1450, 1430
NICS_MAX = 24  # what fits into an emulated machine's PCI slots beside its other devices
FIXED_IPS_MAX = 16
MEMORY_MIN = 64 << 20

# The data plane's DHCP and RA answers have fixed room (DHCP_OPTIONS_MAX and
# RA_OPTIONS_MAX of abi.h); what fits these limits fits there.
DNS_MAX = 4
HOST_ROUTES_MAX = 6
SUBNETS_PER_FAMILY_MAX = 4

_SIZE = re.compile(r"(\d{1,12})\s*([KMGT]?)(i?B)?", re.IGNORECASE)
_SIZE_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def _subnet_list(value: object) -> object:
    """``cidr`` is one subnet or a list; a subnet is a prefix or a mapping."""
    return [item if isinstance(item, dict) else {"cidr": item} for item in items_of(value)]


def _join_list(value: object) -> object:
    if not isinstance(value, list):
        return value
    return [{"network": item} if isinstance(item, str) else item for item in value]


def parse_size(value: object) -> int:
    """Bytes from ``256M``, ``1G`` or a plain number of bytes (binary units)."""
    match = _SIZE.fullmatch(str(value).strip()) if isinstance(value, str | int) else None
    if match is None or isinstance(value, bool):
        raise ValueError(f"{value!r} is no size; write one such as 256M or 1G")
    size = int(match[1]) * _SIZE_UNITS[match[2].upper()]
    if size < MEMORY_MIN:
        meant = (
            f"; did you mean {value}M?" if not match[2] else f"; give {MEMORY_MIN >> 20}M or more"
        )
        raise ValueError(f"{value} is less than {MEMORY_MIN >> 20} MiB{meant}")
    return size


SizeText = Annotated[int, PlainValidator(parse_size)]
DomainText = Annotated[str, PlainValidator(parse_domain)]


class HostRouteSpec(Spec):
    """A route that guests of a subnet are told of."""

    to: PrefixText = Field(description="Destination prefix.", examples=["10.9.0.0/16"])
    via: AddressText = Field(
        description="Next hop: an address of the subnet (IPv6: its gateway).",
        examples=["172.17.17.9"],
    )


class SubnetSpec(Spec):
    """A subnet with more to say than its prefix."""

    cidr: SubnetPrefixText = Field(
        description="The prefix, without host bits; at most /30 (IPv6: /126).",
        examples=["172.17.17.0/24"],
    )
    gateway: AddressText | None = Field(
        default=None,
        description="The gateway's address. Default: the first address of the prefix.",
        examples=["172.17.17.254"],
    )
    dhcp: bool = Field(
        default=True,
        description="Answer DHCP (IPv4), and DHCPv6 and router solicitations (IPv6).",
        examples=["false"],
    )
    ipv6_mode: Literal["slaac", "dhcpv6-stateful", "dhcpv6-stateless"] | None = Field(
        default=None,
        description="How guests get their IPv6 address. Default: `slaac` for a /64 in which no "
        "NIC names an address, else `dhcpv6-stateful`.",
        examples=["dhcpv6-stateful"],
    )
    dns: Annotated[Servers, Field(max_length=DNS_MAX)] | None = Field(
        default=None,
        description="DNS servers, of the subnet's address family. Default: the network's.",
        examples=["172.17.17.1"],
    )
    lease_time: Annotated[int, Field(ge=60, le=0xFFFFFFFF)] = Field(
        default=86400, description="DHCP lease and address lifetime, seconds.", examples=["3600"]
    )
    host_routes: Annotated[list[HostRouteSpec], Field(max_length=HOST_ROUTES_MAX)] = Field(
        default=[],
        description="Routes that guests are told of (DHCP option 121, router advertisements).",
        examples=["[{to: 10.9.0.0/16, via: 172.17.17.9}]"],
    )

    # Whether a NIC of the file names an address in it; TopologySpec knows.
    _is_named: bool = PrivateAttr(default=False)

    @property
    def gateway_ip(self) -> Address:
        return self.gateway or self.cidr[1]

    @property
    def mode(self) -> Ipv6Mode | None:
        """None for IPv4, and where guests get no help with their address."""
        if self.cidr.version == 4 or not self.dhcp:
            return None
        if self.ipv6_mode is not None:
            return Ipv6Mode(self.ipv6_mode)
        if self.cidr.prefixlen == SLAAC_PREFIX_BITS and not self._is_named:
            return Ipv6Mode.SLAAC
        return Ipv6Mode.STATEFUL

    def name_address(self) -> None:
        """Note that a NIC names an address in it, so that guests can't form it."""
        self._is_named = True

    @property
    def slaac_prefix(self) -> IPv6Network | None:
        """The prefix, when guests form their address in it themselves."""
        if isinstance(self.cidr, IPv4Network) or self.mode in (None, Ipv6Mode.STATEFUL):
            return None
        return self.cidr


class NetworkSpec(Spec):
    """One L2 broadcast domain."""

    cidr: Annotated[list[SubnetSpec], BeforeValidator(_subnet_list)] = Field(
        default=[],
        description="The subnets: a prefix, a mapping (see Subnet), or a list of these. Required.",
        examples=["172.17.17.0/24"],
    )
    mode: Literal["overlay", "nat", "host-only", "bridged"] = Field(
        default="overlay",
        description="How the network reaches beyond its host. This release: `overlay` only.",
        examples=["overlay"],
    )
    mtu: Annotated[int, Field(ge=576, le=9216)] | None = Field(
        default=None,
        description="Largest IP packet, the same for every guest; at least 1280 with IPv6. "
        f"Default: {MTU}, or {MTU_OVER_IPV6} over an IPv6 underlay.",
        examples=["1450"],
    )
    dns: Annotated[Servers, Field(max_length=2 * DNS_MAX)] = Field(
        default=[],
        description=f"DNS servers for the subnets of their family, at most {DNS_MAX} each.",
        examples=["[192.168.0.1]"],
    )
    domain: DomainText = Field(
        default="", description="The domain that guests search in.", examples=["web.example"]
    )
    vni: Annotated[int, Field(ge=1, le=VNI_MAX)] | None = Field(
        default=None,
        description="Network identifier, unique in the store. Default: follows from the name.",
        examples=["4711"],
    )
    flood: AddressText | None = Field(
        default=None,
        description="A multicast group of the underlay for broadcast, multicast and unknown "
        "traffic. Default: a copy to each host of the network.",
        examples=["239.0.0.1"],
    )
    foreign: ForeignMembers = Field(
        default={},
        description="Foreign hosts that are members, by name (see Foreign member).",
        examples=["{sw1: {learn: true}}"],
    )
    uplink: Annotated[Any, NOT_YET] = Field(
        default=None, description="Device of a bridged network.", examples=["eth1"]
    )
    vlan: Annotated[Any, NOT_YET] = Field(
        default=None, description="VLAN tag on the uplink.", examples=["20"]
    )

    def dns_of(self, subnet: SubnetSpec) -> list[Address]:
        """The DNS servers that guests of a subnet are told of."""
        if subnet.dns is not None:
            return subnet.dns
        return [address for address in self.dns if address.version == subnet.cidr.version]

    @property
    def foreign_addresses(self) -> set[Address]:
        """Those of machines behind foreign VTEPs."""
        behind = (one for member in self.foreign.values() for one in member.macs.values())
        return {address for address in behind if address is not None}

    def subnet_of(self, address: Address) -> SubnetSpec | None:
        return next((subnet for subnet in self.cidr if address in subnet.cidr), None)


class JoinSpec(Spec):
    """A router's side of a network."""

    network: str = Field(description="Name of the network.", examples=["web"])
    address: Addresses = Field(
        default=[],
        description="The router's own address, one per subnet. Default: the subnet's gateway.",
        examples=["172.17.17.254"],
    )

    def address_in(self, subnet: SubnetSpec) -> Address:
        """The router's own address in a subnet of the network."""
        named = (address for address in self.address if address in subnet.cidr)
        return next(named, subnet.gateway_ip)


class RouteSpec(Spec):
    """A static route."""

    to: PrefixText = Field(description="Destination prefix.", examples=["10.9.0.0/16"])
    via: AddressText | None = Field(
        default=None,
        description="Next hop: an address in one of the router's networks. "
        "Without it the route drops what it matches.",
        examples=["192.168.0.9"],
    )
    blackhole: bool = Field(
        default=False, description="Says outright that the route drops.", examples=["true"]
    )


class RouterSpec(Spec):
    """Joins networks."""

    networks: Annotated[list[JoinSpec], BeforeValidator(_join_list)] = Field(
        default=[],
        description="The networks it joins: names, or mappings (see Router interface).",
        examples=["[web, db]"],
    )
    routes: list[RouteSpec] = Field(
        default=[],
        description="Static routes; the longest prefix wins.",
        examples=["[{to: 10.9.0.0/16, via: 192.168.0.9}]"],
    )
    external: Annotated[Any, NOT_YET] = Field(
        default=None, description="The way out of the cluster.", examples=["nat"]
    )


class NicSpec(Spec):
    """One network interface of a machine; the first is eth0."""

    network: str = Field(description="Name of the network.", examples=["web"])
    address: Annotated[Addresses, Field(max_length=FIXED_IPS_MAX)] = Field(
        default=[],
        description="Its address, or a list. An address family that is not named gets one.",
        examples=["172.17.17.2"],
    )
    mac: MacText | None = Field(
        default=None,
        description="Default: follows from machine and network, under fa:16:3e.",
        examples=["fa:16:3e:00:00:01"],
    )
    security_groups: Annotated[
        list[str], BeforeValidator(as_list), Field(max_length=GROUPS_MAX)
    ] = Field(
        default=[DEFAULT_GROUP],
        description=f"What may pass: all that one of them allows, at most {GROUPS_MAX}. "
        "`[]`: nothing.",
        examples=["[web]"],
    )
    port_security: bool = Field(
        default=True,
        description="Without it, neither source addresses nor security groups are looked at; "
        "guests of its own may be behind it.",
        examples=["false"],
    )
    allowed_address_pairs: AddressPairs = Field(
        default=[],
        description="What it may send from besides its own addresses: addresses, prefixes, or "
        "mappings (see Address pair).",
        examples=["[10.0.0.100]"],
    )
    rate: RateSpec | None = Field(
        default=None, description="Bandwidth limits.", examples=["{to_vm: 1gbit}"]
    )
    dscp: Annotated[int, Field(ge=0, le=63)] | None = Field(
        default=None,
        description="Mark of what it sends (RFC 2474). Default: as the machine marks it.",
        examples=["46"],
    )
    connections: Annotated[int, Field(ge=1, le=NUMBER_MAX)] | None = Field(
        default=None,
        description="Most connections that it may have open. Default: a share of what is free.",
        examples=["10000"],
    )
    forward: Annotated[Any, NOT_YET] = Field(
        default=None, description="Ports of the host.", examples=["[{host_port: 8080, port: 80}]"]
    )


class MachineSpec(Spec):
    """What NICs are in: a VM or a container."""

    kind: Literal["vm", "container"] = Field(
        default="vm",
        description="`vm`: a libvirt domain; `container`: a network namespace.",
        examples=["container"],
    )
    host: str | None = Field(
        default=None,
        description="Where it runs. Default: the host with the least memory given to VMs (see "
        "Placement).",
        examples=["h1"],
    )
    image: str = Field(
        default=BUILT_IN_IMAGE,
        description="`tiny` (built in), or a qcow2 or raw file; a relative path starts at the "
        "topology file. VMs only.",
        examples=["images/debian.qcow2"],
    )
    cpus: Annotated[int, Field(ge=1, le=255)] = Field(
        default=1, description="Virtual CPUs. VMs only.", examples=["2"]
    )
    memory: SizeText = Field(
        default=256 << 20,
        description="Size in K, M, G or T (binary), at least 64M. VMs only.",
        examples=["256M"],
    )
    pin: Literal["auto", "off"] = Field(
        default="auto",
        description="`auto`: each vCPU has a core of the host for itself while there are enough. "
        "VMs only.",
        examples=["off"],
    )
    nics: Annotated[list[NicSpec], Field(max_length=NICS_MAX)] = Field(
        default=[],
        description=f"Network interfaces, at most {NICS_MAX}.",
        examples=["[{network: web, address: 172.17.17.2}]"],
    )


def _whole(value: object) -> object:
    """``true`` and 1.0 equal 1 in Python, but are no version."""
    if type(value) is not int:
        raise PydanticCustomError("literal_error", "no whole number", {"expected": "1"})
    return value


Version = Annotated[Literal[1], BeforeValidator(_whole)]


class TopologySpec(Spec):
    """The whole file."""

    version: Version = Field(description="Version of this format.", examples=["1"])
    hosts: Hosts = Field(
        default={},
        description="The hosts of a lab or cluster. Default: those that there are, or this host.",
        examples=["{h1: {}, h2: {}}"],
    )
    underlay: Annotated[UnderlaySpec, BeforeValidator(as_mapping)] = Field(
        default=UnderlaySpec(),
        description="What joins the hosts (see Underlay).",
        examples=["{mtu: 1500}"],
    )
    networks: Annotated[
        dict[str, Annotated[NetworkSpec, BeforeValidator(as_mapping)]],
        BeforeValidator(as_mapping),
    ] = Field(default={}, description="Networks by name.", examples=["{web: {cidr: 10.0.0.0/24}}"])
    routers: Annotated[
        dict[str, Annotated[RouterSpec, BeforeValidator(as_mapping)]],
        BeforeValidator(as_mapping),
    ] = Field(default={}, description="Routers by name.", examples=["{main: {networks: [web]}}"])
    address_groups: Annotated[dict[str, AddressGroup], BeforeValidator(as_mapping)] = Field(
        default={},
        description="Lists of prefixes and addresses by name, for rules to refer to.",
        examples=['{offices: [192.0.2.0/24, "2001:db8::/48"]}'],
    )
    security_groups: Annotated[SecurityGroups, BeforeValidator(as_mapping)] = Field(
        default={},
        description="Security groups by name: lists of rules, or mappings (see Security group).",
        examples=["{web: [{direction: to_vm, protocol: tcp, ports: 80}]}"],
    )
    machines: Annotated[
        dict[str, Annotated[MachineSpec, BeforeValidator(as_mapping)]],
        BeforeValidator(as_mapping),
    ] = Field(
        default={},
        description="Machines by name.",
        examples=["{vm0: {nics: [{network: web}]}}"],
    )

    @model_validator(mode="after")
    def _note_named_addresses(self) -> Self:
        for nic in (nic for machine in self.machines.values() for nic in machine.nics):
            network = self.networks.get(nic.network)
            subnets = [network.subnet_of(address) for address in nic.address] if network else []
            for subnet in filter(None, subnets):
                subnet.name_address()
        return self


def keys_not_yet(spec: Spec) -> list[str]:
    """The keys given in the file that this release refuses."""
    fields = type(spec).model_fields
    return [
        key for key in fields if key in spec.model_fields_set and NOT_YET in fields[key].metadata
    ]
