"""Probes on the wire, taken apart by scapy."""

from __future__ import annotations

import pytest
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN

from heddle.datapath.abi import Abi
from heddle.datapath.loader import OBJECTS
from heddle.datapath.probes import ProbeFrames

ABI = Abi.from_object(OBJECTS / "from_tunnel.bpf.o")
FRAMES = ProbeFrames(ABI)


@pytest.mark.parametrize("size", [100, 1450, 8950])
def test_request_has_the_size_of_the_packet_that_it_stands_for(size: int) -> None:
    envelope = VXLAN(FRAMES.request(7, 99, size))
    assert (envelope.flags, envelope.vni) == ("Instance", ABI.value("PROBE_VNI"))
    frame = bytes(envelope.payload)
    assert len(frame) == 14 + size
    assert Ether(frame).type == ABI.value("PROBE_ETHERTYPE")
    fields = ABI.codec("probe").unpack(frame[14:][: ABI.codec("probe").size])
    assert fields == {
        "kind": ABI.value("PROBE_REQUEST"),
        "host": 7,
        "sequence": 99,
        "length": 14 + size,
        "sent_at": 0,
    }


def test_smallest_request_has_room_for_the_question() -> None:
    envelope = VXLAN(FRAMES.request(7, 99, 0))
    assert len(bytes(envelope.payload)) == 14 + ABI.codec("probe").size


def test_host_behind_a_relay_stands_in_the_header() -> None:
    straight, relayed = VXLAN(FRAMES.request(7, 99, 0)), VXLAN(FRAMES.request(7, 99, 0, 0x1234))
    assert straight.flags == "Instance"
    assert (relayed.flags.Instance, relayed.flags.G, relayed.gpid) == (True, True, 0x1234)
