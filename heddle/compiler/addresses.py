"""Canonical text of intent to the bytes of the data plane.

Every function raises ValueError, with a message for a person, on text that is
no address; admission.py keeps such objects out.
"""

from __future__ import annotations

from socket import AF_INET, AF_INET6, inet_pton  # ipaddress takes 20 times as long

_MAPPED_PREFIX = bytes(10) + b"\xff\xff"
_MAPPED_BITS = 96
_ADDRESS_BITS = 128

NO_IPV4 = bytes(4)
NO_ADDRESS = bytes(16)


def is_ipv6(text: str) -> bool:
    """The family of an address or prefix that is known to be one."""
    return ":" in text


def ip_version(text: str) -> int:
    """4 or 6, likewise."""
    return 6 if is_ipv6(text) else 4


def packed(text: str) -> bytes:
    """4 or 16 bytes."""
    try:
        return inet_pton(AF_INET6 if is_ipv6(text) else AF_INET, text)
    except OSError as error:
        raise ValueError(f"{text!r} is not an IP address") from error


def mapped(text: str) -> bytes:
    """16 bytes; IPv4 is IPv4-mapped (RFC 4291 2.5.5.2)."""
    address = packed(text)
    return address if len(address) == len(NO_ADDRESS) else _MAPPED_PREFIX + address


def mapped_prefix(cidr: str) -> tuple[int, bytes]:
    """Length in bits out of 128, and 16 bytes of address."""
    text, _, length = cidr.partition("/")
    address = mapped(text)
    bits = int(length) if length.isdecimal() else _ADDRESS_BITS + 1
    if not is_ipv6(text):
        bits += _MAPPED_BITS
    if bits > _ADDRESS_BITS:
        raise ValueError(f"{cidr!r} is not a prefix")
    if int.from_bytes(address) & (1 << _ADDRESS_BITS - bits) - 1:
        raise ValueError(f"{cidr} has host bits set")
    return bits, address


def prefix_length(cidr: str) -> int:
    return int(cidr.rpartition("/")[2])


def mac_bytes(text: str) -> bytes:
    """6 bytes."""
    try:
        mac = bytes.fromhex(text.replace(":", " "))
    except ValueError:
        mac = b""
    if len(mac) != 6:
        raise ValueError(f"{text!r} is not a MAC address")
    return mac
