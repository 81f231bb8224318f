"""Protocol buffers as etcd's API uses them (protobuf.dev, encoding).

A dozen small messages need no generated code and no run-time library: varints
and length-delimited fields are all there is in them.
"""

from __future__ import annotations

from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types
_SIGN = 1 << 63


def number(field: int, value: int) -> bytes:
    """An integer, enum or bool; zero is what an absent field means."""
    return _varint(field << 3 | _VARINT) + _varint(value) if value else b""


def data(field: int, value: bytes) -> bytes:
    """Bytes, a string or a message; empty ones are left out."""
    return message(field, value) if value else b""


def message(field: int, value: bytes) -> bytes:
    """As ``data``, but said also when empty."""
    return _varint(field << 3 | _BYTES) + _varint(len(value)) + value


def fields(buffer: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Field numbers and values in the order in which they were written.
    ValueError when the buffer is no message."""
    position, end = 0, len(buffer)
    while position < end:
        tag, position = _read_varint(buffer, position)
        kind = tag & 7
        if kind == _VARINT:
            value, position = _read_varint(buffer, position)
            yield tag >> 3, value
            continue
        if kind == _BYTES:
            size, position = _read_varint(buffer, position)
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {kind}")
        if position + size > end:
            raise ValueError("a field goes beyond its message")
        yield tag >> 3, buffer[position : position + size]
        position += size


def signed(value: int) -> int:
    """An int64 as what it means: negative ones are sent as large ones."""
    return value - (_SIGN << 1) if value >= _SIGN else value


def _varint(value: int) -> bytes:
    if value < 0:
        value += _SIGN << 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(buffer: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(buffer):
            raise ValueError("a number goes beyond its message")
        byte = buffer[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
