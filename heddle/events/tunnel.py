"""What the data plane says of other hosts: answered probes, ports that came alive."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from heddle.datapath.abi import Abi
from heddle.datapath.addresses import address_text


@dataclass(frozen=True, slots=True)
class ProbeEvent:
    """A probe of the path to another host was answered. Times are in ns of this
    host's CLOCK_MONOTONIC."""

    host: int  # number of the host that answered
    sequence: int  # of the request
    length: int  # bytes of the frame in the envelope, both ways
    sent_at: int
    received_at: int
    vtep: str  # address that the answer came from

    @property
    def round_trip_ns(self) -> int:
        return self.received_at - self.sent_at


@dataclass(frozen=True, slots=True)
class ActiveEvent:
    """The machine of a port with PORT_STANDBY has sent its first frame here."""

    ifindex: int
    at: int  # ns of CLOCK_MONOTONIC


def probe_decoder(abi: Abi) -> Callable[[bytes], ProbeEvent]:
    """A function from ring-buffer records of kind EVENT_PROBE to events."""
    codec = abi.codec("probe_event")

    def decode(record: bytes) -> ProbeEvent:
        fields = codec.unpack(record[: codec.size])
        return ProbeEvent(
            host=fields["host"],
            sequence=fields["sequence"],
            length=fields["length"],
            sent_at=fields["sent_at"],
            received_at=fields["time"],
            vtep=address_text(fields["vtep"]),
        )

    return decode


def active_decoder(abi: Abi) -> Callable[[bytes], ActiveEvent]:
    """A function from ring-buffer records of kind EVENT_ACTIVE to events."""
    codec = abi.codec("active_event")

    def decode(record: bytes) -> ActiveEvent:
        fields = codec.unpack(record[: codec.size])
        return ActiveEvent(fields["ifindex"], fields["time"])

    return decode
