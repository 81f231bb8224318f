"""Connections, put together from the entries of both directions; layouts are
those of the compiled object."""

from __future__ import annotations

from typing import Any

import pytest

from heddle.datapath.abi import Abi
from heddle.datapath.flows import Connection, Usage, _Decoder
from heddle.datapath.loader import OBJECT

A, B = (bytes(10) + b"\xff\xff" + bytes([10, 0, 0, last]) for last in (1, 2))
TCP, ICMP, ICMPV6, GRE = 6, 1, 58, 47


@pytest.fixture(scope="module")
def abi() -> Abi:
    return Abi.from_object(OBJECT)


def key(abi: Abi, ifindex: int, source: bytes, destination: bytes, *ports: int, **of: int) -> bytes:
    row = {"ifindex": ifindex, "source": source, "destination": destination}
    named = dict(zip(("source_port_be", "destination_port_be"), ports, strict=False))
    return abi.codec("flow_key").pack({**row, **named, "l4_protocol": of["protocol"]})


def flow(abi: Abi, role: str, **fields: Any) -> bytes:  # noqa: ANN401
    return abi.codec("flow").pack({"role": abi.value(role), **fields})


def connections(abi: Abi, entries: dict[bytes, bytes]) -> list[Connection]:
    return list(_Decoder(abi).connections(entries))


def pair(abi: Abi, protocol: int, there: tuple[int, ...], back: tuple[int, ...]) -> Connection:
    """The connection of two entries; 3 packets there, 4 back."""
    opener = {"ifindex": 6, "other_ifindex": 6, "opened_at": 10, "from_rule": 7, "to_rule": 8}
    state = abi.value("CONNECTION_ESTABLISHED")
    entries = {
        key(abi, 5, A, B, *there, protocol=protocol): flow(
            abi, "FLOW_OPENER", **opener, packets=3, bytes=300, used_at=20, state=state
        ),
        key(abi, 6, B, A, *back, protocol=protocol): flow(
            abi, "FLOW_REPLY", ifindex=5, other_ifindex=5, packets=4, bytes=400, used_at=30
        ),
    }
    (found,) = connections(abi, entries)
    return found


def test_two_entries_are_one_connection(abi: Abi) -> None:
    assert pair(abi, TCP, (33000, 80), (80, 33000)) == Connection(
        tracked=True,
        state="ESTABLISHED",
        protocol=TCP,
        from_ifindex=5,
        to_ifindex=6,
        source=A,
        destination=B,
        source_port=33000,
        destination_port=80,
        opened_at=10,
        used_at=30,
        packets=3,
        bytes=300,
        reply_packets=4,
        reply_bytes=400,
        from_rule=7,
        to_rule=8,
    )


@pytest.mark.parametrize(
    ("protocol", "there", "back"),
    [
        (ICMP, (77, 8 << 8), (77, 0)),
        (ICMPV6, (77, 128 << 8), (77, 129 << 8)),
        (GRE, (0, 0), (0, 0)),
    ],
)
def test_answers_without_ports_are_found(
    abi: Abi, protocol: int, there: tuple[int, int], back: tuple[int, int]
) -> None:
    assert pair(abi, protocol, there, back).reply_packets == 4


def test_a_connection_without_an_answer(abi: Abi) -> None:
    entries = {key(abi, 5, A, B, 1, 2, protocol=TCP): flow(abi, "FLOW_OPENER", ifindex=6)}
    (found,) = connections(abi, entries)
    assert (found.to_ifindex, found.reply_packets, found.reply_bytes) == (6, 0, 0)


def test_what_is_not_tracked_stands_alone(abi: Abi) -> None:
    entries = {
        key(abi, 5, A, B, 1, 2, protocol=TCP): flow(abi, "FLOW_UNTRACKED", ifindex=6),
        key(abi, 6, B, A, 2, 1, protocol=TCP): flow(abi, "FLOW_UNTRACKED", ifindex=5),
    }
    assert [(c.tracked, c.from_ifindex) for c in connections(abi, entries)] == [
        (False, 5),
        (False, 6),
    ]


@pytest.mark.parametrize(
    ("in_use", "wanted", "limit"),
    [(0, 0, 100), (60, 0, 40), (60, 10, 10), (95, 10, 5), (100, 0, 0)],
)
def test_the_limit_is_what_is_free_and_what_is_allowed(
    in_use: int, wanted: int, limit: int
) -> None:
    usage = Usage(in_use, 100, {})
    assert usage.limit(wanted) == limit
    assert usage.is_full == (limit == 0)
