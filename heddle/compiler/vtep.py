"""A host: for itself the device of the overlay, for others where envelopes go."""

from __future__ import annotations

from heddle.compiler.addresses import ip_version, mapped
from heddle.compiler.dependencies import View
from heddle.compiler.fragment import Fragment
from heddle.compiler.state import (
    Device,
    RowKey,
    RowValue,
    ThisHostRow,
    Tunnel,
    TunnelSenderKey,
    VtepRow,
)
from heddle.compiler.symbols import VTEP, VTEP_FOREIGN
from heddle.errors import CompileError
from heddle.intent.model import EnvelopeWay, Host
from heddle.intent.names import TUNNEL, tunnel_alias

_TUNNEL = Device(TUNNEL)


def compile_host_object(view: View, host: Host) -> Fragment:
    """CompileError for a host that can't be reached, though it should be."""
    if host.name == view.host:
        return _this_host(view, host)
    own = view.own_vtep()
    if own is None or not _is_wanted(view, host):
        return Fragment()
    way = _way_to(view, host.name)
    via = host if way is None else view.host_named(way)
    for end in (host, via):
        _check_reachable(own, host, end)
    assert via is not None, "checked just now"
    rows: dict[RowKey, RowValue] = {
        RowKey("vteps", host.number): VtepRow(
            address=mapped(via.vtep),
            source=mapped(own.vtep),
            relayed_to=host.number if way is not None else 0,
            mtu=_proven_mtu(view, host.name),
            ip_version=ip_version(via.vtep),
            flags=VTEP_FOREIGN if host.foreign else VTEP,
        ),
        RowKey("tunnel_senders", TunnelSenderKey(mapped(host.vtep))): host.number,
    }
    return Fragment(rows=rows)


def _this_host(view: View, host: Host) -> Fragment:
    row = RowKey("this_host", 0)
    if not host.vtep:
        if view.has_peers():
            raise CompileError(
                f"host {host.name}: has no VTEP, so that no other host can be reached; set vtep "
                "in the [host] section of heddle.toml"
            )
        return Fragment(rows={row: ThisHostRow(host.number, 0)})
    version = ip_version(host.vtep)
    tunnel = Tunnel(
        udp_port=host.udp_port,
        vtep=host.vtep,
        alias=tunnel_alias(host.name),
        is_direct=host.envelopes is EnvelopeWay.DIRECT,
        groups=tuple(group for group in view.flood_groups() if ip_version(group) == version),
    )
    return Fragment(rows={row: ThisHostRow(host.number, _TUNNEL, host.udp_port)}, tunnel=tunnel)


def _is_wanted(view: View, host: Host) -> bool:
    """Whether envelopes may go there or come from there. In a large cluster: with
    the hosts of the needed networks, and with relays; a relay knows everybody."""
    if not host.vtep and not _must_be_reached(view, host):
        return False
    return view.knows_all_hosts() or _must_be_reached(view, host) or view.is_relay(view.host)


def _must_be_reached(view: View, host: Host) -> bool:
    return (
        view.is_peer(host.name)
        or view.path_to(host.name) is not None
        or view.is_relay(host.name)
        or view.is_relay_of_paths(host.name)
    )


def _way_to(view: View, name: str) -> str | None:
    """The relay; None: straight."""
    path = view.path_to(name)
    if path is not None:
        return None if path.relay == view.host else path.relay
    theirs, ours = view.detour_of(name), view.detour_of(view.host)
    if theirs is not None:
        return None if theirs.relay == view.host else theirs.relay
    return ours.relay if ours is not None and ours.relay != name else None


def _proven_mtu(view: View, name: str) -> int:
    path = view.path_to(name)
    return path.mtu if path is not None else 0


def _check_reachable(own: Host, host: Host, end: Host | None) -> None:
    """``end`` is the host or its relay."""
    who = f"host {host.name}: "
    who += "" if end is host else f"its relay {end.name} " if end else "its relay "
    if end is None:
        raise CompileError(f"{who}is not there; start its agent, or name another relay")
    if not end.vtep:
        what = "has no VTEP; set vtep in the [host] section of its heddle.toml"
    elif ip_version(end.vtep) != ip_version(own.vtep):
        what = f"has VTEP {end.vtep}, of another address family than {own.vtep} of this host"
        what += "; give both hosts one of the same family"
    elif end.udp_port != own.udp_port:
        what = f"uses UDP port {end.udp_port}, this host {own.udp_port}; set udp_port alike"
    else:
        return
    raise CompileError(f"{who}{what}")
