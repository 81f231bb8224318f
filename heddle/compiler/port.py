"""A port: its device, and what the data plane must know to serve it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from heddle.compiler.addresses import (
    NO_ADDRESS,
    NO_IPV4,
    is_ipv6,
    mac_bytes,
    mapped,
    mapped_prefix,
    packed,
)
from heddle.compiler.dependencies import View
from heddle.compiler.fragment import Fragment
from heddle.compiler.ra import advertising_subnet
from heddle.compiler.state import (
    AddressKey,
    CounterSlot,
    Device,
    EndpointRow,
    Link,
    MacKey,
    NeighborRow,
    PortRow,
    RowKey,
    SourcePrefixKey,
)
from heddle.compiler.subnet import SERVES_DHCP6
from heddle.compiler.symbols import ENDPOINT_PORT, port_flags
from heddle.intent.model import Ipv6Mode, Machine, Network, Port, Subnet
from heddle.intent.names import namespace_name, port_alias, tap_name, veth_name

_IFINDEX_BITS = 32


class Plug(NamedTuple):
    """What a port is plugged into."""

    network: Network
    machine: Machine


def plug_of(view: View, port: Port) -> Plug | None:
    """None when the port is another host's, or its network or machine is absent."""
    if port.host != view.host:
        return None
    network = view.network(port.network_id)
    machine = view.machine(port.machine_id)
    if network is None or machine is None or machine.host != view.host:
        return None
    return Plug(network, machine)


def device_of(port: Port, machine: Machine) -> Device:
    is_vm = machine.machine_kind == "vm"
    return Device(tap_name(port.id) if is_vm else veth_name(port.id))


def addresses_of(view: View, port: Port) -> Iterator[tuple[str, Subnet]]:
    """Fixed IPs with their subnets. One whose subnet is absent, or belongs to
    another network or family, is left out: the guard then drops what is sent
    from it."""
    for fixed_ip in port.fixed_ips:
        subnet = view.subnet(fixed_ip.subnet_id)
        if (
            subnet is not None
            and subnet.network_id == port.network_id
            and is_ipv6(subnet.cidr) == is_ipv6(fixed_ip.ip)
        ):
            yield fixed_ip.ip, subnet


def compile_port(view: View, port: Port) -> Fragment:
    plug = plug_of(view, port)
    if plug is None:
        return Fragment()
    device = view.device(port.id)
    fragment = Fragment(links={device: _link(port, plug, device)})
    rows = fragment.rows
    vni = plug.network.vni
    mac = mac_bytes(port.mac)
    addresses = list(addresses_of(view, port))
    rows[RowKey("ports", device)] = _port_row(view, port, plug, mac, addresses)
    rows[RowKey("macs", MacKey(vni, mac))] = EndpointRow(ENDPOINT_PORT, device)
    for address, _ in addresses:
        key = AddressKey(vni, mapped(address))
        rows[RowKey("addresses", key)] = NeighborRow(ENDPOINT_PORT, device, mac)
        for destination in view.routed_to(port.network_id, address):
            bits, prefix = mapped_prefix(destination)
            source = SourcePrefixKey(_IFINDEX_BITS + bits, device, prefix)
            # The value is the IP version: ::/0 holds every mapped IPv4 address.
            rows[RowKey("source_prefixes", source)] = 6 if is_ipv6(destination) else 4
    return fragment


def _port_row(
    view: View, port: Port, plug: Plug, mac: bytes, addresses: list[tuple[str, Subnet]]
) -> PortRow:
    first4 = next((pair for pair in addresses if not is_ipv6(pair[0])), None)
    first6 = next((pair for pair in addresses if is_ipv6(pair[0])), None)
    dhcp4 = first4 if first4 and first4[1].enable_dhcp else None
    dhcp6 = first6 if first6 and _serves_dhcp6(first6[1]) else None
    stateful = dhcp6 is not None and dhcp6[1].ipv6_mode is Ipv6Mode.STATEFUL
    device = view.device(port.id)
    return PortRow(
        network=plug.network.vni,
        flags=port_flags(
            peer=plug.machine.machine_kind == "container",
            dhcp4=dhcp4 is not None,
            dhcp6=dhcp6 is not None,
            ra=advertising_subnet(view, plug.network) is not None,
        ),
        counter_slot=CounterSlot(device),
        flood_next=view.successor(port.id),
        dhcp4_subnet=dhcp4[1].number if dhcp4 else 0,
        dhcp6_subnet=dhcp6[1].number if dhcp6 else 0,
        dhcp4_address=packed(dhcp4[0]) if dhcp4 else NO_IPV4,
        dhcp6_address=packed(dhcp6[0]) if dhcp6 and stateful else NO_ADDRESS,
        mac=mac,
        mtu=plug.network.mtu,
    )


def _serves_dhcp6(subnet: Subnet) -> bool:
    return subnet.enable_dhcp and subnet.ipv6_mode in SERVES_DHCP6


def _link(port: Port, plug: Plug, device: Device) -> Link:
    if plug.machine.machine_kind == "vm":
        return Link(
            name=device,
            alias=port_alias(port.id),
            mtu=plug.network.mtu,
            multiqueue=plug.machine.cpus > 1,
        )
    return Link(
        name=device,
        alias=port_alias(port.id),
        mtu=plug.network.mtu,
        namespace=namespace_name(plug.machine.name),
        peer=f"eth{port.nic}",
        peer_mac=port.mac,
    )
