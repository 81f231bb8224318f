"""A subnet: the DHCP answers for its guests, and the address that gives them."""

from __future__ import annotations

from collections.abc import Iterator

from heddle.compiler import dhcp4, dhcp6
from heddle.compiler.addresses import is_ipv6, mac_bytes, mapped
from heddle.compiler.claims import service_mac
from heddle.compiler.dependencies import View
from heddle.compiler.fragment import Fragment
from heddle.compiler.state import AddressKey, EndpointRow, MacKey, NeighborRow, RowKey, RowValue
from heddle.compiler.symbols import ENDPOINT_SERVICE
from heddle.intent.model import Ipv6Mode, Kind, Network, RouterInterface, Subnet

Row = tuple[RowKey, RowValue]

SERVES_DHCP6 = (Ipv6Mode.STATEFUL, Ipv6Mode.STATELESS)


def compile_subnet(view: View, subnet: Subnet) -> Fragment:
    fragment = Fragment()
    network = view.network(subnet.network_id)
    if network is None or not subnet.enable_dhcp:
        return fragment
    gateway = gateway_interface(view, subnet)
    server_mac = mac_bytes(gateway.mac if gateway else service_mac(subnet))
    if view.holder(network.id, subnet.gateway_ip) is None:
        fragment.rows.update(_service_rows(network, subnet, server_mac))
    if not is_ipv6(subnet.cidr):
        fragment.rows[RowKey("dhcp4_templates", subnet.number)] = dhcp4.template(
            network, subnet, server_mac, view.limits, has_router=gateway is not None
        )
    elif subnet.ipv6_mode in SERVES_DHCP6:
        fragment.rows[RowKey("dhcp6_templates", subnet.number)] = dhcp6.template(
            network, subnet, server_mac, view.limits
        )
    return fragment


def _service_rows(network: Network, subnet: Subnet, mac: bytes) -> Iterator[Row]:
    """An address to renew leases from, where no router has the gateway's."""
    address = AddressKey(network.vni, mapped(subnet.gateway_ip))
    yield RowKey("addresses", address), NeighborRow(ENDPOINT_SERVICE, 0, mac)
    yield RowKey("macs", MacKey(network.vni, mac)), EndpointRow(ENDPOINT_SERVICE, 0)


def gateway_interface(view: View, subnet: Subnet) -> RouterInterface | None:
    """The router interface that has the subnet's gateway address."""
    if not has_router_gateway(view, subnet):
        return None
    holder = view.holder(subnet.network_id, subnet.gateway_ip)
    router = view.router(holder[1]) if holder else None
    for interface in router.interfaces if router else ():
        if interface.network_id == subnet.network_id and subnet.gateway_ip in interface.addresses:
            return interface
    return None


def has_router_gateway(view: View, subnet: Subnet) -> bool:
    """Cheaper to depend on than the interface itself: stays true while the
    router changes in other ways."""
    holder = view.holder(subnet.network_id, subnet.gateway_ip)
    return holder is not None and holder[0] is Kind.ROUTER
