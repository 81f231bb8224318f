"""Rates, bursts, protocols and ports as files write them."""

from __future__ import annotations

import pytest

from heddle.intent.protocols import parse_ports, parse_protocol, protocol_name
from heddle.intent.rates import (
    GSO_BYTES,
    bytes_text,
    default_burst,
    default_packet_burst,
    parse_bit_rate,
    parse_burst,
    rate_text,
)


@pytest.mark.parametrize(
    ("text", "bits"),
    [
        ("500mbit", 500_000_000),
        ("1gbit", 10**9),
        ("10kbit", 10_000),
        ("1.5mbit", 1_500_000),
        ("1.0005gbit", 1_000_500_000),
        ("8000", 8000),
        ("9600bit", 9600),
        (8000, 8000),
        ("1Mbit", 1_000_000),
        ("1 Gbit", 10**9),
        ("1mibit", 1 << 20),
        ("1tbit", 10**12),
    ],
)
def test_rates(text: object, bits: int) -> None:
    assert parse_bit_rate(text) == bits


@pytest.mark.parametrize(
    "text",
    [
        *("", "mbit", "5", "1.5", "-1mbit", "1 m bit", "1e9", "1xbit", "1mb", "1mbps", "7.9kbit"),
        *("1.5.5mbit", "٣mbit", "9" * 16 + "kbit", "1.1tbit", 5, 1.5, None, True, []),
    ],
)
def test_no_rates(text: object) -> None:
    with pytest.raises(ValueError, match=r"; (write|give) "):
        parse_bit_rate(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("64k", 65536),
        ("64kb", 65536),
        ("64KiB", 65536),
        ("1mb", 1 << 20),
        ("1.5k", 1536),
        ("1g", 1 << 30),
        ("1514", 1514),
        ("1514b", 1514),
        (1514, 1514),
    ],
)
def test_bursts(text: object, size: int) -> None:
    assert parse_burst(text) == size


@pytest.mark.parametrize("text", ["", "k", "0", "0.1", -1, "1mbit", "1t", True, None, {}, "1 k b"])
def test_no_bursts(text: object) -> None:
    with pytest.raises(ValueError, match="; write one such as 64k"):
        parse_burst(text)


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (8000, "8kbit"),
        (8001, "8.001kbit"),
        (999, "999bit"),
        (1_500_000, "1.5mbit"),
        (1_234_567_891, "1234567.891kbit"),
        (10**9, "1gbit"),
        (10**12, "1tbit"),
    ],
)
def test_rates_are_shown_as_they_are_written(rate: int, text: str) -> None:
    assert rate_text(rate) == text
    assert rate < 8000 or parse_bit_rate(text) == rate


@pytest.mark.parametrize(
    ("size", "text"), [(1 << 20, "1mb"), (73728, "72kb"), (1536, "1536 bytes"), (3 << 30, "3gb")]
)
def test_sizes_are_shown_as_they_are_written(size: int, text: str) -> None:
    assert bytes_text(size) == text


def test_a_default_burst_lets_a_gso_packet_and_ten_milliseconds_pass() -> None:
    assert default_burst(8000) == GSO_BYTES > 64 << 10
    assert default_burst(1_000_000_000) == 1_250_000
    assert default_packet_burst(1) == 64
    assert default_packet_burst(100_000) == 1000
    assert default_packet_burst(1_000_000_000) == 1_000_000


@pytest.mark.parametrize(
    ("text", "number"),
    [("tcp", 6), ("UDP", 17), ("icmp6", 58), ("icmpv6", 58), ("132", 132), (0, 0), (255, 255)],
)
def test_protocols(text: object, number: int) -> None:
    assert parse_protocol(text) == number


def test_any_protocol_is_none_in_particular() -> None:
    assert parse_protocol("any") is None


@pytest.mark.parametrize("text", ["", "tpc", 256, -1, "1.5", 1.5, True, None, [6], "٦"])
def test_no_protocols(text: object) -> None:
    with pytest.raises(ValueError, match=r"; (give a name such as tcp|there is|did you mean)"):
        parse_protocol(text)


def test_protocols_have_the_name_that_people_use() -> None:
    assert [protocol_name(number) for number in (1, 6, 58, 132, 99)] == [
        "icmp",
        "tcp",
        "icmpv6",
        "sctp",
        "protocol 99",
    ]


@pytest.mark.parametrize(
    ("text", "ports"),
    [("80", (80, 80)), (80, (80, 80)), ("80-443", (80, 443)), (" 1 - 65535 ", (1, 65535))],
)
def test_ports(text: object, ports: tuple[int, int]) -> None:
    assert parse_ports(text) == ports


@pytest.mark.parametrize(
    "text", ["", "-", "80-", "-80", -80, 0, "0-5", "5-4", "1-65536", "http", 1.5, True, None, "٨"]
)
def test_no_ports(text: object) -> None:
    with pytest.raises(ValueError, match=r"; (give 1 to|write )"):
        parse_ports(text)
