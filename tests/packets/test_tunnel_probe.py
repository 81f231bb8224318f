"""Probes of the path between two hosts: answered by the data plane, told to the agent."""

from __future__ import annotations

import time
from typing import Any

import pytest
from packet_tunnel import FOREIGN, FORWARDED_ONCE, HERE, NEAR, SIX, STRANGE_VTEPS, Host, Tunnel
from packet_world import mapped
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

ASKER, ASKED = "02:00:00:00:00:02", "02:00:00:00:00:03"
HOSTS = pytest.mark.parametrize("host", [NEAR, SIX], ids=lambda host: host.name)


def probe(tunnel: Tunnel, kind: str, size: int, **fields: int) -> Packet:
    """A frame of so many bytes."""
    abi = tunnel.board.datapath.abi
    row = {"kind": abi.value(kind), "host": 2, "sequence": 7, "length": size, **fields}
    payload = abi.codec("probe").pack({**row, "sent_at": 12345})
    ends = (ASKER, ASKED) if kind == "PROBE_REQUEST" else (ASKED, ASKER)
    ethernet = Ether(src=ends[0], dst=ends[1], type=abi.value("PROBE_ETHERTYPE"))
    return ethernet / Raw(payload.ljust(size - 14, b"\xaa"))


def vni(tunnel: Tunnel) -> int:
    return tunnel.board.world.value("PROBE_VNI")


@pytest.mark.parametrize("size", [64, 1444])
@HOSTS
def test_a_request_is_answered_in_its_size(tunnel: Tunnel, host: Host, size: int) -> None:
    question = probe(tunnel, "PROBE_REQUEST", size, host=host.number)
    tunnel.write(host, vni(tunnel), question)
    answer = probe(tunnel, "PROBE_REPLY", size, host=HERE)
    tunnel.carries(host, vni(tunnel), answer, dont_fragment=True)
    assert tunnel.board.events.consume() == []


def test_the_answer_takes_the_way_of_the_question(tunnel: Tunnel) -> None:
    """Directly, even while packets for the host go through a relay."""
    other = Host(4, "10.99.0.4")
    tunnel.write(other, vni(tunnel), probe(tunnel, "PROBE_REQUEST", 100, host=other.number))
    answer = probe(tunnel, "PROBE_REPLY", 100, host=HERE)
    tunnel.carries(other, vni(tunnel), answer, dont_fragment=True)


def test_the_answer_through_a_relay_is_for_who_asked(tunnel: Tunnel) -> None:
    """The way there is the way back, whatever this host knows of the asker's own."""
    asker = Host(4, "10.99.0.4")
    question = probe(tunnel, "PROBE_REQUEST", 100, host=asker.number)
    tunnel.write(NEAR, vni(tunnel), question, number=HERE, bits=FORWARDED_ONCE)
    answer = probe(tunnel, "PROBE_REPLY", 100, host=HERE)
    tunnel.carries(NEAR, vni(tunnel), answer, number=asker.number, dont_fragment=True)


@HOSTS
def test_a_reply_is_told(tunnel: Tunnel, host: Host) -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    tunnel.write(host, vni(tunnel), probe(tunnel, "PROBE_REPLY", 200, host=host.number))
    (record,) = tunnel.board.events.consume()
    event: dict[str, Any] = tunnel.board.datapath.abi.codec("probe_event").unpack(record)
    assert before <= event.pop("time") <= time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    assert event == {
        "kind": tunnel.board.world.value("EVENT_PROBE"),
        "host": host.number,
        "sequence": 7,
        "length": 200,
        "sent_at": 12345,
        "vtep": mapped(host.vtep),
    }
    assert tunnel.read_all() == []


@pytest.mark.parametrize("vtep", STRANGE_VTEPS)
def test_a_stranger_gets_no_answer(tunnel: Tunnel, vtep: str) -> None:
    tunnel.write(vtep, vni(tunnel), probe(tunnel, "PROBE_REQUEST", 100))
    assert tunnel.dropped("DROP_UNKNOWN_VTEP") == 1
    assert tunnel.read_all() == []


def test_a_probe_that_is_none(tunnel: Tunnel) -> None:
    frame = Ether(src=ASKER, dst=ASKED, type=0x0800) / Raw(bytes(100))
    tunnel.write(FOREIGN, vni(tunnel), frame)
    assert tunnel.dropped("DROP_TUNNEL_MALFORMED") == 1


def test_a_probe_for_another_host_is_relayed(tunnel: Tunnel) -> None:
    """So that the way through a relay can be probed as well."""
    frame = probe(tunnel, "PROBE_REQUEST", 100)
    tunnel.write(NEAR, vni(tunnel), frame, number=SIX.number)
    tunnel.carries(SIX, vni(tunnel), frame, number=SIX.number, bits=FORWARDED_ONCE)


def test_a_relayed_probe_is_not_fragmented(tunnel: Tunnel) -> None:
    frame = probe(tunnel, "PROBE_REQUEST", 100)
    tunnel.write(SIX, vni(tunnel), frame, number=NEAR.number)
    tunnel.carries(
        NEAR, vni(tunnel), frame, number=NEAR.number, bits=FORWARDED_ONCE, dont_fragment=True
    )
