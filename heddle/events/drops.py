"""Drop events of the data plane's ring buffer, typed."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from heddle.datapath.abi import Abi
from heddle.events.reasons import PREFIX
from heddle.events.summary import describe


@dataclass(frozen=True, slots=True)
class DropEvent:
    """One dropped frame; sampled, so not every drop makes one."""

    reason: str  # an enumerator of drop_reason without DROP_
    stage: str  # an enumerator of stage without STAGE_, lower case
    ifindex: int  # of the port that sent it
    device: str  # its name, empty when it is gone
    length: int  # bytes of the frame
    at: datetime
    frame: bytes  # its beginning

    def as_json(self) -> dict[str, Any]:
        return {
            "at": self.at.isoformat(timespec="milliseconds"),
            "reason": self.reason,
            "stage": self.stage,
            "ifindex": self.ifindex,
            "device": self.device,
            "length": self.length,
            "summary": describe(self.frame),
            "frame": self.frame.hex(),
        }


def drop_decoder(abi: Abi) -> Callable[[bytes], DropEvent]:
    """A function from ring-buffer records to events."""
    codec = abi.codec("drop_event")
    reasons = {int(reason): reason.name.removeprefix(PREFIX) for reason in abi.enum("drop_reason")}
    stages = {int(s): s.name.removeprefix("STAGE_").lower() for s in abi.enum("stage")}

    def decode(record: bytes) -> DropEvent:
        fields = codec.unpack(record[: codec.size])
        return DropEvent(
            reason=reasons.get(fields["reason"], str(fields["reason"])),
            stage=stages.get(fields["stage"], str(fields["stage"])),
            ifindex=fields["ifindex"],
            device=_device(fields["ifindex"]),
            length=fields["length"],
            at=_wall_clock(fields["time"]),
            frame=bytes(fields["frame"][: fields["captured"]]),
        )

    return decode


def _device(ifindex: int) -> str:
    with contextlib.suppress(OSError):
        return socket.if_indextoname(ifindex)
    return ""


def _wall_clock(monotonic_ns: int) -> datetime:
    """When something happened that the kernel stamped with CLOCK_MONOTONIC."""
    age = time.monotonic_ns() - monotonic_ns
    return datetime.fromtimestamp((time.time_ns() - age) / 1e9, UTC)
