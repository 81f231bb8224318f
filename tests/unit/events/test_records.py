"""Records of the ring buffer by kind, and what the tunnel's tell."""

from __future__ import annotations

import ipaddress

import pytest

from heddle.datapath.abi import Abi
from heddle.datapath.loader import OBJECT
from heddle.events.drops import DropEvent
from heddle.events.records import event_decoder
from heddle.events.tunnel import ActiveEvent, ProbeEvent


@pytest.fixture(scope="module")
def abi() -> Abi:
    return Abi.from_object(OBJECT)


@pytest.mark.parametrize("vtep", ["::ffff:10.99.0.2", "fd99::3"])
def test_an_answered_probe(abi: Abi, vtep: str) -> None:
    record = abi.codec("probe_event").pack(
        {
            "kind": abi.value("EVENT_PROBE"),
            "host": 3,
            "sequence": 17,
            "length": 1514,
            "sent_at": 1000,
            "time": 51000,
            "vtep": ipaddress.IPv6Address(vtep).packed,
        }
    )
    event = event_decoder(abi)(record)
    assert event == ProbeEvent(3, 17, 1514, 1000, 51000, vtep.removeprefix("::ffff:"))
    assert event.round_trip_ns == 50000


def test_a_port_that_came_alive(abi: Abi) -> None:
    record = abi.codec("active_event").pack(
        {"kind": abi.value("EVENT_ACTIVE"), "ifindex": 7, "time": 99}
    )
    assert event_decoder(abi)(record) == ActiveEvent(7, 99)


def test_a_drop_of_another_hosts_packet(abi: Abi) -> None:
    record = abi.codec("drop_event").pack(
        {
            "kind": abi.value("EVENT_DROP"),
            "reason": abi.value("DROP_UNKNOWN_VNI"),
            "stage": abi.value("STAGE_TUNNEL"),
            "network": 1001,
            "vtep": ipaddress.IPv6Address("::ffff:10.99.0.2").packed,
        }
    )
    event = event_decoder(abi)(record)
    assert isinstance(event, DropEvent)
    assert (event.as_json()["vtep"], event.as_json()["vni"]) == ("10.99.0.2", 1001)
