"""What is on the underlay: captures of envelopes, and envelopes made by hand."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from cluster import Running, eventually
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet
from scapy.utils import PcapReader

from heddle.lab.folder import UNDERLAY
from heddle.lab.plan import link_name

LAST_WORDS = 9  # UDP port of the datagram that ends a capture: discard


class Envelope(NamedTuple):
    """A frame on the underlay, taken apart."""

    outer: Packet  # IP or IPv6
    vni: int
    inner: Packet  # Ether

    @property
    def source_port(self) -> int:
        return int(self.outer[UDP].sport)

    @property
    def traffic_class(self) -> int:
        """DSCP and ECN of the outer header."""
        return _traffic_class(self.outer)

    @property
    def inner_class(self) -> int:
        return _traffic_class(self.inner.payload)


class Capture:
    """What one host's cable carried, both ways."""

    def __init__(self, lab: Running, file: Path) -> None:
        self._file = file
        self._udp_port = lab.plan.udp_port

    def frames(self) -> list[Packet]:
        with PcapReader(str(self._file)) as reader:
            return list(reader)

    def envelopes(self) -> list[Envelope]:
        """Those of networks; probes of paths are left out."""
        found = [_envelope(frame, self._udp_port) for frame in self.frames()]
        return [each for each in found if each is not None and each.vni != PROBE_VNI]

    def inner(self, layer: type[Packet]) -> list[Envelope]:
        """Envelopes with frames that have a layer."""
        return [each for each in self.envelopes() if layer in each.inner]


PROBE_VNI = 0xFFFFFF


@contextmanager
def captured(lab: Running, host: str) -> Iterator[Capture]:
    """Capture on a host's cable; all that was sent in the block is in the file
    when the block ends."""
    link = link_name(host)
    file = lab.cluster.root / f"{link}.pcap"
    file.unlink(missing_ok=True)
    options = ["--immediate-mode", "-U", "-Z", "root", "-w", str(file)]
    argv = lab.space(UNDERLAY).entering(["tcpdump", "-i", link, *options])
    with lab.background(argv) as process:
        assert process.stderr is not None
        assert "listening on" in process.stderr.readline()
        capture = Capture(lab, file)
        yield capture
        _send_last_words(lab, host)
        eventually(lambda: _has_last_words(capture), "the end of the capture")


def _send_last_words(lab: Running, host: str) -> None:
    other = next(each for each in lab.plan.hosts if each.name != host)
    send_datagram(lab, host, Datagram(other.vtep, LAST_WORDS, b"end"))


def _has_last_words(capture: Capture) -> bool:
    try:
        frames = capture.frames()
    except EOFError:  # a frame is being written
        return False
    return any(UDP in frame and frame[UDP].dport == LAST_WORDS for frame in frames)


class Datagram(NamedTuple):
    """UDP to an underlay address."""

    address: str
    port: int
    data: bytes
    traffic_class: int = 0


def send_datagram(lab: Running, space: str, datagram: Datagram) -> None:
    """From a host, or from etcd's namespace, which is no VTEP."""
    address, port, data, traffic_class = datagram

    def send() -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sender:
            if family == socket.AF_INET6:
                sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, traffic_class)
            else:
                sender.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, traffic_class)
            sender.sendto(data, (address, port))

    lab.space(space).in_network(send)


def envelope(vni: int, inner: bytes) -> bytes:
    """VXLAN header and frame (RFC 7348, section 5)."""
    return bytes(VXLAN(flags="Instance", vni=vni)) + inner


def _envelope(frame: Packet, udp_port: int) -> Envelope | None:
    outer = frame.payload
    if UDP not in outer or outer[UDP].dport != udp_port:
        return None
    header = VXLAN(bytes(outer[UDP].payload))
    return Envelope(outer, int(header.vni), Ether(bytes(header.payload)))


def _traffic_class(packet: Packet) -> int:
    if isinstance(packet, IPv6):
        return int(packet.tc)
    assert isinstance(packet, IP)
    return int(packet.tos)
