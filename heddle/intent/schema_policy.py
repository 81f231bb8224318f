"""The keys of a topology file that say what may pass, and how fast.

What one key alone can tell is checked here, the rest in check_rules.py and
check_nic_policy.py.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PlainValidator

from heddle.intent.addresses import Prefix, parse_prefix_or_address
from heddle.intent.protocols import parse_ports, parse_protocol
from heddle.intent.rates import PACKET_BURST_MAX, parse_bit_rate, parse_burst
from heddle.intent.schema_base import MacText, PrefixOrAddressText, Spec, items_of

# Fixed room in the data plane: GROUPS_MAX and POLICY_SETS_MAX of abi.h.
GROUPS_MAX = 16
SETS_MAX = 64

PACKET_RATE_MAX = 1_000_000_000
REMOTES = ("remote", "remote_group", "address_group")

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")

ProtocolText = Annotated[int, PlainValidator(parse_protocol)]
PortsText = Annotated[tuple[int, int], PlainValidator(parse_ports)]
BitRateText = Annotated[int, PlainValidator(parse_bit_rate)]
BurstText = Annotated[int, PlainValidator(parse_burst)]
Byte = Annotated[int, Field(ge=0, le=255)]
PacketRate = Annotated[int, Field(ge=1, le=PACKET_RATE_MAX)]


def _group_mapping(value: object) -> object:
    """A group is a list of rules, or a mapping with more to say."""
    if value is None:
        return {}
    return {"rules": value} if isinstance(value, list) else value


def parse_entry(value: object) -> Prefix:
    """An item of an address group."""
    if isinstance(value, str) and _NAME.fullmatch(value):
        what = f'"{value}" is no address; a group can\'t hold another'
        raise ValueError(f"{what}: write out its prefixes")
    return parse_prefix_or_address(value)


def _pair_list(value: object) -> object:
    """A pair is an address or prefix, or a mapping with a MAC."""
    return [item if isinstance(item, dict) else {"address": item} for item in items_of(value)]


class RuleSpec(Spec):
    """What a security group allows."""

    direction: Literal["from_vm", "to_vm"] = Field(
        description="As the machine sees it: what it sends, or what is sent to it.",
        examples=["to_vm"],
    )
    ethertype: Literal["ipv4", "ipv6"] | None = Field(
        default=None,
        description="Default: each IP version that fits the protocol and the remote end.",
        examples=["ipv4"],
    )
    protocol: ProtocolText | None = Field(
        default=None,
        description="Name (`tcp`, `udp`, `icmp`, `icmpv6`, `sctp`, ...) or number. Default: any.",
        examples=["tcp"],
    )
    ports: PortsText | None = Field(
        default=None,
        description="The destination's port, or a range. For `tcp`, `udp`, `sctp`, `dccp` and "
        "`udplite`. Default: any.",
        examples=["80-443"],
    )
    icmp_type: Byte | None = Field(
        default=None, description="For `icmp` and `icmpv6`. Default: any.", examples=["8"]
    )
    icmp_code: Byte | None = Field(
        default=None, description="With `icmp_type`. Default: any.", examples=["0"]
    )
    remote: PrefixOrAddressText | None = Field(
        default=None,
        description="The other end: a prefix or an address. Default: anything.",
        examples=["192.0.2.0/24"],
    )
    remote_group: str | None = Field(
        default=None,
        description="The other end: the addresses of the NICs that name this security group.",
        examples=["web"],
    )
    address_group: str | None = Field(
        default=None, description="The other end: this address group.", examples=["offices"]
    )


class SecurityGroupSpec(Spec):
    """A security group with more to say than its rules."""

    stateful: bool = Field(
        default=True,
        description="Allow replies to what is allowed. Without it they need a rule.",
        examples=["false"],
    )
    rules: list[RuleSpec] = Field(
        default=[],
        description="What is allowed; without a rule, nothing.",
        examples=["[{direction: to_vm, protocol: tcp, ports: 22}]"],
    )


class AddressPairSpec(Spec):
    """What else a NIC may send from."""

    address: PrefixOrAddressText = Field(
        description="A prefix or an address.", examples=["10.0.0.100"]
    )
    mac: MacText | None = Field(
        default=None,
        description="MAC that sends from it. Default: the NIC's own.",
        examples=["00:00:5e:00:01:01"],
    )


class RateSpec(Spec):
    """Limits and a guarantee. A rate is bits per second, as ``tc`` writes it."""

    from_vm: BitRateText | None = Field(
        default=None, description="Most that the machine may send.", examples=["500mbit"]
    )
    to_vm: BitRateText | None = Field(
        default=None, description="Most that is sent to the machine.", examples=["1gbit"]
    )
    burst: BurstText | None = Field(
        default=None,
        description="What may pass at once after a pause, in bytes; at least one packet. "
        "Default: 10 ms of the rate, at least 72k.",
        examples=["1mb"],
    )
    minimum: BitRateText | None = Field(
        default=None,
        description="Guaranteed of what the machine sends, when ports share too little.",
        examples=["100mbit"],
    )
    packets_from_vm: PacketRate | None = Field(
        default=None,
        description="Most packets per second that the machine may send.",
        examples=["10000"],
    )
    packets_to_vm: PacketRate | None = Field(
        default=None,
        description="Most packets per second that are sent to the machine.",
        examples=["10000"],
    )
    packet_burst: Annotated[int, Field(ge=1, le=PACKET_BURST_MAX)] | None = Field(
        default=None,
        description="Packets that may pass at once after a pause. Default: 10 ms of the rate, "
        "at least 64.",
        examples=["1000"],
    )


EntryText = Annotated[Prefix, PlainValidator(parse_entry)]
SecurityGroups = dict[str, Annotated[SecurityGroupSpec, BeforeValidator(_group_mapping)]]
AddressGroup = Annotated[list[EntryText], BeforeValidator(items_of)]
AddressPairs = Annotated[list[AddressPairSpec], BeforeValidator(_pair_list)]
