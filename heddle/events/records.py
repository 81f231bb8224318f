"""Records of the data plane's ring buffer, by kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from heddle.datapath.abi import Abi
from heddle.events.drops import DropEvent, drop_decoder
from heddle.events.tunnel import ActiveEvent, ProbeEvent, active_decoder, probe_decoder

Event: TypeAlias = DropEvent | ProbeEvent | ActiveEvent


def event_decoder(abi: Abi) -> Callable[[bytes], Event]:
    """A function from ring-buffer records to events."""
    decoders: dict[int, Callable[[bytes], Event]] = {
        abi.value("EVENT_DROP"): drop_decoder(abi),
        abi.value("EVENT_PROBE"): probe_decoder(abi),
        abi.value("EVENT_ACTIVE"): active_decoder(abi),
    }

    def decode(record: bytes) -> Event:
        return decoders[int.from_bytes(record[:4], "little")](record)

    return decode
