"""Rows of the tables in words, for reports and errors."""

from __future__ import annotations

import ipaddress

from heddle.compiler.state import (
    AddressKey,
    Device,
    EndpointRow,
    MacKey,
    NeighborRow,
    RouteKey,
    RouterInterfaceKey,
    RowKey,
    RowKeyPart,
    RowValue,
    SourcePrefixKey,
)

_KEY_BITS = 32  # of the number before the prefix, which an LPM table counts as well
_MAPPED_BITS = 96  # ::ffff:0:0/96 holds IPv4


def describe(row: RowKey) -> str:
    """Table and key: ``addresses 10.0.0.5 in network 7``."""
    return f"{row.table} {describe_key(row.key)}"


def describe_key(key: RowKeyPart) -> str:
    if isinstance(key, MacKey):
        return f"{key.mac.hex(':')} in network {key.network}"
    if isinstance(key, AddressKey):
        return f"{_address(key.address)} in network {key.network}"
    if isinstance(key, SourcePrefixKey):
        return f"{_prefix(key.address, key.prefix_bits)} from {key.ifindex}"
    if isinstance(key, RouteKey):
        return f"{_prefix(key.address, key.prefix_bits)} of router {key.router}"
    if isinstance(key, RouterInterfaceKey):
        return f"of router {key.router} in network {key.network}"
    return str(key)


def owner(row: RowKey, value: RowValue | None) -> str:
    """The device that a row is about, or the row in words."""
    key = row.key
    if isinstance(key, Device):
        return key
    if isinstance(key, SourcePrefixKey):
        return key.ifindex
    if isinstance(value, EndpointRow | NeighborRow) and isinstance(value.target, Device):
        return value.target
    return describe(row)


def _address(packed: bytes) -> str:
    address = ipaddress.IPv6Address(packed)
    return str(address.ipv4_mapped or address)


def _prefix(packed: bytes, bits: int) -> str:
    bits -= _KEY_BITS
    mapped = ipaddress.IPv6Address(packed).ipv4_mapped
    if mapped is not None and bits >= _MAPPED_BITS:
        return f"{mapped}/{bits - _MAPPED_BITS}"
    return f"{ipaddress.IPv6Address(packed)}/{bits}"
