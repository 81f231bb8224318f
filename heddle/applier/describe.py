"""Rows of the tables in words, for reports and errors."""

from __future__ import annotations

import ipaddress

from heddle.compiler.state import (
    AddressKey,
    Device,
    EndpointRow,
    FloodHostKey,
    MacKey,
    NeighborRow,
    PolicyGroupKey,
    PolicyRemoteKey,
    PolicyRuleKey,
    RouteKey,
    RouterInterfaceKey,
    RowKey,
    RowKeyPart,
    RowValue,
    SetMemberKey,
    SourcePrefixKey,
    Symbol,
    TunnelSenderKey,
)
from heddle.datapath.addresses import address_text

# Of what stands before the prefix, which an LPM table counts as well.
_ROUTER_BITS = 32
_SENDER_BITS = 96
_MAPPED_BITS = 96  # ::ffff:0:0/96 holds IPv4


def describe(row: RowKey) -> str:
    """Table and key: ``addresses 10.0.0.5 in network 7``."""
    return f"{row.table} {describe_key(row.key)}"


def describe_key(key: RowKeyPart) -> str:
    if isinstance(key, MacKey | AddressKey):
        what = key.mac.hex(":") if isinstance(key, MacKey) else address_text(key.address)
        return f"{what} in network {key.network}"
    if isinstance(key, SourcePrefixKey):
        prefix = _prefix(key.address, key.prefix_bits - _SENDER_BITS)
        return f"{prefix} with {key.mac.hex(':')} from {key.ifindex}"
    if isinstance(key, RouteKey):
        return f"{_prefix(key.address, key.prefix_bits - _ROUTER_BITS)} of router {key.router}"
    if isinstance(key, RouterInterfaceKey):
        return f"of router {key.router} in network {key.network}"
    if isinstance(key, TunnelSenderKey | FloodHostKey):
        return _describe_tunnel_key(key)
    return _describe_policy_key(key)


def _describe_tunnel_key(key: TunnelSenderKey | FloodHostKey) -> str:
    if isinstance(key, TunnelSenderKey):
        return address_text(key.address)
    return f"host {key.host} in network {key.network}"


def _describe_policy_key(key: RowKeyPart) -> str:
    if isinstance(key, SetMemberKey):
        where = f" in network {key.network}" if key.network else ""
        return f"{_prefix(key.address, key.prefix_bits)} of set {key.set}{where}"
    if isinstance(key, PolicyGroupKey):
        return f"group {key.group} {_side(key)}"
    if isinstance(key, PolicyRemoteKey):
        return f"group {key.group} {_side(key)} {_remote(key)}"
    if isinstance(key, PolicyRuleKey):
        protocol = "any" if isinstance(key.protocol, Symbol) else key.protocol
        ports = f"{key.port}/{key.port_bits}"
        return f"group {key.group} {_side(key)} {_remote(key)} protocol {protocol} port {ports}"
    return str(key)


def _side(key: PolicyGroupKey | PolicyRemoteKey | PolicyRuleKey) -> str:
    return f"{key.direction.names[0].lower()} IPv{key.ip_version}"


def _remote(key: PolicyRemoteKey | PolicyRuleKey) -> str:
    return f"set {key.set}" if key.set else _prefix(key.address, key.prefix_bits)


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


def _prefix(packed: bytes, bits: int) -> str:
    mapped = ipaddress.IPv6Address(packed).ipv4_mapped
    if mapped is not None and bits >= _MAPPED_BITS:
        return f"{mapped}/{bits - _MAPPED_BITS}"
    return f"{ipaddress.IPv6Address(packed)}/{bits}"
