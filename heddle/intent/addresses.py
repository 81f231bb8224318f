"""Addresses, prefixes, MACs and domains as a topology file writes them.

The parsers raise ValueError with "what is wrong; what would be right".
"""

from __future__ import annotations

import re
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)

Address = IPv4Address | IPv6Address
Prefix = IPv4Network | IPv6Network

SLAAC_PREFIX_BITS = 64  # RFC 4862 with 64-bit interface identifiers (RFC 4291 2.5.1)

DOMAIN_CHARACTERS_MAX = 64  # as DNS_MAX of schema.py: there is fixed room for answers

_DOMAIN_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_MAC = re.compile(r"([0-9a-f]{2}:){5}[0-9a-f]{2}")

_NEVER_A_SOURCE = (
    ip_network("127.0.0.0/8"),  # RFC 1122 3.2.1.3
    ip_network("224.0.0.0/3"),  # multicast, reserved (RFC 1112 4) and broadcast
    ip_network("::1/128"),  # RFC 4291 2.5.3
    ip_network("ff00::/8"),  # RFC 4291 2.7
)
_BROADCAST = IPv4Address("255.255.255.255")
_MAPPED = IPv6Network("::ffff:0:0/96")

# Ranges that mean something else than a network of guests (RFC 6890).
_NOT_FOR_SUBNETS = {
    ip_network("0.0.0.0/8"): "this network (RFC 791)",
    ip_network("127.0.0.0/8"): "loopback (RFC 1122)",
    ip_network("169.254.0.0/16"): "link-local (RFC 3927), which is never routed",
    ip_network("224.0.0.0/4"): "multicast (RFC 5771)",
    ip_network("240.0.0.0/4"): "future use (RFC 1112)",
    ip_network("::/96"): "loopback and IPv4-compatible (RFC 4291)",
    ip_network("::ffff:0:0/96"): "IPv4-mapped (RFC 4291)",
    ip_network("fe80::/10"): "link-local (RFC 4291), which is never routed",
    ip_network("ff00::/8"): "multicast (RFC 4291)",
}
_NOT_ROUTED = {  # as is_routable of bpf/stages/route.h has it
    prefix: meaning
    for prefix, meaning in _NOT_FOR_SUBNETS.items()
    if prefix not in (ip_network("240.0.0.0/4"), ip_network("::/96"))
}


def parse_address(value: object) -> Address:
    """An IPv4 or IPv6 address without prefix length or zone."""
    text = _text(value, "172.17.17.2")
    try:
        address = ip_address(text)
    except ValueError:
        if "/" in text:
            raise ValueError(
                f'"{text}" has a prefix length; give the address alone, the length is the subnet\'s'
            ) from None
        raise ValueError(
            f'"{text}" is no IP address; write one such as 172.17.17.2 or fd00::2'
        ) from None
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        raise ValueError(f'"{text}" has a zone; leave out "%{address.scope_id}"')
    return address


def parse_prefix(value: object) -> Prefix:
    """A prefix without host bits, such as 172.17.17.0/24."""
    text = _text(value, "172.17.17.0/24")
    if "/" not in text:
        raise ValueError(f'"{text}" lacks a prefix length; write one such as 172.17.17.0/24')
    if "%" in text:
        zone = text[text.index("%") : text.index("/")]
        raise ValueError(f'"{text}" has a zone; leave out "{zone}"')
    try:
        prefix = ip_network(text)
        if text.endswith(f"/{prefix.prefixlen}"):
            return prefix
    except ValueError:
        pass
    try:
        meant = ip_interface(text).network
    except ValueError:
        raise ValueError(
            f'"{text}" is no prefix; write one such as 172.17.17.0/24 or "fd00:17::/64"'
        ) from None
    wrong = "bits beyond its prefix length" if text.endswith(f"/{meant.prefixlen}") else "a mask"
    raise ValueError(f'"{text}" has {wrong}; did you mean "{meant}"?')


def parse_prefix_or_address(value: object) -> Prefix:
    """A prefix, or an address alone, which is the prefix that holds just it."""
    if isinstance(value, str) and value and "/" not in value:
        try:
            address = parse_address(value)
        except ValueError:
            raise ValueError(
                f'"{value}" is neither an address nor a prefix; write one such as 192.0.2.7 '
                'or "2001:db8::/48"'
            ) from None
        prefix: Prefix = ip_network(address)
    else:
        prefix = parse_prefix(value)
    if isinstance(prefix, IPv6Network) and prefix.subnet_of(_MAPPED):
        # RFC 4291 2.5.5.2: no packet carries it.
        raise ValueError(f'"{value}" is an IPv4 address in IPv6 form; write it as IPv4')
    return prefix


def parse_server(value: object) -> Address:
    """An address that packets can be sent to, of one machine."""
    address = parse_address(value)
    if address.is_unspecified or address.is_multicast or address == _BROADCAST:
        raise ValueError(f'"{address}" is no address of a server; write one such as 172.17.17.2')
    return address


def parse_ordinary_prefix(value: object) -> Prefix:
    """A prefix whose addresses hosts or guests can have."""
    prefix = parse_prefix(value)
    for special, meaning in _NOT_FOR_SUBNETS.items():
        if special.version == prefix.version and prefix.overlaps(special):
            raise ValueError(
                f'"{prefix}" holds addresses for {meaning}; use private ones such as 10.0.0.0/24 '
                'or "fd00:1::/64"'
            )
    return prefix


def parse_subnet(value: object) -> Prefix:
    """A prefix that guests can live in."""
    prefix = parse_ordinary_prefix(value)
    longest = prefix.max_prefixlen - 2
    if prefix.prefixlen > longest:
        raise ValueError(
            f'"{prefix}" has no room for a gateway and a guest; use /{longest} or shorter'
        )
    return prefix


def parse_mac(value: object) -> str:
    """A unicast MAC in the canonical form aa:bb:cc:dd:ee:ff."""
    mac = _text(value, "fa:16:3e:00:00:01").lower().replace("-", ":")
    if not _MAC.fullmatch(mac):
        raise ValueError(f'"{value}" is no MAC; write six bytes such as fa:16:3e:00:00:01')
    if int(mac[:2], 16) & 1:
        raise ValueError(f'"{mac}" is a multicast MAC; make its first byte even')
    if mac == "00:00:00:00:00:00":
        raise ValueError('"00:00:00:00:00:00" is no usable MAC; leave it out to get one')
    return mac


def parse_domain(value: object) -> str:
    """A DNS domain that guests search in."""
    if not isinstance(value, str) or not all(map(_DOMAIN_LABEL.fullmatch, value.split("."))):
        raise ValueError(f"{value!r} is no domain name; write one such as web.example")
    if len(value) > DOMAIN_CHARACTERS_MAX:
        raise ValueError(
            f'"{value}" has {len(value)} characters; use at most {DOMAIN_CHARACTERS_MAX}'
        )
    return value


def eui64(prefix: IPv6Network, mac: str) -> IPv6Address:
    """The address a guest makes for itself in a prefix (RFC 4291 appendix A)."""
    octets = bytes.fromhex(mac.replace(":", ""))
    identifier = bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return prefix[int.from_bytes(identifier)]


def unusable_meaning(prefix: Prefix, address: Address) -> str | None:
    """Why no guest may have an address of the prefix, if so."""
    if address == prefix.network_address:
        # RFC 4291 2.6.1: it belongs to all routers of the subnet.
        return "the network address" if prefix.version == 4 else "the subnet-router anycast address"
    if prefix.version == 4 and address == prefix.broadcast_address:
        return "the broadcast address"
    return None


def unrouted_meaning(prefix: Prefix) -> str | None:
    """Why no router passes on what is sent to a prefix, if so."""
    for special, meaning in _NOT_ROUTED.items():
        # Networks of two versions can't be compared.
        if special.version == prefix.version and prefix.subnet_of(special):  # type: ignore[arg-type]
            return meaning
    return None


def is_never_a_source(prefix: Prefix) -> bool:
    """Whether no address of the prefix can be the source of a packet."""
    return any(
        # Networks of two versions can't be compared.
        prefix.version == other.version and prefix.subnet_of(other)  # type: ignore[arg-type]
        for other in _NEVER_A_SOURCE
    )


def usable_range(prefix: Prefix, gateway: Address | None = None) -> str:
    """The addresses of a prefix that a guest can have, for a message."""
    first = prefix.network_address + 1
    last = prefix.broadcast_address - (1 if prefix.version == 4 else 0)
    return f"{first + (first == gateway)} to {last - (last == gateway)}"


def _text(value: object, example: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f'is no text; write one such as "{example}"')
    return value
