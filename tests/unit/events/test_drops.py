"""Records of the ring buffer, decoded with the layout of the compiled object."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from heddle.datapath.abi import Abi
from heddle.datapath.loader import OBJECT
from heddle.events.drops import drop_decoder


@pytest.fixture(scope="module")
def abi() -> Abi:
    return Abi.from_object(OBJECT)


def test_a_record_becomes_an_event(abi: Abi) -> None:
    """Broken at the receiver: lo here, while the sender is no device."""
    frame = bytes(range(60))
    record = abi.codec("drop_event").pack(
        {
            "kind": abi.value("EVENT_DROP"),
            "reason": abi.value("DROP_POLICY_TO_VM"),
            "stage": abi.value("STAGE_POLICY"),
            "ifindex": 1,
            "from_ifindex": 1 << 30,
            "length": 1500,
            "time": time.monotonic_ns(),
            "captured": len(frame),
            "frame": frame,
        }
    )
    event = drop_decoder(abi)(record)
    assert (event.reason, event.stage, event.device) == ("POLICY_TO_VM", "policy", "lo")
    assert (event.direction, event.as_json()["from_ifindex"]) == ("to_vm", 1 << 30)
    assert (event.length, event.frame) == (1500, frame)
    assert abs((datetime.now(UTC) - event.at).total_seconds()) < 60
    assert event.as_json()["frame"] == frame.hex()
