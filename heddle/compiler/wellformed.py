"""Is the text in an object what it should be? Intent is checked before it is
stored; this keeps one bad object in a store from harming the others."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from heddle.compiler.addresses import is_ipv6, mac_bytes, packed
from heddle.intent.model import AnyResource, Port, Router, Subnet


def fault_of(resource: AnyResource) -> str | None:
    """What is wrong, in words; None when nothing is."""
    try:
        match resource:
            case Port():
                _check_port(resource)
            case Subnet():
                _check_subnet(resource)
            case Router():
                _check_router(resource)
    except ValueError as error:
        return str(error)
    return None


def _check_port(port: Port) -> None:
    mac_bytes(port.mac)
    for fixed_ip in port.fixed_ips:
        packed(fixed_ip.ip)


def _check_subnet(subnet: Subnet) -> None:
    if ip_address(subnet.gateway_ip) not in ip_network(subnet.cidr):
        raise ValueError(f"gateway {subnet.gateway_ip} is not in {subnet.cidr}")
    for server in subnet.dns:
        packed(server)
    for route in subnet.host_routes:
        _check_route(route.destination, route.nexthop)


def _check_router(router: Router) -> None:
    for interface in router.interfaces:
        mac_bytes(interface.mac)
        for address in interface.addresses:
            packed(address)
    for route in router.routes:
        _check_route(route.destination, route.nexthop)


def _check_route(destination: str, nexthop: str | None) -> None:
    ip_network(destination)
    if nexthop is None:
        return
    packed(nexthop)
    if is_ipv6(nexthop) != is_ipv6(destination):
        raise ValueError(f"next hop {nexthop} is of another family than {destination}")
