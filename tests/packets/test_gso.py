"""Frames that the guest left uncut (GSO): whole in, whole out, checksum untouched."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from packet_diff import assert_same_frame
from packet_lab import VNET_HEADER_BYTES, Device
from packet_shapes import forwarded, l3
from packet_world import DB1, FAR1, MAIN_DB, MAIN_WEB, WEB1, WEB2, WEB3, Nic, World
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6PacketTooBig, ICMPv6TimeExceeded
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from heddle.datapath.frames import checksum
from tests.packets.conftest import Sent, Switchboard

Send = Callable[..., Sent]
VERSIONS = (4, 6)
ETHERNET = 14
TCP_BYTES = 20
WHOLE = 20000  # bytes of payload


def large(nic: Nic, to_mac: str, destination: str, payload: int, ttl: int = 64) -> Packet:
    """One TCP segment of any length, its checksum field still the sum of the
    pseudo header alone, as a guest hands it to its NIC (CHECKSUM_PARTIAL)."""
    version = 6 if ":" in destination else 4
    frame = Ether(src=nic.mac, dst=to_mac) / l3(version, nic.address(version), destination, ttl)
    tcp = TCP(sport=4000, dport=80, flags="A", seq=1, ack=1, chksum=0)
    frame = Ether(bytes(frame / tcp / Raw(bytes(i % 251 for i in range(payload)))))
    ip = frame[1]
    pseudo = checksum(address_bytes(ip) + struct.pack("!HH", 6, TCP_BYTES + payload))
    frame[TCP].chksum = ~pseudo & 0xFFFF
    return Ether(bytes(frame))


def address_bytes(ip: Packet) -> bytes:
    return bytes(ip)[12:20] if ip.version == 4 else bytes(ip)[8:40]


# ---- in test runs: one page at most ----------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_segments_that_fit_are_routed_whole(send: Send, version: int) -> None:
    frame = large(WEB1, MAIN_WEB.mac, DB1.address(version), 3000)
    sent = send("web1", frame, gso_size=1000, gso_segments=3)
    sent.arrives("db1", forwarded(frame, MAIN_DB.mac, DB1.mac))


@pytest.mark.parametrize(("gso_size", "fits"), [(1410, True), (1411, False)])
def test_a_segment_is_measured_with_its_headers(send: Send, gso_size: int, fits: bool) -> None:
    """IPv4 and TCP take 40 of the MTU's 1450 bytes."""
    frame = large(WEB1, WEB2.mac, WEB2.ipv4, 3000)
    sent = send("web1", frame, gso_size=gso_size, gso_segments=3)
    assert sent.reason == (None if fits else "DROP_TOO_BIG")


@pytest.mark.parametrize(("gso_size", "fits"), [(1390, True), (1391, False)])
def test_ipv6_headers_take_more(send: Send, gso_size: int, fits: bool) -> None:
    frame = large(WEB1, WEB2.mac, WEB2.ipv6, 3000)
    sent = send("web1", frame, gso_size=gso_size, gso_segments=3)
    assert sent.reason == (None if fits else "DROP_TOO_BIG")


def test_options_of_tcp_count(send: Send) -> None:
    frame = Ether(src=WEB1.mac, dst=WEB2.mac) / IP(src=WEB1.ipv4, dst=WEB2.ipv4)
    frame = frame / TCP(options=[("Timestamp", (1, 2)), ("EOL", None)]) / Raw(bytes(2800))
    header = frame[TCP].__class__(bytes(frame[TCP])).dataofs * 4
    assert send("web1", frame, gso_size=1430 - header, gso_segments=3).reason is None
    assert send("web1", frame, gso_size=1431 - header, gso_segments=3).reason == "DROP_TOO_BIG"


def test_udp_segments(send: Send) -> None:
    """UDP segmentation (USO): 8 bytes of header each."""
    frame = Ether(src=WEB1.mac, dst=WEB2.mac) / IP(src=WEB1.ipv4, dst=WEB2.ipv4)
    frame = frame / UDP(sport=1, dport=2) / Raw(bytes(2800))
    assert send("web1", frame, gso_size=1422, gso_segments=2).reason is None
    assert send("web1", frame, gso_size=1423, gso_segments=2).reason == "DROP_TOO_BIG"


def test_without_gso_the_whole_packet_counts(send: Send) -> None:
    assert send("web1", large(WEB1, WEB2.mac, WEB2.ipv4, 3000)).reason == "DROP_TOO_BIG"


# ---- between real TAPs, as QEMU opens them ------------------------------------------------

NEEDS_CHECKSUM = 1  # VIRTIO_NET_HDR_F_NEEDS_CSUM
NO_GSO, TCPV4, TCPV6 = 0, 1, 4  # VIRTIO_NET_HDR_GSO_*
TCP_CHECKSUM_OFFSET = 16


@dataclass(frozen=True)
class VirtioHeader:
    """struct virtio_net_hdr (virtio 1.2, 5.1.6)."""

    flags: int
    gso_type: int
    header_bytes: int
    gso_size: int
    checksum_start: int
    checksum_offset: int

    @classmethod
    def of(cls, frame: Packet, gso_size: int) -> VirtioHeader:
        version = frame[1].version
        l4 = ETHERNET + (20 if version == 4 else 40)
        kind = {4: TCPV4, 6: TCPV6}[version] if gso_size else NO_GSO
        headers = l4 + TCP_BYTES if gso_size else 0
        return cls(NEEDS_CHECKSUM, kind, headers, gso_size, l4, TCP_CHECKSUM_OFFSET)

    def pack(self) -> bytes:
        return struct.pack(
            "=BBHHHH",
            self.flags,
            self.gso_type,
            self.header_bytes,
            self.gso_size,
            self.checksum_start,
            self.checksum_offset,
        )

    @classmethod
    def unpack(cls, data: bytes) -> VirtioHeader:
        return cls(*struct.unpack("=BBHHHH", data[:VNET_HEADER_BYTES]))


@dataclass(frozen=True)
class VirtioBoard:
    """The small world with web1, db1 and far1 on TAPs that take GSO frames."""

    board: Switchboard
    taps: dict[str, Device]

    def write(self, name: str, frame: Packet, gso_size: int) -> VirtioHeader:
        header = VirtioHeader.of(frame, gso_size)
        self.taps[name].write(header.pack() + bytes(frame))
        return header

    def read(self, name: str) -> tuple[VirtioHeader, bytes]:
        data = self.taps[name].read()
        assert data is not None, f"nothing reached {name}"
        return VirtioHeader.unpack(data), data[VNET_HEADER_BYTES:]


@pytest.fixture(scope="module")
def virtio_taps(session_board: Switchboard) -> dict[str, Device]:
    with session_board.lab.entered():
        taps = {nic.name: session_board.lab.tap(vnet_header=True) for nic in (WEB1, DB1, FAR1)}
        for tap in taps.values():
            session_board.lab.attach(tap.name, session_board.pin)
    return taps


@pytest.fixture
def virtio(board: Switchboard, virtio_taps: dict[str, Device]) -> VirtioBoard:
    """Rows of the three point to the new TAPs; the next reset takes them back."""
    ifindexes = {name: device.ifindex for name, device in board.devices.items()}
    ifindexes |= {name: tap.ifindex for name, tap in virtio_taps.items()}
    World(board.datapath, ifindexes).write()
    for tap in virtio_taps.values():
        tap.read_all()
    return VirtioBoard(board, virtio_taps)


@pytest.mark.parametrize("payload", [WHOLE, 64000])
@pytest.mark.parametrize("version", VERSIONS)
def test_large_frame_stays_whole_from_tap_to_tap(
    virtio: VirtioBoard, version: int, payload: int
) -> None:
    """Twice: the first by the slow path, the second by the flow."""
    frame = large(WEB1, MAIN_WEB.mac, DB1.address(version), payload)
    expected = forwarded(frame, MAIN_DB.mac, DB1.mac)
    for _ in range(2):
        sent = virtio.write("web1", frame, gso_size=1300)
        header, received = virtio.read("db1")
        assert_same_frame(received, expected)
        assert replace(header, header_bytes=0) == replace(sent, header_bytes=0)
    assert virtio.taps["db1"].read_all() == []


@pytest.mark.parametrize("version", VERSIONS)
def test_unfinished_checksum_stays_so(virtio: VirtioBoard, version: int) -> None:
    """CHECKSUM_PARTIAL of an ordinary segment: nobody sums it up on the way."""
    frame = large(WEB1, MAIN_WEB.mac, DB1.address(version), 100)
    sent = virtio.write("web1", frame, gso_size=0)
    header, received = virtio.read("db1")
    assert_same_frame(received, forwarded(frame, MAIN_DB.mac, DB1.mac))
    assert header == sent


@pytest.mark.parametrize("version", VERSIONS)
def test_large_frame_reaches_a_container_whole(virtio: VirtioBoard, version: int) -> None:
    frame = large(WEB1, WEB3.mac, WEB3.address(version), WHOLE)
    virtio.write("web1", frame, gso_size=1300)
    assert_same_frame(virtio.board.devices["web3"].read() or b"", frame)


@pytest.mark.parametrize("version", VERSIONS)
def test_segments_too_big_for_the_way_are_told(virtio: VirtioBoard, version: int) -> None:
    """The error quotes the start of the large packet; it is one frame, no GSO."""
    frame = large(WEB1, MAIN_WEB.mac, FAR1.address(version), WHOLE)
    virtio.write("web1", frame, gso_size=1300)
    header, received = virtio.read("web1")
    assert header.gso_type == NO_GSO
    error = Ether(received)
    mtu = error[IP].payload.nexthopmtu if version == 4 else error[ICMPv6PacketTooBig].mtu
    assert mtu == FAR1.network.mtu
    quote = bytes(frame[1])[: 548 if version == 4 else 1232]
    assert received.endswith(quote)
    assert len(received) == ETHERNET + {4: 576, 6: 1280}[version]
    assert virtio.taps["far1"].read_all() == []


@pytest.mark.parametrize("version", VERSIONS)
def test_large_frame_at_the_end_of_its_ttl(virtio: VirtioBoard, version: int) -> None:
    frame = large(WEB1, MAIN_WEB.mac, DB1.address(version), WHOLE, ttl=1)
    virtio.write("web1", frame, gso_size=1300)
    header, received = virtio.read("web1")
    assert header.gso_type == NO_GSO
    error = Ether(received)
    assert (error[IP].payload.type == 11) if version == 4 else (ICMPv6TimeExceeded in error)
    assert virtio.board.drop_count_of(virtio.taps["web1"], "DROP_TTL_EXCEEDED")["packets"] == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_large_frames_count_with_all_their_bytes(virtio: VirtioBoard, version: int) -> None:
    frame = large(WEB1, MAIN_WEB.mac, DB1.address(version), WHOLE)
    virtio.write("web1", frame, gso_size=1300)
    counters = virtio.board.counters(WEB1.slot)
    assert (counters["from_vm_packets"], counters["from_vm_bytes"]) == (1, len(bytes(frame)))
