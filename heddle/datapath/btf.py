"""Reads the BTF (BPF Type Format) of a compiled object.

Format: Documentation/bpf/btf.rst of Linux. Only what describes data is kept:
integers, arrays, structs, unions, enums, typedefs, pointers, variables and sections.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

from heddle.errors import KernelError

_ELF_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_BTF_HEADER = struct.Struct("<HBBIIIII")
_BTF_MAGIC = 0xEB9F
_TYPE = struct.Struct("<III")


class Kind(IntEnum):
    """BTF_KIND_*."""

    INT = 1
    PTR = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FWD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNC = 12
    FUNC_PROTO = 13
    VAR = 14
    DATASEC = 15
    FLOAT = 16
    DECL_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19


# Bytes that follow a type: a fixed part, and a part for each of its vlen members.
_TRAILER = {
    Kind.INT: (4, 0),
    Kind.ARRAY: (12, 0),
    Kind.STRUCT: (0, 12),
    Kind.UNION: (0, 12),
    Kind.ENUM: (0, 8),
    Kind.FUNC_PROTO: (0, 8),
    Kind.VAR: (4, 0),
    Kind.DATASEC: (0, 12),
    Kind.DECL_TAG: (4, 0),
    Kind.ENUM64: (0, 12),
}
_ALIASES = (Kind.TYPEDEF, Kind.VOLATILE, Kind.CONST, Kind.RESTRICT, Kind.TYPE_TAG)


class Type(NamedTuple):
    """One type. ``size`` is its size in bytes, or the id of the type it points to."""

    kind: Kind
    name: str
    size: int
    members: int  # how many
    trailer: int  # offset of what follows it


class Member(NamedTuple):
    """A member of a struct; ``offset`` in bytes."""

    name: str
    type_id: int
    offset: int


class Btf:
    """The types of one object, by id and by name."""

    def __init__(self, data: bytes) -> None:
        magic, _, _, header, types_at, types, names_at, names = _BTF_HEADER.unpack_from(data)
        if magic != _BTF_MAGIC or sys.byteorder != "little":
            raise KernelError("BTF of another byte order: build the object on this machine")
        self._data = data
        self._names = data[header + names_at : header + names_at + names]
        self._types = [Type(Kind.PTR, "void", 0, 0, 0)]
        self._types += self._read_types(header + types_at, header + types_at + types)
        self._ids = {(t.kind, t.name): i for i, t in enumerate(self._types) if t.name}

    def _read_types(self, position: int, end: int) -> Iterator[Type]:
        while position < end:
            name, info, size = _TYPE.unpack_from(self._data, position)
            kind, members = Kind(info >> 24 & 0x1F), info & 0xFFFF
            fixed, each = _TRAILER.get(kind, (0, 0))
            yield Type(kind, self._name(name), size, members, position + _TYPE.size)
            position += _TYPE.size + fixed + each * members

    def _name(self, offset: int) -> str:
        return self._names[offset : self._names.index(b"\0", offset)].decode()

    def find(self, kind: Kind, name: str) -> int | None:
        """Id of the type with this kind and name."""
        return self._ids.get((kind, name))

    def named(self, kind: Kind) -> list[str]:
        """Names of all types of a kind."""
        return [name for of_kind, name in self._ids if of_kind is kind]

    def resolve(self, type_id: int) -> Type:
        """The type behind typedefs and qualifiers."""
        found = self._types[type_id]
        while found.kind in _ALIASES:
            found = self._types[found.size]
        return found

    def pointed_to(self, type_id: int) -> int:
        """Id of what a pointer (or a variable) refers to."""
        return self.resolve(type_id).size

    def members(self, type_id: int) -> list[Member]:
        """Members of a struct or union in their order."""
        found = self.resolve(type_id)
        parts = struct.iter_unpack("<III", self._trailer(found, 12))
        return [Member(self._name(name), of, (bits & 0xFFFFFF) // 8) for name, of, bits in parts]

    def enumerators(self, type_id: int) -> dict[str, int]:
        """Names and values of an enum; none is negative."""
        found = self.resolve(type_id)
        if found.kind is Kind.ENUM64:
            wide = struct.iter_unpack("<IQ", self._trailer(found, 12))
            return {self._name(name): value for name, value in wide}
        parts = struct.iter_unpack("<II", self._trailer(found, 8))
        return {self._name(name): value for name, value in parts}

    def array(self, type_id: int) -> tuple[int, int]:
        """Element type id and length of an array."""
        element, _, length = struct.unpack_from("<III", self._data, self.resolve(type_id).trailer)
        return element, length

    def section(self, name: str) -> list[int]:
        """Ids of the variables in a data section."""
        found = self.find(Kind.DATASEC, name)
        if found is None:
            return []
        parts = struct.iter_unpack("<III", self._trailer(self._types[found], 12))
        return [variable for variable, _, _ in parts]

    def size_of(self, type_id: int) -> int:
        """Size of a type in bytes."""
        found = self.resolve(type_id)
        if found.kind is Kind.ARRAY:
            element, length = self.array(type_id)
            return self.size_of(element) * length
        return 8 if found.kind is Kind.PTR else found.size

    def _trailer(self, of: Type, each: int) -> bytes:
        return self._data[of.trailer : of.trailer + each * of.members]


def btf_section(image: bytes, name: str = ".BTF") -> bytes:
    """Contents of a section of a little-endian 64-bit ELF image."""
    try:
        header = _ELF_HEADER.unpack_from(image)
        table, count, names_index = header[6], header[12], header[13]
        sections = [_SECTION.unpack_from(image, table + i * _SECTION.size) for i in range(count)]
        names_at = sections[names_index][4]
        for section in sections:
            start = names_at + section[0]
            if image[start : image.index(b"\0", start)] == name.encode():
                return image[section[4] : section[4] + section[5]]
    except (struct.error, IndexError, ValueError) as error:
        raise KernelError("BPF object is no ELF file: build it again with scripts/build") from error
    raise KernelError(f"BPF object has no {name} section: build it again with clang -g")
