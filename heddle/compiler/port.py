"""A port: its device, and what the data plane must know to serve it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from heddle.compiler.addresses import (
    NO_ADDRESS,
    NO_IPV4,
    ip_version,
    is_ipv6,
    mac_bytes,
    mapped,
    mapped_prefix,
    packed,
)
from heddle.compiler.dependencies import View
from heddle.compiler.fragment import Fragment
from heddle.compiler.members import memberships
from heddle.compiler.qos import Quality, quality_of
from heddle.compiler.ra import advertising_subnet
from heddle.compiler.roles import Role, role_of
from heddle.compiler.shared import Share
from heddle.compiler.state import (
    QUEUE,
    AddressKey,
    CounterSlot,
    Device,
    EndpointRow,
    Link,
    MacKey,
    NeighborRow,
    PortRow,
    RowKey,
    RowValue,
    Shaping,
    SourcePrefixKey,
)
from heddle.compiler.subnet import SERVES_DHCP6
from heddle.compiler.symbols import ENDPOINT_PORT, ENDPOINT_REMOTE, port_flags
from heddle.compiler.tallies import MEMBER
from heddle.intent.model import Ipv6Mode, Machine, Network, Port, Subnet
from heddle.intent.names import SHAPER, namespace_name, port_alias, tap_name, veth_name

_SENDER_BITS = 96  # ifindex, MAC and padding
_SHAPER = Device(SHAPER)
_LINK_LOCAL = "fe80::/10"
_NOBODY = 0  # in place of the IP version
# Frames that wait for a VM on its way, on both hosts: it stands still, and QEMU lets an
# emulated one wait for a second when it begins to look for changed pages, and is slow for
# seconds when it has come. They take 32 KB of the kernel's memory per link.
_MOVING_QUEUE = 4000


class Plug(NamedTuple):
    """What a port is plugged into, and what this host is for it."""

    network: Network
    machine: Machine
    role: Role


def plug_of(view: View, port: Port) -> Plug | None:
    """None when the port is another host's alone, or its network or machine is
    absent. Containers are never moved while they run."""
    role = role_of(port, view.host)
    if role is None:
        return None
    network = view.network(port.network_id)
    machine = view.machine(port.machine_id)
    if network is None or machine is None or role_of(machine, view.host) is not role:
        return None
    if role is not Role.HOME and machine.machine_kind != "vm":
        return None
    return Plug(network, machine, role)


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
    """The part that a port has in sets of addresses, and where it is, on every
    host that can reach it; all the rest on its own."""
    fragment = Fragment(shares=dict.fromkeys([*memberships(view, port), *_openness(view, port)]))
    plug = plug_of(view, port)
    if plug is None:
        if port.host != view.host:
            fragment.rows.update(_remote_rows(view, port))
        return fragment
    device = view.device(port.id)
    quality = quality_for(view, port)
    fragment.links[device] = link_of(port, plug, device, quality.shaping)
    rows = fragment.rows
    vni = plug.network.vni
    mac = mac_bytes(port.mac)
    addresses = list(addresses_of(view, port))
    rows[RowKey("ports", device)] = _port_row(view, port, plug, addresses, quality)
    rows[RowKey("macs", MacKey(vni, mac))] = EndpointRow(ENDPOINT_PORT, device)
    for address, _ in addresses:
        key = AddressKey(vni, mapped(address))
        rows[RowKey("addresses", key)] = NeighborRow(ENDPOINT_PORT, device, mac)
    rows.update(_source_rows(view, port, device, [address for address, _ in addresses]))
    return fragment


def _openness(view: View, port: Port) -> Iterator[Share]:
    """Others may be behind a port without port security, wherever it is: what nobody
    known has in its network is flooded to such ports."""
    if port.port_security or not view.is_needed(port.network_id):
        return
    network = view.network(port.network_id)
    if network is not None:
        yield Share(RowKey("open_networks", network.vni), MEMBER)


def _remote_rows(view: View, port: Port) -> Iterator[tuple[RowKey, RowValue]]:
    """Which host has the port."""
    network = view.network(port.network_id) if view.is_needed(port.network_id) else None
    if network is None:
        return
    mac, number = mac_bytes(port.mac), view.host_number(port.host)
    yield RowKey("macs", MacKey(network.vni, mac)), EndpointRow(ENDPOINT_REMOTE, number)
    for address, _ in addresses_of(view, port):
        key = RowKey("addresses", AddressKey(network.vni, mapped(address)))
        yield key, NeighborRow(ENDPOINT_REMOTE, number, mac)


def _elsewhere(view: View, port: Port, role: Role) -> tuple[Role, int]:
    """What this host is for the port now, and the number of the host where its
    machine runs meanwhile. Of a machine on its way it is told where it runs."""
    presence = view.presence_of(port.machine_id) if port.migrating_to else None
    if presence is not None and role is Role.STANDBY and presence.here:
        role = Role.HOME
    if presence is not None and role is Role.HOME and not presence.here:
        return Role.AWAY, view.host_number(port.migrating_to)
    return role, 0 if role is Role.HOME else view.host_number(port.host)


def _source_rows(
    view: View, port: Port, device: Device, addresses: list[str]
) -> dict[RowKey, RowValue]:
    """What the port may send from besides its addresses. Link-local addresses are
    never routed (RFC 4291 2.5.6): a default route does not let its next hop speak
    for its neighbors, only a pair does."""
    mac = mac_bytes(port.mac)
    link_local, _ = _source(device, mac, _LINK_LOCAL)
    rows: dict[RowKey, RowValue] = {}
    for address in addresses:
        for destination in view.routed_to(port.network_id, address):
            rows.update([_source(device, mac, destination)])
            if _covers_link_local(destination):
                rows[link_local] = _NOBODY
    for pair in port.address_pairs:
        sender = mac_bytes(pair.mac) if pair.mac else mac
        rows.update([_source(device, sender, pair.cidr)])
        if sender == mac and _covers_link_local(pair.cidr):
            rows[link_local] = ip_version(_LINK_LOCAL)
    return rows


def _covers_link_local(cidr: str) -> bool:
    (bits, prefix), (own_bits, link_local) = mapped_prefix(cidr), mapped_prefix(_LINK_LOCAL)
    shift = 8 * len(prefix) - bits
    return (
        bits <= own_bits and int.from_bytes(prefix) >> shift == int.from_bytes(link_local) >> shift
    )


def _source(device: Device, mac: bytes, cidr: str) -> tuple[RowKey, int]:
    """What a port may send from; the value is the IP version: ::/0 holds every
    mapped IPv4 address."""
    bits, prefix = mapped_prefix(cidr)
    key = SourcePrefixKey(_SENDER_BITS + bits, device, mac, prefix)
    return RowKey("source_prefixes", key), ip_version(cidr)


def _port_row(
    view: View,
    port: Port,
    plug: Plug,
    addresses: list[tuple[str, Subnet]],
    quality: Quality,
) -> PortRow:
    first4 = next((pair for pair in addresses if not is_ipv6(pair[0])), None)
    first6 = next((pair for pair in addresses if is_ipv6(pair[0])), None)
    dhcp4 = first4 if first4 and first4[1].enable_dhcp else None
    dhcp6 = first6 if first6 and _serves_dhcp6(first6[1]) else None
    stateful = dhcp6 is not None and dhcp6[1].ipv6_mode is Ipv6Mode.STATEFUL
    device = view.device(port.id)
    groups = _groups(view, port)
    role, elsewhere = _elsewhere(view, port, plug.role)
    return PortRow(
        network=plug.network.vni,
        flags=port_flags(
            peer=plug.machine.machine_kind == "container",
            dhcp4=dhcp4 is not None,
            dhcp6=dhcp6 is not None,
            ra=advertising_subnet(view, plug.network) is not None,
            is_open=not port.port_security,
            shaped=quality.is_shaped_to_vm,
            dscp=quality.dscp is not None,
            standby=role is Role.STANDBY,
            away=role is Role.AWAY,
        ),
        counter_slot=CounterSlot(device),
        flood_next=view.successor(port.id),
        dhcp4_subnet=dhcp4[1].number if dhcp4 else 0,
        dhcp6_subnet=dhcp6[1].number if dhcp6 else 0,
        dhcp4_address=packed(dhcp4[0]) if dhcp4 else NO_IPV4,
        dhcp6_address=packed(dhcp6[0]) if dhcp6 and stateful else NO_ADDRESS,
        mac=mac_bytes(port.mac),
        mtu=plug.network.mtu,
        shaper=_SHAPER if quality.is_shaped_from_vm else 0,
        from_vm_packet_ns=quality.from_vm_packet_ns,
        to_vm_packet_ns=quality.to_vm_packet_ns,
        packet_burst=quality.packet_burst,
        connections_max=port.connections_max,
        dscp=quality.dscp or 0,
        group_count=len(groups),
        groups=groups,
        elsewhere=elsewhere,
    )


def _groups(view: View, port: Port) -> tuple[int, ...]:
    """Numbers of the port's security groups, ascending; one that is absent allows
    nothing. A port without port security stands under none."""
    if not port.port_security:
        return ()
    found = {view.group_number(group_id) for group_id in port.security_group_ids}
    return tuple(sorted(number for number in found if number is not None))


def _serves_dhcp6(subnet: Subnet) -> bool:
    return subnet.enable_dhcp and subnet.ipv6_mode in SERVES_DHCP6


def quality_for(view: View, port: Port) -> Quality:
    return quality_of(view.qos_policy(port.qos_policy_id) if port.qos_policy_id else None)


def link_of(port: Port, plug: Plug, device: Device, shaping: Shaping) -> Link:
    """A TAP, or a veth into the container's namespace."""
    if plug.machine.machine_kind == "vm":
        return Link(
            name=device,
            alias=port_alias(port.id),
            mtu=plug.network.mtu,
            multiqueue=plug.machine.cpus > 1,
            shaping=shaping,
            queue=_MOVING_QUEUE if port.migrating_to or port.moved_from else QUEUE,
        )
    return Link(
        name=device,
        alias=port_alias(port.id),
        mtu=plug.network.mtu,
        namespace=namespace_name(plug.machine.name),
        peer=f"eth{port.nic}",
        peer_mac=port.mac,
        shaping=shaping,
    )
