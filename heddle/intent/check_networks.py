"""Checks networks and their subnets."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

from heddle.intent.addresses import SLAAC_PREFIX_BITS, unusable_meaning, usable_range
from heddle.intent.check_context import Context
from heddle.intent.check_hosts import check_overlay
from heddle.intent.problems import KeyPath
from heddle.intent.schema import DNS_MAX, SUBNETS_PER_FAMILY_MAX, NetworkSpec, SubnetSpec

IPV6_MTU_MIN = 1280  # RFC 8200 section 5


def check_networks(context: Context) -> None:
    vnis: dict[int, str] = {}
    for name, network in context.spec.networks.items():
        path = ("networks", name)
        _check_subnets(context, network, path)
        _check_dns(context, network, path)
        check_overlay(context, network, path)
        for index, subnet in enumerate(network.cidr):
            _check_subnet(context, subnet, (*path, "cidr", index))
        if network.vni is not None:
            other = vnis.setdefault(network.vni, name)
            if other != name:
                what = f'{network.vni} is the VNI of network "{other}" too; give each its own'
                context.problems.add((*path, "vni"), what)


def _check_subnets(context: Context, network: NetworkSpec, path: KeyPath) -> None:
    if not network.cidr and network.mode == "overlay":
        context.problems.add(path, 'key "cidr" is missing; for example "cidr: 172.17.17.0/24"')
    for (_, first), (index, second) in combinations(enumerate(network.cidr), 2):
        if first.cidr.overlaps(second.cidr):
            what = f"{second.cidr} overlaps {first.cidr} of the same network; choose another prefix"
            context.problems.add((*path, "cidr", index), what)
    families = Counter(subnet.cidr.version for subnet in network.cidr)
    for version, count in families.items():
        if count > SUBNETS_PER_FAMILY_MAX:
            what = f"has {count} IPv{version} subnets; give at most {SUBNETS_PER_FAMILY_MAX}"
            context.problems.add((*path, "cidr"), what)
    if families[6] and network.mtu is not None and network.mtu < IPV6_MTU_MIN:
        what = f"{network.mtu} is too small for IPv6 (RFC 8200); give {IPV6_MTU_MIN} or more"
        context.problems.add((*path, "mtu"), what)


def _check_dns(context: Context, network: NetworkSpec, path: KeyPath) -> None:
    versions = {subnet.cidr.version for subnet in network.cidr}
    for index, address in enumerate(network.dns):
        if network.cidr and address.version not in versions:
            what = f"{address}: the network has no IPv{address.version} subnet; remove it"
            context.problems.add((*path, "dns", index), what)
    for version, count in Counter(address.version for address in network.dns).items():
        if count > DNS_MAX:
            what = f"has {count} IPv{version} servers; give at most {DNS_MAX}"
            context.problems.add((*path, "dns"), what)


def _check_subnet(context: Context, subnet: SubnetSpec, path: KeyPath) -> None:
    _check_gateway(context, subnet, (*path, "gateway"))
    _check_ipv6_mode(context, subnet, (*path, "ipv6_mode"))
    for index, address in enumerate(subnet.dns or []):
        if address.version != subnet.cidr.version:
            what = f"{address} is of another address family than {subnet.cidr}; remove it"
            context.problems.add((*path, "dns", index), what)
    for index, route in enumerate(subnet.host_routes):
        route_path = (*path, "host_routes", index)
        if not route.to.version == route.via.version == subnet.cidr.version:
            what = f"{route.to} via {route.via}: all of it must be IPv{subnet.cidr.version}"
            context.problems.add(route_path, f"{what}, as {subnet.cidr} is; use one family")
        elif route.via not in subnet.cidr:
            what = f"{route.via} is outside {subnet.cidr}; choose a next hop in it"
            context.problems.add((*route_path, "via"), what)
        elif route.via.version == 6 and route.via != subnet.gateway_ip:
            # A router advertisement speaks for its sender only (RFC 4191).
            what = f"{route.via}: IPv6 guests learn routes by the gateway alone"
            context.problems.add((*route_path, "via"), f"{what}; use {subnet.gateway_ip}")


def _check_gateway(context: Context, subnet: SubnetSpec, path: KeyPath) -> None:
    gateway = subnet.gateway_ip
    if gateway not in subnet.cidr:
        what = f"{gateway} is outside {subnet.cidr}; choose one from {usable_range(subnet.cidr)}"
        context.problems.add(path, what)
    elif meaning := unusable_meaning(subnet.cidr, gateway):
        what = f"{gateway} is {meaning} of {subnet.cidr}; choose one from "
        context.problems.add(path, what + usable_range(subnet.cidr))


def _check_ipv6_mode(context: Context, subnet: SubnetSpec, path: KeyPath) -> None:
    if subnet.ipv6_mode is None:
        return
    what = None
    if subnet.cidr.version == 4:
        what = f"{subnet.cidr} is an IPv4 subnet; remove the key"
    elif not subnet.dhcp:
        what = "has no effect with dhcp: false; remove one of the two"
    elif subnet.ipv6_mode != "dhcpv6-stateful" and subnet.cidr.prefixlen != SLAAC_PREFIX_BITS:
        what = (
            f'"{subnet.ipv6_mode}" needs a /{SLAAC_PREFIX_BITS}, {subnet.cidr} is none; '
            f"use /{SLAAC_PREFIX_BITS} or dhcpv6-stateful"
        )
    if what:
        context.problems.add(path, what)
