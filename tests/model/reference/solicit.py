"""solicit: what a router asks foreign hosts when it does not know a neighbor (RFC 826,
RFC 4861 4.3), and how often (RFC 1122 2.3.2.1)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from reference import wire
from reference.way import Wanted

INTERVAL, GIVEN_UP = 1.0, 5.0  # seconds between questions; of silence after the last one
QUESTIONS = 3  # in vain, before the sender is told
REST = 80  # bytes that are left of the packet which becomes the question
EXPERIMENT = 253  # ND option, RFC 4727 5
_SOLICITED_NODE = IPv6Address("ff02::1:ff00:0").packed[:13]


@dataclass
class _Asked:
    at: float
    questions: int


class Questions:
    """By network and address."""

    def __init__(self) -> None:
        self._asked: dict[tuple[str, wire.IpAddress], _Asked] = {}

    def is_hopeless(self, wanted: Wanted, now: float) -> bool:
        """Has nobody answered for long enough?"""
        asked = self._asked.get(_key(wanted))
        return asked is not None and asked.questions == QUESTIONS and self._is_due(asked, now)

    def is_due(self, wanted: Wanted, now: float) -> bool:
        asked = self._asked.get(_key(wanted))
        return asked is None or now - asked.at >= INTERVAL

    def note(self, wanted: Wanted, now: float) -> None:
        """It is sent now."""
        asked = self._asked.get(_key(wanted))
        before = asked.questions if asked and now - asked.at < GIVEN_UP else 0
        self._asked[_key(wanted)] = _Asked(now, before + 1)

    def _is_due(self, asked: _Asked, now: float) -> bool:
        return INTERVAL <= now - asked.at < GIVEN_UP


def _key(wanted: Wanted) -> tuple[str, wire.IpAddress]:
    return wanted.asker.interface.network_id, wanted.address


def question(wanted: Wanted) -> bytes:
    """The frame. Its end is what is left of another packet: nothing but zeros."""
    mac, source = wanted.asker.mac, wanted.asker.address(wanted.address.version)
    if isinstance(wanted.address, IPv4Address):
        assert source is not None
        message = struct.pack("!HHBBH", 1, wire.IPV4, 6, 4, 1) + mac + source.packed
        message += bytes(6) + wanted.address.packed + bytes(REST)
        return wire.ethernet(wire.BROADCAST, mac, wire.ARP, message)
    assert isinstance(source, IPv6Address)
    to = IPv6Address(_SOLICITED_NODE + wanted.address.packed[-3:])
    message = struct.pack("!BBHI", 135, 0, 0, 0) + wanted.address.packed + bytes([1, 1]) + mac
    message += bytes([EXPERIMENT, REST // 8]) + bytes(REST - 2)
    ip = wire.ipv6(source, to, wire.ICMPV6, wire.icmpv6(source, to, message), hop_limit=255)
    return wire.ethernet(b"\x33\x33" + to.packed[-4:], mac, wire.IPV6, ip)
