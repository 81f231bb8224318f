"""heddle.toml: what an operator says of a host."""

from __future__ import annotations

from pathlib import Path

import pytest

from heddle.applier.qos_settings import HostSettings, read_settings
from heddle.errors import RequestError


def test_no_file_says_nothing(tmp_path: Path) -> None:
    assert read_settings(tmp_path / "heddle.toml") == HostSettings(capacity=0)


def test_a_capacity_is_a_rate(tmp_path: Path) -> None:
    file = tmp_path / "heddle.toml"
    file.write_text('capacity = "10gbit"\n')
    assert read_settings(file).capacity == 10_000_000_000


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('capcity = "10gbit"', "unknown key capcity; known: capacity"),
        ('capacity = "fast"', "capacity: "),
        ("capacity = 1", "capacity: 1 is less than the kernel can keep"),
        ("capacity = true", "is no rate"),
        ("capacity: 10gbit", "it must be TOML"),
    ],
)
def test_what_is_wrong_is_told_with_the_file(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "heddle.toml"
    file.write_text(text)
    with pytest.raises(RequestError) as raised:
        read_settings(file)
    assert str(raised.value).startswith(f"{file}: ")
    assert words in str(raised.value)


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="Is a directory"):
        read_settings(tmp_path)
