"""Host states in small: ports of two networks, as the compiler makes them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from heddle.compiler.state import (
    QUEUE,
    UNSHAPED,
    AddressKey,
    CounterSlot,
    Device,
    EndpointRow,
    HostDelta,
    HostState,
    Link,
    MacKey,
    NeighborRow,
    PortRow,
    RouterInterfaceKey,
    RouterInterfaceRow,
    RowKey,
    Shaping,
    SourcePrefixKey,
    Symbol,
    TunnelNetworkRow,
)
from heddle.intent.names import SHAPER

ENDPOINT_PORT = Symbol("endpoint_kind", ("ENDPOINT_PORT",))
NO_FLAGS = Symbol("port_flag", ())


class Plug(NamedTuple):
    """A port: its number, network, and what it is plugged into."""

    number: int
    network: int = 7
    container: bool = False
    multiqueue: bool = False
    mtu: int = 1450
    queue: int = QUEUE
    routed: bool = False  # it may send from 10.9.0.0/16 as well
    shaping: Shaping = UNSHAPED
    owner: int = 0  # number of the container, where it is not that of the port

    @property
    def device(self) -> Device:
        return Device(f"{'hdl' if self.container else 'tap'}{self.number:011d}")

    @property
    def mac(self) -> bytes:
        return bytes.fromhex("fa163e") + self.number.to_bytes(3, "big")

    @property
    def namespace(self) -> str:
        return f"heddle-c{self.owner or self.number}"

    @property
    def link(self) -> Link:
        alias = f"heddle:port:{self.number}"
        if not self.container:
            return Link(
                self.device,
                alias,
                self.mtu,
                multiqueue=self.multiqueue,
                shaping=self.shaping,
                queue=self.queue,
            )
        return Link(
            self.device,
            alias,
            self.mtu,
            namespace=self.namespace,
            peer="eth0",
            peer_mac=self.mac.hex(":"),
            shaping=self.shaping,
        )


def host_state(plugs: Iterable[Plug]) -> HostState:
    """What a host with these ports must have."""
    state = HostState()
    ordered = sorted(plugs)
    for plug in ordered:
        _add_port(state, plug, _successor(plug, ordered))
    for network in {plug.network for plug in ordered}:
        key = RowKey("router_interfaces", RouterInterfaceKey(1, network))
        state.rows[key] = RouterInterfaceRow(bytes(6), 1450, bytes(16), bytes(16))
        first = next(plug.device for plug in ordered if plug.network == network)
        state.rows[RowKey("tunnel_networks", network)] = TunnelNetworkRow(first, 0, 1450, NO_FLAGS)
    return state


def port_row(state: HostState, plug: Plug) -> PortRow:
    row = state.rows[RowKey("ports", plug.device)]
    assert isinstance(row, PortRow)
    return row


def delta_between(before: HostState, after: HostState) -> HostDelta:
    """What turns one state into the other; all networks are touched."""
    delta = HostDelta()
    for name in before.links.keys() | after.links.keys():
        if before.links.get(name) != after.links.get(name):
            delta.links[name] = after.links.get(name)
    for row in before.rows.keys() | after.rows.keys():
        if before.rows.get(row) != after.rows.get(row):
            delta.rows[row] = after.rows.get(row)
    for name in before.namespaces ^ after.namespaces:
        delta.namespaces[name] = name in after.namespaces
    if before.tunnel != after.tunnel:
        delta.tunnel, delta.tunnel_changed = after.tunnel, True
    states = (before, after)
    delta.touched = {
        row.network for state in states for row in state.rows.values() if isinstance(row, PortRow)
    }
    return delta


def _successor(plug: Plug, ordered: list[Plug]) -> Device:
    ring = [other for other in ordered if other.network == plug.network]
    return ring[(ring.index(plug) + 1) % len(ring)].device


def _add_port(state: HostState, plug: Plug, flood_next: Device) -> None:
    device = plug.device
    address = bytes(10) + b"\xff\xff\x0a\x00\x00" + bytes([plug.number])
    state.links[device] = plug.link
    if plug.container:
        state.namespaces.add(plug.namespace)
    state.rows[RowKey("ports", device)] = PortRow(
        network=plug.network,
        flags=NO_FLAGS,
        counter_slot=CounterSlot(device),
        flood_next=flood_next,
        dhcp4_subnet=0,
        dhcp6_subnet=0,
        dhcp4_address=address[12:],
        dhcp6_address=bytes(16),
        mac=plug.mac,
        mtu=plug.mtu,
        shaper=Device(SHAPER) if plug.shaping.from_vm or plug.shaping.minimum else 0,
    )
    mac_row = RowKey("macs", MacKey(plug.network, plug.mac))
    state.rows[mac_row] = EndpointRow(ENDPOINT_PORT, device)
    address_row = RowKey("addresses", AddressKey(plug.network, address))
    state.rows[address_row] = NeighborRow(ENDPOINT_PORT, device, plug.mac)
    if plug.routed:
        prefix = bytes(10) + b"\xff\xff\x0a\x09\x00\x00"
        source = SourcePrefixKey(96 + 96 + 16, device, plug.mac, prefix)
        state.rows[RowKey("source_prefixes", source)] = 4
