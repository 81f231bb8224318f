"""What is known of the packet in hand."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from enum import Enum

from heddle.intent.model import Network, Port
from reference import wire


class Fragment(Enum):
    NONE = "none"
    FIRST = "first"
    LATER = "later"


@dataclass
class Packet:
    """``l4`` is where the upper layer starts in the frame, None where it can't
    be seen. Ports are 0 where there are none."""

    port: Port  # that sent it
    network: Network  # in which it is
    frame: bytes
    gso_size: int = 0
    ethertype: int = 0
    version: int = 0  # 4, 6; 0: no IP
    source: wire.IpAddress = wire.NOBODY
    destination: wire.IpAddress = wire.NOBODY
    ttl: int = 0
    protocol: int = 0
    l3_bytes: int = 0  # of the IP packet, headers included
    header_bytes: int = 0  # of all headers that could be read, Ethernet excluded
    l4: int | None = None
    fragment: Fragment = Fragment.NONE
    is_orphan: bool = False  # a later fragment whose first one is not known
    identification: int = 0
    announces: wire.IpAddress | None = None  # as its own
    is_question: bool = False  # for an address that nobody known has
    source_port: int = 0
    destination_port: int = 0
    tcp_flags: int = 0
    icmp_type: int = -1
    icmp_code: int = -1
    icmp_id: int = 0

    @property
    def destination_mac(self) -> bytes:
        return self.frame[:6]

    @property
    def source_mac(self) -> bytes:
        return self.frame[6:12]

    @property
    def is_arp(self) -> bool:
        return self.ethertype == wire.ARP

    @property
    def is_icmp(self) -> bool:
        """Of the packet's own IP version."""
        return self.protocol == (wire.ICMP if self.version == 4 else wire.ICMPV6)

    @property
    def is_nd(self) -> bool:
        """RFC 4861: router and neighbor solicitation and advertisement, redirect."""
        return self._is_icmpv6_of(range(133, 138))

    @property
    def is_mld(self) -> bool:
        """RFC 2710, RFC 3810: query, report, done; report of version 2."""
        return self._is_icmpv6_of((130, 131, 132, 143))

    def _is_icmpv6_of(self, kinds: Container[int]) -> bool:
        is_icmpv6 = self.version == 6 and self.protocol == wire.ICMPV6
        return is_icmpv6 and self.fragment is not Fragment.LATER and self.icmp_type in kinds

    @property
    def is_unspecified(self) -> bool:
        """Sent from 0.0.0.0 or ::."""
        return self.version != 0 and self.source.is_unspecified

    @property
    def largest_segment(self) -> int:
        """Bytes of the largest IP packet that this one is on the wire. What the
        guest left uncut (GSO) counts as it will be cut. 0: no IP."""
        is_uncut = self.gso_size and self.version
        return self.header_bytes + self.gso_size if is_uncut else self.l3_bytes

    @property
    def payload(self) -> bytes:
        """The upper layer, without what stands behind the IP packet."""
        return b"" if self.l4 is None else self.frame[self.l4 : wire.ETHERNET + self.l3_bytes]

    def has_ports(self, protocol: int, source: int, destination: int) -> bool:
        return (
            self.protocol == protocol
            and self.fragment is not Fragment.LATER
            and (self.source_port, self.destination_port) == (source, destination)
        )

    @property
    def is_dhcp(self) -> bool:
        """From a client to a server, or back: heddle may have to answer each one."""
        ports = {self.source_port, self.destination_port}
        return self.protocol == wire.UDP and ports in ({67, 68}, {546, 547})
