"""Where switch and route send a packet. Policy still has to agree."""

from __future__ import annotations

from dataclasses import dataclass

from heddle.intent.model import Network, Port
from reference import wire
from reference.ends import Dropped
from reference.topology import Gateway


@dataclass(kw_only=True)
class Way:
    """``network``: in which the other end is, None: unknown. ``speaker``: the
    last router, None: not routed. ``hops``: routers passed. ``drop``: it goes no
    further, and its sender shall be told so; policy asks first whether it may
    send such a packet at all."""

    network: Network | None
    speaker: Gateway | None = None
    hops: int = 0
    drop: Dropped | None = None


@dataclass(kw_only=True)
class ToPort(Way):
    """``macs``: destination and source as they will be, None: as they are."""

    port: Port
    macs: bytes | None = None


@dataclass(kw_only=True)
class Flood(Way):
    """To every other port of the network, or of those alone that have no port
    security: whom nobody knows may be behind them."""

    only_open: bool = False


@dataclass(kw_only=True)
class Serve(Way):
    """To an address of heddle's own."""


@dataclass(frozen=True)
class Wanted:
    """A neighbor that a router does not know, and its own side of that network."""

    asker: Gateway
    address: wire.IpAddress


@dataclass(kw_only=True)
class Nowhere(Way):
    """There is only the reason why not. ``wanted``: who may be behind a foreign VTEP."""

    wanted: Wanted | None = None
