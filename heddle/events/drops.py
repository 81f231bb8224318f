"""Drop events of the data plane's ring buffer, typed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from heddle.datapath.abi import Abi
from heddle.datapath.addresses import address_text
from heddle.events.naming import device_name
from heddle.events.reasons import PREFIX
from heddle.events.summary import describe


@dataclass(frozen=True, slots=True)
class DropEvent:
    """One dropped frame; sampled, so not every drop makes one."""

    reason: str  # an enumerator of drop_reason without DROP_
    stage: str  # an enumerator of stage without STAGE_, lower case
    ifindex: int  # of the port whose rules or limits it broke
    device: str  # its name, empty when it is gone
    from_ifindex: int  # of the device it came from: a port's, or the tunnel's
    length: int  # bytes of the frame
    at: datetime
    frame: bytes  # its beginning
    network: int = 0  # VNI in the envelope of what came from another host
    vtep: str = ""  # and that host's address; empty: it came from a port

    @property
    def direction(self) -> str:
        """As the rules of the port in ``ifindex`` call it."""
        return "from_vm" if self.from_ifindex == self.ifindex else "to_vm"

    def as_json(self) -> dict[str, Any]:
        return {
            "at": self.at.isoformat(timespec="milliseconds"),
            "reason": self.reason,
            "stage": self.stage,
            "ifindex": self.ifindex,
            "device": self.device,
            "direction": self.direction,
            "from_ifindex": self.from_ifindex,
            "length": self.length,
            "summary": describe(self.frame),
            "frame": self.frame.hex(),
            **({"vtep": self.vtep, "vni": self.network} if self.vtep else {}),
        }


def drop_decoder(abi: Abi) -> Callable[[bytes], DropEvent]:
    """A function from ring-buffer records of kind EVENT_DROP to events."""
    codec = abi.codec("drop_event")
    reasons = {int(reason): reason.name.removeprefix(PREFIX) for reason in abi.enum("drop_reason")}
    stages = {int(s): s.name.removeprefix("STAGE_").lower() for s in abi.enum("stage")}

    def decode(record: bytes) -> DropEvent:
        fields = codec.unpack(record[: codec.size])
        return DropEvent(
            reason=reasons.get(fields["reason"], str(fields["reason"])),
            stage=stages.get(fields["stage"], str(fields["stage"])),
            ifindex=fields["ifindex"],
            device=device_name(fields["ifindex"]),
            from_ifindex=fields["from_ifindex"],
            length=fields["length"],
            at=_wall_clock(fields["time"]),
            frame=bytes(fields["frame"][: fields["captured"]]),
            network=fields["network"],
            vtep=address_text(fields["vtep"]) if any(fields["vtep"]) else "",
        )

    return decode


def _wall_clock(monotonic_ns: int) -> datetime:
    """When something happened that the kernel stamped with CLOCK_MONOTONIC."""
    age = time.monotonic_ns() - monotonic_ns
    return datetime.fromtimestamp((time.time_ns() - age) / 1e9, UTC)
