"""Addresses of the data plane, in words."""

from __future__ import annotations

from socket import AF_INET, AF_INET6, inet_ntop  # ipaddress takes ten times as long

_IPV4_MAPPED = bytes(10) + b"\xff\xff"


def address_text(raw: bytes) -> str:
    """Of 16 bytes, IPv4 as IPv4-mapped."""
    if raw.startswith(_IPV4_MAPPED):
        return inet_ntop(AF_INET, raw[len(_IPV4_MAPPED) :])
    return inet_ntop(AF_INET6, raw)


def with_port(address: str, port: int | None) -> str:
    """``10.0.0.2:80``, ``[fd00::2]:80``; a protocol without ports has the address."""
    if not port:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
