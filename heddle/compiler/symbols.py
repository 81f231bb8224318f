"""Enumerators of bpf/shared/abi.h that the compiler writes, by name."""

from __future__ import annotations

from itertools import compress, product

from heddle.compiler.state import Symbol
from heddle.intent.model import Direction

ENDPOINT_PORT = Symbol("endpoint_kind", ("ENDPOINT_PORT",))
ENDPOINT_ROUTER = Symbol("endpoint_kind", ("ENDPOINT_ROUTER",))
ENDPOINT_SERVICE = Symbol("endpoint_kind", ("ENDPOINT_SERVICE",))
ENDPOINT_REMOTE = Symbol("endpoint_kind", ("ENDPOINT_REMOTE",))

VTEP = Symbol("vtep_flag", ())
VTEP_FOREIGN = Symbol("vtep_flag", ("VTEP_FOREIGN",))

TUNNEL_NETWORK = Symbol("tunnel_network_flag", ())
TUNNEL_NETWORK_LEARNING = Symbol("tunnel_network_flag", ("TUNNEL_LEARN",))

ROUTE_CONNECTED = Symbol("route_kind", ("ROUTE_CONNECTED",))
ROUTE_VIA = Symbol("route_kind", ("ROUTE_VIA",))
ROUTE_BLACKHOLE = Symbol("route_kind", ("ROUTE_BLACKHOLE",))

DIRECTIONS = {
    Direction.FROM_VM: Symbol("direction", ("FROM_VM",)),
    Direction.TO_VM: Symbol("direction", ("TO_VM",)),
}
STATEFUL = Symbol("policy_group_flag", ())
STATELESS = Symbol("policy_group_flag", ("POLICY_STATELESS",))
PROTOCOL_ANY = Symbol("limits", ("PROTOCOL_ANY",))

STANDBY = "PORT_STANDBY"
_PORT_FLAGS = (
    "PORT_PEER",
    "PORT_DHCP4",
    "PORT_DHCP6",
    "PORT_RA",
    "PORT_OPEN",
    "PORT_SHAPED_TO_VM",
    "PORT_DSCP",
    STANDBY,
    "PORT_AWAY",
)

# All ports share these few objects.
_PORT_FLAG_SETS = {
    chosen: Symbol("port_flag", tuple(compress(_PORT_FLAGS, chosen)))
    for chosen in product((False, True), repeat=len(_PORT_FLAGS))
}


def port_flags(
    *,
    peer: bool,
    dhcp4: bool,
    dhcp6: bool,
    ra: bool,
    is_open: bool,
    shaped: bool,
    dscp: bool,
    standby: bool,
    away: bool,
) -> Symbol:
    """The bit set of ``enum port_flag``."""
    return _PORT_FLAG_SETS[peer, dhcp4, dhcp6, ra, is_open, shaped, dscp, standby, away]
