"""Quality of service of a port, as its row and its link say it."""

from __future__ import annotations

from typing import NamedTuple

from heddle.compiler.state import UNSHAPED, Rate, Shaping
from heddle.intent.model import BandwidthLimit, PacketRateLimit, QosPolicy

_NS_PER_SECOND = 1_000_000_000


class Quality(NamedTuple):
    """``packet_ns``: a packet each so many ns, 0: no limit."""

    shaping: Shaping = UNSHAPED
    from_vm_packet_ns: int = 0
    to_vm_packet_ns: int = 0
    packet_burst: int = 0
    dscp: int | None = None

    @property
    def is_shaped_from_vm(self) -> bool:
        return self.shaping.from_vm is not None or self.shaping.minimum > 0

    @property
    def is_shaped_to_vm(self) -> bool:
        return self.shaping.to_vm is not None


def quality_of(policy: QosPolicy | None) -> Quality:
    """Without a policy nothing is limited. A port has one burst of packets for both
    directions: the larger."""
    if policy is None:
        return Quality()
    from_vm, to_vm = policy.packet_rate_from_vm, policy.packet_rate_to_vm
    return Quality(
        shaping=Shaping(
            from_vm=_rate(policy.bandwidth_from_vm),
            to_vm=_rate(policy.bandwidth_to_vm),
            minimum=policy.minimum_bandwidth or 0,
        ),
        from_vm_packet_ns=_packet_ns(from_vm),
        to_vm_packet_ns=_packet_ns(to_vm),
        packet_burst=max((limit.burst for limit in (from_vm, to_vm) if limit), default=0),
        dscp=policy.dscp,
    )


def _rate(limit: BandwidthLimit | None) -> Rate | None:
    return None if limit is None else Rate(limit.rate, limit.burst)


def _packet_ns(limit: PacketRateLimit | None) -> int:
    """Rounded up, so that the limit is kept."""
    return 0 if limit is None else -(-_NS_PER_SECOND // limit.rate)
