"""What the models of the topology file share: the strict base, texts that are
addresses, and values that may stand alone or in a list."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainValidator

from heddle.intent.addresses import (
    Address,
    Prefix,
    parse_address,
    parse_mac,
    parse_ordinary_prefix,
    parse_prefix,
    parse_prefix_or_address,
    parse_server,
    parse_subnet,
)


class NotYet:
    """Marks a key of the format that this release knows but refuses."""


NOT_YET = NotYet()


def as_mapping(value: object) -> object:
    """A key without a value ("vm1:") has no keys of its own."""
    return {} if value is None else value


def as_list(value: object) -> object:
    """One item may stand without a list around it."""
    return value if isinstance(value, list) else [value]


def items_of(value: object) -> list[object]:
    """As ``as_list``; a key without a value has no items."""
    return value if isinstance(value, list) else [] if value is None else [value]


AddressText = Annotated[Address, PlainValidator(parse_address)]
PrefixText = Annotated[Prefix, PlainValidator(parse_prefix)]
PrefixOrAddressText = Annotated[Prefix, PlainValidator(parse_prefix_or_address)]
OrdinaryPrefixText = Annotated[Prefix, PlainValidator(parse_ordinary_prefix)]
SubnetPrefixText = Annotated[Prefix, PlainValidator(parse_subnet)]
MacText = Annotated[str, PlainValidator(parse_mac)]
Addresses = Annotated[list[AddressText], BeforeValidator(as_list)]
Servers = Annotated[
    list[Annotated[Address, PlainValidator(parse_server)]], BeforeValidator(as_list)
]


class Spec(BaseModel):
    """A mapping of the file. Strict: no key is ignored, no type is converted."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
