"""Is the text in an object what it should be? Intent is checked before it is
stored; this keeps one bad object in a store from harming the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from ipaddress import IPv6Address, ip_address, ip_network

from heddle.compiler.addresses import ip_version, is_ipv6, mac_bytes, mapped_prefix, packed
from heddle.compiler.fragment import Limits
from heddle.intent.model import (
    PROBE_VNI,
    AddressGroupEntry,
    AnyResource,
    Detour,
    Host,
    Network,
    Path,
    Port,
    Router,
    SecurityGroupRule,
    Subnet,
)
from heddle.intent.protocols import ICMP, ICMPV6, WITH_PORTS

_ICMP = {4: ICMP, 6: ICMPV6}
_ICMP_NUMBER_MAX = 255  # type and code are bytes


def fault_of(resource: AnyResource, limits: Limits) -> str | None:
    """What is wrong, in words; None when nothing is."""
    try:
        match resource:
            case Host():
                _check_host(resource)
            case Detour() | Path():
                if resource.host == resource.relay:
                    raise ValueError(f"{resource.host} can't be its own relay")
            case Network():
                _check_network(resource)
            case Port():
                _check_port(resource, limits)
            case Subnet():
                _check_subnet(resource)
            case Router():
                _check_router(resource)
            case AddressGroupEntry():
                mapped_prefix(resource.cidr)
            case SecurityGroupRule():
                _check_rule(resource)
    except ValueError as error:
        return str(error)
    return None


def _check_host(host: Host) -> None:
    if not host.vtep:
        return
    address = ip_address(host.vtep)
    mapped = isinstance(address, IPv6Address) and address.ipv4_mapped
    if mapped or address.is_multicast or address.is_unspecified or str(address) != host.vtep:
        raise ValueError(f"{host.vtep!r} is no VTEP: a plain unicast address")


def _check_network(network: Network) -> None:
    if network.vni == PROBE_VNI:
        raise ValueError(f"VNI {PROBE_VNI} is kept for probes")
    if network.flood_group is not None and not ip_address(network.flood_group).is_multicast:
        raise ValueError(f"{network.flood_group} is no multicast group")
    behind = [one for member in network.foreign_members for one in member.macs]
    for one in behind:
        if mac_bytes(one.mac).hex(":") != one.mac:
            raise ValueError(f"{one.mac!r} is not written as MAC addresses are here")
        if one.address is not None:
            packed(one.address)
    _check_once(one.mac for one in behind)
    _check_once(one.address for one in behind if one.address is not None)


def _check_once(values: Iterable[str]) -> None:
    for value, count in Counter(values).items():
        if count > 1:
            raise ValueError(f"{value} is there twice behind foreign VTEPs")


def _check_port(port: Port, limits: Limits) -> None:
    groups = len(set(port.security_group_ids))
    if groups > limits.groups:
        raise ValueError(f"{groups} security groups, but a port may have {limits.groups}")
    mac_bytes(port.mac)
    for fixed_ip in port.fixed_ips:
        packed(fixed_ip.ip)
    for pair in port.address_pairs:
        mapped_prefix(pair.cidr)
        if pair.mac is not None:
            mac_bytes(pair.mac)


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
    mapped_prefix(destination)
    if nexthop is None:
        return
    packed(nexthop)
    if is_ipv6(nexthop) != is_ipv6(destination):
        raise ValueError(f"next hop {nexthop} is of another family than {destination}")


def _check_rule(rule: SecurityGroupRule) -> None:
    remotes = (rule.remote_cidr, rule.remote_group_id, rule.address_group_id)
    if sum(remote is not None for remote in remotes) > 1:
        raise ValueError("more than one remote end")
    if rule.remote_cidr is not None:
        mapped_prefix(rule.remote_cidr)
        if ip_version(rule.remote_cidr) != rule.ip_version:
            raise ValueError(f"remote end {rule.remote_cidr} is not of IPv{rule.ip_version}")
    if rule.protocol == _ICMP[rule.ip_version]:
        _check_icmp(rule)
    elif (rule.port_min, rule.port_max) != (None, None):
        _check_ports(rule)


def _check_icmp(rule: SecurityGroupRule) -> None:
    if rule.port_min is None and rule.port_max is not None:
        raise ValueError(f"ICMP code {rule.port_max} without a type")
    for number in (rule.port_min, rule.port_max):
        if number is not None and number > _ICMP_NUMBER_MAX:
            raise ValueError(f"ICMP has no type or code {number}")


def _check_ports(rule: SecurityGroupRule) -> None:
    if rule.protocol not in WITH_PORTS:
        raise ValueError("ports, but no protocol that has them")
    if rule.port_min is None or rule.port_max is None:
        raise ValueError("half a range of ports")
    if rule.port_min > rule.port_max:
        raise ValueError(f"ports {rule.port_min}-{rule.port_max} are reversed")
