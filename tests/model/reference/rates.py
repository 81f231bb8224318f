"""How much a port may send and get: a bucket that fills as time goes by."""

from __future__ import annotations

from reference import wire
from reference.packet import Packet

FLOOD_UNITS_PER_SECOND = 100_000
BROADCAST_UNITS, MULTICAST_UNITS = 100, 10


class Pace:
    """A rate as the time up to which it is used up (GCRA, ITU-T I.371): ``ahead``
    is how far beyond now that may be, in seconds."""

    def __init__(self) -> None:
        self._until = 0.0

    def may_take(self, now: float, seconds: float, burst: float) -> bool:
        """Take a packet that uses up so many seconds, if the burst allows it."""
        idle = self._until <= now
        if not idle and self._until + seconds > now + burst * seconds:
            return False
        self.take(now, seconds)
        return True

    def take(self, now: float, seconds: float) -> None:
        self._until = max(self._until, now) + seconds

    def is_within(self, now: float, ahead: float) -> bool:
        return self._until <= now + ahead


def flood_seconds(packet: Packet, copies: int) -> float:
    """What a flooded packet uses up of the sender's budget."""
    own = BROADCAST_UNITS if packet.destination_mac == wire.BROADCAST else MULTICAST_UNITS
    return (own + copies) / FLOOD_UNITS_PER_SECOND
