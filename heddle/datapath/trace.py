"""Follows one frame through the live program and tables.

The frame carries a mark by which the program knows it: it decides as for any
other, says what it decided, and changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from heddle.datapath.abi import Abi
from heddle.datapath.loader import Datapath, locked
from heddle.datapath.testrun import run

_TC_ACT_REDIRECT = 7  # linux/pkt_cls.h
_SLOT = 0  # the lock lets in one trace at a time


class Envelope(NamedTuple):
    """How a frame would be sent to another host."""

    host: int  # number of the host that has the receiver
    vtep: bytes  # underlay address that it is sent to, 16 bytes
    relay: int  # number of the host at that address, if it is another one; else 0


@dataclass(frozen=True, slots=True)
class Trace:
    """What a frame met. Enumerators are those of bpf/shared/abi.h."""

    decisions: list[tuple[IntEnum, IntEnum]]  # stage, decision; stages it did not reach left out
    verdict: int  # TC_ACT_*
    drop_reason: IntEnum | None
    to_ifindex: int  # 0: nowhere, or to many; with TUNNEL_ZONE: to another host
    envelope: Envelope | None  # to that host; None: it goes to none
    copies: int  # ports that would get a copy
    host_copies: int  # other hosts that would get a copy
    router: int  # number of the last router; 0: not routed
    to_network: int  # VNI in which it was delivered
    cached_ifindex: int  # where the flow table sends it; 0: nothing valid there
    route_bits: int  # prefix length of the route it took
    hops: int  # routers passed
    via: bytes | None  # next hop, 16 bytes
    blamed_ifindex: int  # of the port whose rules or limits it broke; 0: it broke none
    from_rule: int  # numbers of the rules that allow it at both ends; 0: none was needed
    to_rule: int
    connection_state: IntEnum | None  # before the packet; None: no connection is known
    frame_in: bytes
    frame_out: bytes

    @property
    def has_copies(self) -> bool:
        """Whether it goes to many."""
        return bool(self.copies or self.host_copies)

    @property
    def redirected(self) -> bool:
        """Whether ``frame_out`` goes to ``to_ifindex``: the frame, or an answer to it."""
        return self.verdict == _TC_ACT_REDIRECT

    def decision(self, stage: str) -> str | None:
        """Name of the decision of a stage (``"STAGE_ROUTE"``), None: not reached."""
        return next((d.name for s, d in self.decisions if s.name == stage), None)


def trace(datapath: Datapath, frame: bytes, ifindex: int, *, gso_size: int = 0) -> Trace:
    """Run a frame as if it came in at a device of this network namespace.

    KernelError when the kernel can't (no such device, a frame shorter than its IP header).
    """
    abi, records = datapath.abi, datapath.table("traces")
    codec, key = abi.codec("trace_record"), _SLOT.to_bytes(4, "little")
    with locked(datapath.host):
        records.put(key, bytes(records.value_size))
        mark = abi.value("TRACE_MARK") | _SLOT
        result = run(
            datapath.from_vm.fd,
            frame,
            ifindex=ifindex,
            mark=mark,
            gso_size=gso_size,
            gso_segments=-(-len(frame) // gso_size) if gso_size else 0,
        )
        record = codec.unpack(records.get(key) or bytes(codec.size))
    reason = abi.enum("drop_reason")(record["drop_reason"])
    return Trace(
        decisions=_decisions(datapath, record["decisions"]),
        verdict=result.verdict,
        drop_reason=reason or None,
        to_ifindex=record["to_ifindex"],
        envelope=_envelope(datapath, record["to_host"]),
        copies=record["copies"],
        host_copies=record["host_copies"],
        router=record["router"],
        to_network=record["to_network"],
        cached_ifindex=record["cached_ifindex"],
        route_bits=record["route_bits"],
        hops=record["hops"],
        via=record["via"] if any(record["via"]) else None,
        blamed_ifindex=record["blamed_ifindex"],
        from_rule=record["from_rule"],
        to_rule=record["to_rule"],
        connection_state=_connection_state(abi, record["connection_state"]),
        frame_in=frame,
        frame_out=result.frame,
    )


def _envelope(datapath: Datapath, host: int) -> Envelope | None:
    """By the way that is taken now; None as well when none is known."""
    key, value = datapath.abi.table_types("vteps")
    raw = datapath.table("vteps").get(key.pack(host)) if host else None
    if raw is None:
        return None
    row = value.unpack(raw)
    sender = datapath.table("tunnel_senders").get(row["address"]) if row["relayed_to"] else None
    relay = int.from_bytes(sender, "little") if sender else 0
    return Envelope(host, row["address"], relay)


def _connection_state(abi: Abi, number: int) -> IntEnum | None:
    """A record holds one more than the state, so that 0 can say that there is none."""
    return abi.enum("connection_state")(number - 1) if number else None


def _decisions(datapath: Datapath, numbers: tuple[int, ...]) -> list[tuple[IntEnum, IntEnum]]:
    stages, decisions = datapath.abi.enum("stage"), datapath.abi.enum("decision")
    return [(stages(i), decisions(number)) for i, number in enumerate(numbers) if number]
