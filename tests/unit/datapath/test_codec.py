"""Packing of rows by field name, on layouts written down here."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heddle.datapath.codec import Field, ScalarCodec, StructCodec

# struct { u32 number; u8 mac[6]; u8 pad[2]; u16 port_be; u16 (hidden); u32 many[3];
#          struct timer timer; }
CODEC = StructCodec(
    "sample",
    32,
    [
        Field("number", 0, 4, 0),
        Field("mac", 4, 1, 6),
        Field("pad", 10, 1, 2),
        Field("port_be", 12, 2, 0),
        Field("many", 16, 4, 3),
        Field("timer", 28, 1, 4, opaque=True),
    ],
)
ROW = {"number": 1, "mac": b"abcdef", "port_be": 80, "many": (7, 8, 9)}
BYTES = b"\x01\0\0\0abcdef\0\0\0\x50\0\0\x07\0\0\0\x08\0\0\0\x09\0\0\0\0\0\0\0"


class Reordered(NamedTuple):
    mac: bytes
    number: int


def test_fields_stand_at_their_offsets_and_padding_is_zero() -> None:
    assert CODEC.pack(ROW) == BYTES
    assert CODEC.unpack(BYTES) == ROW


def test_a_row_may_leave_out_and_reorder_fields() -> None:
    expected = b"\x01\0\0\0abcdef".ljust(32, b"\0")
    assert CODEC.pack(Reordered(b"abcdef", 1)) == expected
    assert CODEC.pack({"mac": b"abcdef", "number": 1}) == expected


def test_short_bytes_are_filled_with_zeros() -> None:
    assert CODEC.pack({"mac": b"ab"})[4:10] == b"ab\0\0\0\0"


@pytest.mark.parametrize("many", [(), (7,), (7, 8), (7, 8, 9)])
def test_short_arrays_are_filled_with_zeros(many: tuple[int, ...]) -> None:
    filled = many + (0,) * (3 - len(many))
    assert CODEC.unpack(CODEC.pack({"number": 1, "many": many}))["many"] == filled


def test_what_only_the_kernel_may_see_is_no_part_of_a_row() -> None:
    assert CODEC.unpack(BYTES[:28] + b"time") == ROW


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"speed": 1}, "no field speed"),
        ({"pad": b""}, "no field pad"),
        ({"timer": b""}, "no field timer"),
        ({"many": (1, 2, 3, 4)}, "sample.many holds 3 numbers, not 4"),
        ({"mac": b"abcdefg"}, "sample.mac holds 6 bytes, not 7"),
    ],
)
def test_what_does_not_fit_is_refused(row: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CODEC.pack(row)


@given(
    st.fixed_dictionaries(
        {
            "number": st.integers(0, 2**32 - 1),
            "mac": st.binary(min_size=6, max_size=6),
            "port_be": st.integers(0, 2**16 - 1),
            "many": st.tuples(*[st.integers(0, 2**32 - 1)] * 3),
        }
    )
)
def test_unpack_reverses_pack(row: dict[str, object]) -> None:
    assert CODEC.unpack(CODEC.pack(row)) == row


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_scalar_stands_for_itself(size: int) -> None:
    codec = ScalarCodec(size)
    largest = 2 ** (8 * size) - 1
    assert codec.pack(1) == b"\x01".ljust(size, b"\0")
    assert codec.unpack(codec.pack(largest)) == largest
