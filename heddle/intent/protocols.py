"""IP protocols and their ports as a topology file writes them.

The parsers raise ValueError with "what is wrong; what would be right".
"""

from __future__ import annotations

import re

from heddle.intent.problems import shown, suggestion

PORT_MAX = 65535
ICMP = 1
ICMPV6 = 58

# Neutron's names (neutron_lib.constants.IP_PROTOCOL_MAP); of several for one
# number the last is the one that we print.
PROTOCOLS = {
    "ipv6-icmp": 58,
    "icmp6": 58,
    "ah": 51,
    "dccp": 33,
    "egp": 8,
    "esp": 50,
    "gre": 47,
    "icmp": ICMP,
    "icmpv6": ICMPV6,
    "igmp": 2,
    "ipip": 4,
    "ipv6-encap": 41,
    "ipv6-nonxt": 59,
    "ospf": 89,
    "pgm": 113,
    "rsvp": 46,
    "sctp": 132,
    "tcp": 6,
    "udp": 17,
    "udplite": 136,
    "vrrp": 112,
}
NAMES = {number: name for name, number in PROTOCOLS.items()}

WITH_PORTS = frozenset(PROTOCOLS[name] for name in ("tcp", "udp", "sctp", "dccp", "udplite"))

# Extension headers of IPv6 (RFC 8200 4.1, RFC 4302), behind which the data
# plane looks for the protocol.
EXTENSION_HEADERS = frozenset({0, 43, 44, 51, 60})
_NAMES_OF_EXTENSIONS = frozenset({"hopopt", "ipv6-route", "ipv6-frag", "ipv6-opts"})

ANY = "any"

_NUMBER = re.compile(r"[0-9]{1,3}")
_PORTS = re.compile(r"\s*([0-9]{1,5})\s*(?:-\s*([0-9]{1,5})\s*)?")


def parse_protocol(value: object) -> int | None:
    """The number of a protocol given by name or number; None for ``any``."""
    text = str(value).lower() if isinstance(value, str | int) else ""
    if text == ANY:
        return None
    if text in PROTOCOLS:
        return PROTOCOLS[text]
    if _NUMBER.fullmatch(text) and int(text) <= 255:
        return int(text)
    if text in _NAMES_OF_EXTENSIONS:
        what = f'"{value}" is an extension header of IPv6, behind which packets are told apart'
        raise ValueError(f"{what}; give the protocol that follows it")
    if isinstance(value, str) and not text.lstrip("-").isdigit():
        raise ValueError(f'"{value}" is not known; {suggestion(text, PROTOCOLS)}')
    raise ValueError(
        f"{shown(value)} is no protocol; give a name such as tcp, or a number up to 255"
    )


def protocol_name(number: int) -> str:
    """``tcp``, or ``protocol 99`` where there is no name."""
    return NAMES.get(number, f"protocol {number}")


def parse_ports(value: object) -> tuple[int, int]:
    """The first and last port of ``80`` or ``80-443``."""
    usable = isinstance(value, str | int) and not isinstance(value, bool)
    match = _PORTS.fullmatch(str(value)) if usable else None
    if match is None:
        raise ValueError(
            f"{shown(value)} is no port or range of ports; write 80 or 80-443, one rule for each"
        )
    first = int(match[1])
    last = int(match[2] or first)
    for port in (first, last):
        if not 1 <= port <= PORT_MAX:
            raise ValueError(f"{port} is no port; give 1 to {PORT_MAX}")
    if first > last:
        raise ValueError(f"{first}-{last} is reversed; write {last}-{first}")
    return first, last
