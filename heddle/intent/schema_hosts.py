"""The keys of a topology file about hosts, what joins them, and what is behind
VTEPs that are not heddle's. What needs several of them is checked in check_hosts.py.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from heddle.intent.model import VXLAN_PORT
from heddle.intent.schema_base import AddressText, MacText, OrdinaryPrefixText, Spec, as_mapping

UNDERLAY_MTU_MIN = 1280


class HostSpec(Spec):
    """A host of a lab or cluster, or a VTEP that is not heddle's."""

    vtep: AddressText | None = Field(
        default=None,
        description="Its address in the underlay. Required of a foreign one. A lab gives its "
        "hosts one; others say it in heddle.toml.",
        examples=["192.0.2.1"],
    )
    relay: str | None = Field(
        default=None,
        description="The host through which it and all others reach each other, until probes "
        "pass between them.",
        examples=["h1"],
    )
    foreign: bool = Field(
        default=False,
        description="It is no heddle host, but any VTEP, such as a Linux VXLAN device.",
        examples=["true"],
    )


class UnderlaySpec(Spec):
    """What joins the hosts."""

    mtu: Annotated[int, Field(ge=UNDERLAY_MTU_MIN, le=65535)] | None = Field(
        default=None,
        description="Largest IP packet that hosts can send each other. A network that does not "
        "fit is refused.",
        examples=["1500"],
    )
    udp_port: Annotated[int, Field(ge=1, le=65535)] = Field(
        default=VXLAN_PORT,
        description="UDP port of the envelopes, in a lab and at foreign VTEPs; 8472 is that of "
        "older Linux.",
        examples=["8472"],
    )
    cidr: OrdinaryPrefixText | None = Field(
        default=None,
        description="Whence a lab gives its hosts addresses; IPv6 makes it an IPv6 underlay.",
        examples=["198.18.0.0/24"],
    )


class ForeignSpec(Spec):
    """A foreign VTEP as a member of a network."""

    learn: bool = Field(
        default=False,
        description="What it sends tells which MACs are behind it, beside those in `macs`.",
        examples=["true"],
    )
    macs: Annotated[dict[MacText, AddressText | None], BeforeValidator(as_mapping)] = Field(
        default={},
        description="The machines behind it: MACs, each with its address or nothing.",
        examples=['{"02:00:00:00:00:09": 172.17.17.9}'],
    )


Hosts = Annotated[
    dict[str, Annotated[HostSpec, BeforeValidator(as_mapping)]], BeforeValidator(as_mapping)
]
ForeignMembers = Annotated[
    dict[str, Annotated[ForeignSpec, BeforeValidator(as_mapping)]], BeforeValidator(as_mapping)
]
