"""Packs rows into the bytes of a C struct and back, by field name.

A row is a mapping or a NamedTuple whose names are the struct's. Fields left out
are zero, ``pad*`` fields always are, and so is what is missing at the end of an
array. Integers whose name ends in ``_be`` are plain numbers in Python and stand in
network order in the struct.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from itertools import repeat
from typing import Any, NamedTuple, Protocol, TypeAlias

_INTEGERS = {1: "B", 2: "H", 4: "I", 8: "Q"}

# An int for a scalar; a mapping, a NamedTuple or (unpacked) a dict for a struct.
Row: TypeAlias = Any


class Codec(Protocol):
    """What a map's key or value is packed with."""

    @property
    def size(self) -> int: ...

    def pack(self, row: Row, /) -> bytes: ...

    def unpack(self, data: bytes, /) -> Row: ...


class Field(NamedTuple):
    """A member of a struct: an integer, an array of bytes or of integers.

    ``offset`` and ``width`` (of one element) are in bytes; ``length`` is 0 for
    what is no array. ``opaque`` is what only the kernel may look into, such as
    a ``struct bpf_timer``.
    """

    name: str
    offset: int
    width: int
    length: int
    opaque: bool = False

    @property
    def size(self) -> int:
        return self.width * max(self.length, 1)

    @property
    def is_bytes(self) -> bool:
        return self.width == 1 and self.length > 0

    @property
    def is_hidden(self) -> bool:
        """Not part of a row, and zero when packed."""
        return self.opaque or self.name.startswith("pad")

    @property
    def format(self) -> str:
        if self.is_bytes:
            return f"{self.length}s"
        return f"{self.length or ''}{_INTEGERS[self.width]}"


class ScalarCodec:
    """An integer that stands for itself."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._struct = struct.Struct("=" + _INTEGERS[size])

    def pack(self, row: int) -> bytes:
        return self._struct.pack(row)

    def unpack(self, data: bytes) -> int:
        value: int = self._struct.unpack(data)[0]
        return value


class StructCodec:
    """One struct. ``pack`` is compiled once per kind of row."""

    def __init__(self, name: str, size: int, members: Sequence[Field]) -> None:
        self.name = name
        self.size = size
        self.members = tuple(members)
        self.fields = tuple(member for member in members if not member.is_hidden)
        self._packers: dict[tuple[str, ...], Callable[[Sequence[Any]], bytes]] = {}
        self._unpack = _unpacker(self.fields, size)

    def pack(self, row: Mapping[str, Any] | tuple[Any, ...]) -> bytes:
        """Bytes of a row. ValueError for an unknown field or a value too long."""
        if isinstance(row, Mapping):
            return self._packer(tuple(row))(tuple(row.values()))
        return self._packer(row._fields)(row)  # type: ignore[attr-defined]

    def unpack(self, data: bytes) -> dict[str, Any]:
        """Field names and values: int, bytes, or a tuple of int for other arrays."""
        return self._unpack(data)

    def _packer(self, names: tuple[str, ...]) -> Callable[[Sequence[Any]], bytes]:
        found = self._packers.get(names)
        if found is None:
            found = self._packers[names] = self._compile(names)
        return found

    def _compile(self, names: tuple[str, ...]) -> Callable[[Sequence[Any]], bytes]:
        unknown = set(names) - {field.name for field in self.fields}
        if unknown:
            raise ValueError(f"struct {self.name} has no field {', '.join(sorted(unknown))}")
        return _packer(self.name, [f for f in self.fields if f.name in names], names, self.size)


def partial_layout(codec: StructCodec, names: Sequence[str]) -> struct.Struct:
    """Some fields of a struct, in its order and as they lie in memory; all else is padding."""
    fields = {field.name: field for field in codec.fields}
    return _layout([fields[name] for name in names], codec.size)


def _layout(fields: Sequence[Field], size: int) -> struct.Struct:
    """Struct of these fields at their offsets, zero bytes in between."""
    parts, position = ["="], 0
    for field in fields:
        parts.append(f"{field.offset - position}x{field.format}")
        position = field.offset + field.size
    return struct.Struct("".join(parts) + f"{size - position}x")


def _packer(
    owner: str, fields: Sequence[Field], names: tuple[str, ...], size: int
) -> Callable[[Sequence[Any]], bytes]:
    """A function from values in the order of ``names`` to bytes."""
    pack = _layout(fields, size).pack
    order = [names.index(field.name) for field in fields]
    limits = [(names.index(f.name), f) for f in fields if f.length]

    def checked(values: Sequence[Any]) -> None:
        for index, field in limits:  # struct would cut bytes off without a word
            if len(values[index]) > field.length:
                unit = "bytes" if field.is_bytes else "numbers"
                raise ValueError(
                    f"{owner}.{field.name} holds {field.length} {unit}, not {len(values[index])}"
                )

    if all(_is_plain(field) for field in fields):

        def packed(values: Sequence[Any]) -> bytes:
            checked(values)
            return pack(*[values[index] for index in order])

        return packed

    converters = [_to_struct(field) for field in fields]

    def converted(values: Sequence[Any]) -> bytes:
        checked(values)
        parts: list[Any] = []
        for index, convert in zip(order, converters, strict=True):
            parts += convert(values[index])
        return pack(*parts)

    return converted


def _is_plain(field: Field) -> bool:
    """Whether Python's value is one argument of struct.pack."""
    return field.is_bytes or not (field.length or field.name.endswith("_be"))


def _to_struct(field: Field) -> Callable[[Any], Sequence[Any]]:
    if _is_plain(field):
        return lambda value: (value,)
    if field.name.endswith("_be"):
        return lambda value: (_swapped(value, field.width),)
    return lambda value: (*value, *repeat(0, field.length - len(value)))


def _swapped(value: int, width: int) -> int:
    return int.from_bytes(value.to_bytes(width, "big"), "little")


def _unpacker(fields: Sequence[Field], size: int) -> Callable[[bytes], dict[str, Any]]:
    unpack = _layout(fields, size).unpack
    names = tuple(field.name for field in fields)
    if all(_is_plain(field) for field in fields):
        return lambda data: dict(zip(names, unpack(data), strict=True))

    def converted(data: bytes) -> dict[str, Any]:
        values = iter(unpack(data))
        row: dict[str, Any] = {}
        for field in fields:
            if field.length and not field.is_bytes:
                row[field.name] = tuple(next(values) for _ in range(field.length))
            elif field.name.endswith("_be"):
                row[field.name] = _swapped(next(values), field.width)
            else:
                row[field.name] = next(values)
        return row

    return converted
