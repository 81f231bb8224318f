"""Frames that are not what they should be, made from frames that are."""

from __future__ import annotations

import struct
from random import Random

from reference import wire

FRAME_MIN, FRAME_MAX = 14, 3400  # a device takes no less, BPF_PROG_TEST_RUN no more
EXTENSIONS = (0, 43, 44, 51, 60, 135, 139, 140, 59)


def mutated(random: Random, frame: bytes) -> bytes:
    """The frame with one to three faults."""
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        mutate = random.choice(_MUTATIONS)
        frame = mutate(random, frame)
    return frame[:FRAME_MAX].ljust(FRAME_MIN, b"\0")


def _flip_bits(random: Random, frame: bytes) -> bytes:
    changed = bytearray(frame)
    for _ in range(random.randint(1, 4)):
        changed[random.randrange(min(len(changed), 120))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _set_byte(random: Random, frame: bytes) -> bytes:
    changed = bytearray(frame)
    changed[random.randrange(min(len(changed), 100))] = random.choice((0, 1, 127, 128, 255))
    return bytes(changed)


def _truncate(random: Random, frame: bytes) -> bytes:
    return frame[: random.randint(FRAME_MIN, max(FRAME_MIN, len(frame)))]


def _extend(random: Random, frame: bytes) -> bytes:
    return frame + random.randbytes(random.choice((1, 6, 100, 1500)))


def _noise(random: Random, frame: bytes) -> bytes:
    """Random bytes behind a header that was right."""
    keep = random.choice((12, 14, 34, 38, 54, 62))
    return frame[:keep] + random.randbytes(random.randint(0, 200))


def _ethertype(random: Random, frame: bytes) -> bytes:
    kinds = (wire.IPV4, wire.IPV6, wire.ARP, 0x8100, 0x88A8, 0x88CC, random.randrange(65536))
    return frame[:12] + struct.pack("!H", random.choice(kinds)) + frame[14:]


def _length(random: Random, frame: bytes) -> bytes:
    """An absurd length in IP."""
    offset = 16 if frame[12:14] == b"\x08\x00" else 18
    near = len(frame) - 14
    length = random.choice((0, 1, 19, 20, 39, 40, near - 1, near + 1, 65535, near))
    return frame[:offset] + struct.pack("!H", length & 0xFFFF) + frame[offset + 2 :]


def _protocol(random: Random, frame: bytes) -> bytes:
    offset = 23 if frame[12:14] == b"\x08\x00" else 20
    value = random.choice((1, 6, 17, 33, 47, 58, 132, 136, *EXTENSIONS))
    return frame[:offset] + bytes([value]) + frame[offset + 1 :]


def _options(random: Random, frame: bytes) -> bytes:
    """IPv4 options, as many as fit or a few."""
    if frame[12:14] != b"\x08\x00" or len(frame) < 34:
        return _flip_bits(random, frame)
    words = random.choice((1, 2, 10))
    header = bytearray(frame[14:34])
    header[0] = 0x40 | (5 + words)
    (length,) = struct.unpack_from("!H", header, 2)
    struct.pack_into("!H", header, 2, (length + 4 * words) & 0xFFFF)
    return frame[:14] + bytes(header) + random.randbytes(4 * words) + frame[34:]


def _fragment(random: Random, frame: bytes) -> bytes:
    if frame[12:14] != b"\x08\x00":
        return _extension_headers(random, frame)
    field = random.choice((0x2000, 0x2001, 1, 0x1FFF, 0x4000, 0x8000))
    return frame[:20] + struct.pack("!H", field) + frame[22:]


def _extension_headers(random: Random, frame: bytes) -> bytes:
    """Nested IPv6 extension headers, some too long, some out of order."""
    if frame[12:14] != b"\x86\xdd" or len(frame) < 54:
        return _flip_bits(random, frame)
    chain, following = b"", frame[20]
    for _ in range(random.choice((1, 1, 2, 4, 7, 8, 9, 10))):
        kind = random.choice((0, 43, 44, 51, 60, 60, 60))
        chain = _extension(random, kind, following) + chain
        following = kind
    (length,) = struct.unpack_from("!H", frame, 18)
    header = frame[14:18] + struct.pack("!H", (length + len(chain)) & 0xFFFF) + bytes([following])
    return frame[:14] + header + frame[21:54] + chain + frame[54:]


def _extension(random: Random, kind: int, following: int) -> bytes:
    if kind == 44:
        field = random.choice((0, 0, 1, 8, 9, 0xFFF8))
        return struct.pack("!BBHI", following, 0, field, random.randrange(4))
    if kind == 51:
        return bytes([following, 4]) + bytes(22)
    units = random.choice((0, 0, 0, 1, 255)) if random.random() < 0.2 else 0
    return bytes([following, units]) + bytes(6 + 8 * min(units, 4))


def _swap_addresses(random: Random, frame: bytes) -> bytes:
    """The other one's words with one's own MAC, or the reverse."""
    if frame[12:14] == b"\x08\x00":
        return frame[:26] + frame[30:34] + frame[26:30] + frame[34:]
    return frame[6:12] + frame[:6] + frame[12:]


_MUTATIONS = (
    _flip_bits,
    _flip_bits,
    _set_byte,
    _truncate,
    _extend,
    _noise,
    _ethertype,
    _length,
    _protocol,
    _options,
    _fragment,
    _extension_headers,
    _swap_addresses,
)
