"""How a packet's way through the stages ends, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Verdict(Enum):
    DELIVERED = "delivered"  # to one port
    FLOODED = "flooded"  # a copy to each port of the network that may get it
    ANSWERED = "answered"  # by heddle itself
    CONSUMED = "consumed"  # taken note of, nothing to send
    DROPPED = "dropped"  # perhaps with an ICMP error to the sender


@dataclass(frozen=True)
class Blame:
    """A drop is counted at the port whose rules or limits the packet broke."""

    port: str
    reason: str


@dataclass(frozen=True)
class Outcome:
    """``deliveries``: who gets what, an answer or ICMP error to the sender
    included; machines behind foreign VTEPs count as one, their host. ``drops``: all
    that is counted; a flooded packet may have several. ``questions``: what a router
    asks foreign hosts, the packet being dropped."""

    verdict: Verdict
    deliveries: tuple[tuple[str, bytes], ...] = ()
    drops: tuple[Blame, ...] = ()
    questions: tuple[tuple[str, bytes], ...] = ()

    @property
    def reason(self) -> str | None:
        """Why the packet as a whole went no further."""
        return self.drops[0].reason if self.verdict is Verdict.DROPPED else None


class End(Exception):  # noqa: N818 - the normal end of most packets is no error
    """The packet's way ends here."""


@dataclass(frozen=True)
class IcmpError:
    """What the sender is told: type and code, and the MTU if that was too small."""

    icmp_type: int
    code: int
    mtu: int = 0


class Dropped(End):
    def __init__(self, reason: str, tell: IcmpError | None = None, port: str | None = None) -> None:
        super().__init__(reason)
        self.reason = "DROP_" + reason
        self.tell = tell
        self.port = port  # None: the sender


class Answered(End):
    """The frame goes back to the sender."""

    def __init__(self, frame: bytes) -> None:
        super().__init__()
        self.frame = frame


class Consumed(End):
    pass
