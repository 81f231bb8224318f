"""The contract with the data plane, read from the compiled object.

C owns every number (bpf/shared/abi.h). This module builds enum classes and
codecs from the object's BTF, so that nothing is typed twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from enum import IntEnum
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from heddle.datapath.btf import Btf, Kind, btf_section
from heddle.datapath.codec import Codec, Field, ScalarCodec, StructCodec
from heddle.errors import KernelError


class TableLayout(NamedTuple):
    """What must be equal for a pinned map to be used by another program."""

    map_type: int
    max_entries: int
    flags: int
    key: tuple[Field, ...]
    value: tuple[Field, ...]


class Abi:
    """Enums, structs and tables of one object."""

    def __init__(self, btf: Btf) -> None:
        self._btf = btf
        self._enums: dict[str, type[IntEnum]] = {}
        self._codecs: dict[str, StructCodec] = {}

    @classmethod
    def from_object(cls, path: Path) -> Abi:
        """Read the BTF of an object file. KernelError when it has none."""
        try:
            return cls.from_image(path.read_bytes())
        except OSError as error:
            raise KernelError(f"{path}: {error.strerror}; build it with scripts/build") from error

    @classmethod
    def from_image(cls, image: bytes) -> Abi:
        """The same from the bytes of an object file."""
        return cls(Btf(btf_section(image)))

    # ---- enums ---------------------------------------------------------

    def enum_names(self) -> list[str]:
        return self._btf.named(Kind.ENUM)

    def enum(self, name: str) -> type[IntEnum]:
        """An IntEnum class whose members keep their C names."""
        if name not in self._enums:
            type_id = self._find(Kind.ENUM, name)
            members = self._btf.enumerators(type_id)
            self._enums[name] = IntEnum(name, members)  # type: ignore[assignment]
        return self._enums[name]

    def value(self, name: str) -> int:
        """The value of an enumerator of any enum."""
        try:
            return self._enumerators[name]
        except KeyError:
            raise KernelError(f"BPF object has no enumerator {name}") from None

    def bits(self, enum: str, names: Iterable[str]) -> int:
        """Enumerators of one enum, joined by OR."""
        members, total = self.enum(enum), 0
        for name in names:
            total |= members[name]
        return total

    @cached_property
    def _enumerators(self) -> dict[str, int]:
        values: dict[str, int] = {}
        for name in self.enum_names():
            values.update(self._btf.enumerators(self._find(Kind.ENUM, name)))
        return values

    # ---- structs -------------------------------------------------------

    def codec(self, name: str) -> StructCodec:
        """The codec of a struct, by the struct's name."""
        if name not in self._codecs:
            type_id = self._find(Kind.STRUCT, name)
            self._codecs[name] = StructCodec(
                name, self._btf.size_of(type_id), list(self._fields(type_id))
            )
        return self._codecs[name]

    def _fields(self, type_id: int) -> Iterator[Field]:
        for member in self._btf.members(type_id):
            element, count = member.type_id, 0
            if self._btf.resolve(element).kind is Kind.ARRAY:
                element, count = self._btf.array(element)
            width = self._btf.size_of(element)
            is_opaque = self._btf.resolve(element).kind is Kind.STRUCT
            if is_opaque:
                width, count = 1, width
            yield Field(member.name, member.offset, width, count, is_opaque)

    # ---- tables --------------------------------------------------------

    def table_names(self) -> list[str]:
        """Tables that are pinned; what a program keeps to itself is left out."""
        return [name for name in self._tables if "pinning" in self._definition(name)]

    def table_types(self, name: str) -> tuple[Codec, Codec]:
        """Key and value codec of a table."""
        key, value = self._table_type_ids(name)
        return self._codec_of(key), self._codec_of(value)

    def table_layout(self, name: str) -> TableLayout:
        """What a pinned map must agree with."""
        definition = self._definition(name)
        key, value = self._table_parts(name)
        return TableLayout(
            map_type=self._number(definition.get("type")),
            max_entries=self._number(definition.get("max_entries")),
            flags=self._number(definition.get("map_flags")),
            key=self._flat(key),
            value=self._flat(value),
        )

    def layout_digest(self) -> bytes:
        """32 bytes that differ when any table's layout does."""
        layouts = [(name, self.table_layout(name)) for name in sorted(self.table_names())]
        return hashlib.sha256(repr(layouts).encode()).digest()

    @cached_property
    def _tables(self) -> dict[str, int]:
        """Map names -> the type of the struct that defines them."""
        variables = (self._btf.resolve(variable) for variable in self._btf.section(".maps"))
        return {variable.name: variable.size for variable in variables}

    def _definition(self, name: str) -> dict[str, int]:
        try:
            type_id = self._tables[name]
        except KeyError:
            raise KernelError(f"BPF object has no table {name}") from None
        return {member.name: member.type_id for member in self._btf.members(type_id)}

    def _number(self, type_id: int | None) -> int:
        """A number in a map definition: the length of an array that is pointed to."""
        return 0 if type_id is None else self._btf.array(self._btf.pointed_to(type_id))[1]

    def _table_parts(self, name: str) -> list[int | None]:
        definition = self._definition(name)
        return [
            self._btf.pointed_to(definition[part]) if part in definition else None
            for part in ("key", "value")
        ]

    def _table_type_ids(self, name: str) -> tuple[int, int]:
        key, value = self._table_parts(name)
        if key is None or value is None:
            raise KernelError(f"table {name} has no keys and values: read it as a ring buffer")
        return key, value

    def _flat(self, type_id: int | None) -> tuple[Field, ...]:
        if type_id is None:
            return ()
        if self._btf.resolve(type_id).kind is Kind.STRUCT:
            return tuple(self._fields(type_id))
        return (Field("", 0, self._btf.size_of(type_id), 0),)

    def _codec_of(self, type_id: int) -> Codec:
        found = self._btf.resolve(type_id)
        if found.kind is Kind.STRUCT:
            return self.codec(found.name)
        return ScalarCodec(self._btf.size_of(type_id))

    def _find(self, kind: Kind, name: str) -> int:
        type_id = self._btf.find(kind, name)
        if type_id is None:
            raise KernelError(f"BPF object has no {kind.name.lower()} {name}: build it again")
        return type_id
