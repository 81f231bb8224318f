"""Who is where: questions to the objects of intent, answered by looking at them.

Answers are computed once per topology, since intent does not change under a
packet's feet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from heddle.intent.model import (
    AddressGroup,
    AddressGroupEntry,
    AnyResource,
    Ipv6Mode,
    Machine,
    Network,
    Port,
    QosPolicy,
    Router,
    RouterInterface,
    SecurityGroup,
    SecurityGroupRule,
    Subnet,
)
from heddle.intent.names import derived_mac
from reference import wire


@dataclass(frozen=True)
class Service:
    """heddle itself, at the gateway address of a subnet that no router serves."""

    subnet: Subnet


@dataclass(frozen=True)
class Gateway:
    """A router's side of a network."""

    router: Router
    interface: RouterInterface

    @property
    def mac(self) -> bytes:
        return wire.mac(self.interface.mac)

    def address(self, version: int) -> wire.IpAddress | None:
        """With which it speaks there; its link-local one for want of another."""
        own = [a for a in map(wire.address, self.interface.addresses) if a.version == version]
        if own:
            return own[0]
        return wire.link_local(self.mac) if version == 6 else None


Endpoint = Port | Gateway | Service


@dataclass(frozen=True)
class Connected:
    """The router has an address in this subnet."""

    network: Network


@dataclass(frozen=True)
class Via:
    network: Network
    nexthop: wire.IpAddress


@dataclass(frozen=True)
class Blackhole:
    pass


RouteTarget = Connected | Via | Blackhole


class Topology:
    """The objects of one host, all of them whole and at peace with each other.
    ``behind``: machines behind foreign VTEPs, as ports without port security; what
    intent says of them stands in the networks."""

    def __init__(self, objects: Iterable[AnyResource], behind: Iterable[Port] = ()) -> None:
        self.objects = list(objects)
        self.behind = {port.id: port for port in behind}
        self.networks = {o.id: o for o in self.objects if isinstance(o, Network)}
        self.subnets = {o.id: o for o in self.objects if isinstance(o, Subnet)}
        self.ports = {o.id: o for o in self.objects if isinstance(o, Port)}
        self.routers = [o for o in self.objects if isinstance(o, Router)]
        self.machines = {o.id: o for o in self.objects if isinstance(o, Machine)}
        self.groups = {o.id: o for o in self.objects if isinstance(o, SecurityGroup)}
        self.rules = [o for o in self.objects if isinstance(o, SecurityGroupRule)]
        self.address_groups = {o.id: o for o in self.objects if isinstance(o, AddressGroup)}
        self.entries = [o for o in self.objects if isinstance(o, AddressGroupEntry)]
        self.policies = {o.id: o for o in self.objects if isinstance(o, QosPolicy)}

    # ---- networks ------------------------------------------------------------

    def subnets_of(self, network: Network) -> list[Subnet]:
        """In the order of their ids."""
        own = (s for s in self.subnets.values() if s.network_id == network.id)
        return sorted(own, key=lambda subnet: subnet.id)

    def ports_of(self, network: Network) -> list[Port]:
        return [port for port in self.ports.values() if port.network_id == network.id]

    def has_open_ports(self, network: Network) -> bool:
        return any(not port.port_security for port in self.ports_of(network))

    def learns(self, network: Network) -> bool:
        """Are there foreign members of which only their frames tell?"""
        return any(member.learn for member in network.foreign_members)

    def asks_unknown(self, network: Network) -> bool:
        """May somebody have what nobody known has?"""
        return self.has_open_ports(network) or self.learns(network)

    def end(self, port_id: str) -> Port | None:
        """A port, or a machine behind a foreign VTEP."""
        return self.ports.get(port_id) or self.behind.get(port_id)

    def _named(self, port: Port) -> list[wire.IpAddress] | None:
        """Addresses that intent gives a machine behind a foreign VTEP; None: it does
        not know its MAC."""
        for member in self.network_of(port).foreign_members:
            for named in member.macs:
                if named.mac == port.mac:
                    return [wire.address(named.address)] if named.address else []
        return None

    def gateways_of(self, network: Network) -> Iterator[Gateway]:
        for router in self.routers:
            for interface in router.interfaces:
                if interface.network_id == network.id:
                    yield Gateway(router, interface)

    def gateway_of(self, subnet: Subnet) -> Gateway | None:
        """The router that has the subnet's gateway address."""
        for gateway in self.gateways_of(self.networks[subnet.network_id]):
            if subnet.gateway_ip in gateway.interface.addresses:
                return gateway
        return None

    def server_mac(self, subnet: Subnet) -> bytes:
        """Whose MAC the subnet's DHCP has."""
        gateway = self.gateway_of(subnet)
        return gateway.mac if gateway else wire.mac(derived_mac("service", subnet.id))

    # ---- who has a MAC, an address ---------------------------------------------

    def with_mac(self, network: Network, mac: bytes) -> Endpoint | None:
        return self._macs.get((network.id, mac))

    def with_address(self, network: Network, address: wire.IpAddress) -> Endpoint | None:
        """By intent; link-local addresses belong to nobody here."""
        return self._addresses.get((network.id, address))

    def mac_of(self, endpoint: Endpoint) -> bytes:
        if isinstance(endpoint, Service):
            return self.server_mac(endpoint.subnet)
        return endpoint.mac if isinstance(endpoint, Gateway) else wire.mac(endpoint.mac)

    @cached_property
    def _macs(self) -> dict[tuple[str, bytes], Endpoint]:
        return {(n, self.mac_of(endpoint)): endpoint for n, _, endpoint in self._holders()}

    @cached_property
    def _addresses(self) -> dict[tuple[str, wire.IpAddress], Endpoint]:
        return {
            (n, address): endpoint
            for n, addresses, endpoint in self._holders()
            for address in addresses
        }

    def _holders(self) -> Iterator[tuple[str, list[wire.IpAddress], Endpoint]]:
        """Network, addresses, and who has them. Services are there where nobody
        else has the gateway's address."""
        taken = set()
        for port in self.ports.values():
            taken |= {(port.network_id, a) for a in self.addresses_of(port)}
            yield port.network_id, self.addresses_of(port), port
        for port in self.behind.values():
            named = self._named(port)
            if named is not None:
                yield port.network_id, named, port
        for network in self.networks.values():
            for gateway in self.gateways_of(network):
                own = [wire.address(a) for a in gateway.interface.addresses]
                taken |= {(network.id, address) for address in own}
                yield network.id, own, gateway
        for subnet in self.subnets.values():
            address = wire.address(subnet.gateway_ip)
            if subnet.enable_dhcp and (subnet.network_id, address) not in taken:
                yield subnet.network_id, [address], Service(subnet)

    # ---- ports -----------------------------------------------------------------

    def network_of(self, port: Port) -> Network:
        return self.networks[port.network_id]

    def addresses_of(self, port: Port) -> list[wire.IpAddress]:
        return [wire.address(fixed.ip) for fixed in port.fixed_ips]

    def fixed(self, port: Port, version: int) -> tuple[wire.IpAddress, Subnet] | None:
        """The first address of a family, which is the one that DHCP offers."""
        for fixed in port.fixed_ips:
            if wire.address(fixed.ip).version == version:
                return wire.address(fixed.ip), self.subnets[fixed.subnet_id]
        return None

    def dhcp(self, port: Port, version: int) -> tuple[wire.IpAddress, Subnet] | None:
        """What DHCP says to the port; None: it keeps silent."""
        found = self.fixed(port, version)
        if found is None or not found[1].enable_dhcp:
            return None
        if version == 6 and found[1].ipv6_mode not in (Ipv6Mode.STATEFUL, Ipv6Mode.STATELESS):
            return None
        return found

    def qos(self, port: Port) -> QosPolicy | None:
        return self.policies.get(port.qos_policy_id) if port.qos_policy_id else None

    # ---- routers ---------------------------------------------------------------

    def interface(self, router: Router, network: Network) -> Gateway | None:
        for interface in router.interfaces:
            if interface.network_id == network.id:
                return Gateway(router, interface)
        return None

    def routes(self, router: Router) -> Iterator[tuple[str, RouteTarget]]:
        """All prefixes, those that are connected first."""
        connected = list(self._connected(router))
        for subnet in connected:
            yield subnet.cidr, Connected(self.networks[subnet.network_id])
        for route in router.routes:
            if route.nexthop is None:
                yield route.destination, Blackhole()
                continue
            nexthop = wire.address(route.nexthop)
            for subnet in connected:
                if nexthop in wire.prefix(subnet.cidr):
                    yield route.destination, Via(self.networks[subnet.network_id], nexthop)
                    break

    def _connected(self, router: Router) -> Iterator[Subnet]:
        for interface in router.interfaces:
            own = [wire.address(address) for address in interface.addresses]
            for subnet in self.subnets_of(self.networks[interface.network_id]):
                if any(address in wire.prefix(subnet.cidr) for address in own):
                    yield subnet

    def routed_to(self, port: Port) -> Iterator[str]:
        """Prefixes that some router's static route sends to the port: it may
        speak for them."""
        own = set(self.addresses_of(port))
        for router in self.routers:
            for route in router.routes:
                joined = any(i.network_id == port.network_id for i in router.interfaces)
                if joined and route.nexthop is not None and wire.address(route.nexthop) in own:
                    yield route.destination
