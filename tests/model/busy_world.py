"""One topology in which every stage has something to do: for frames that are not
what they should be.

web 10.1.0.0/24 fd00:1::/64 (DHCPv6 stateful), db 10.2.0.0/24 fd00:2::/64 (SLAAC,
smaller MTU), joined by router 1; lone 10.1.0.0/24, whose gateway is heddle's own.
"""

from __future__ import annotations

from model_board import HOST
from topologies import VRRP_MAC

from heddle.intent.model import (
    AddressPair,
    AnyResource,
    Direction,
    FixedIp,
    Ipv6Mode,
    Machine,
    Network,
    Port,
    QosPolicy,
    Route,
    Router,
    RouterInterface,
    SecurityGroup,
    SecurityGroupRule,
    Subnet,
)


def busy_world() -> list[AnyResource]:
    return [*_networks(), *_groups(), *_ports(), _router()]


def _networks() -> list[AnyResource]:
    objects: list[AnyResource] = []
    for where, (prefix, mtu) in enumerate(((1, 1450), (2, 1400), (1, 1450)), 1):
        objects.append(Network(id=f"net{where}", name=f"net{where}", vni=where, mtu=mtu))
        objects.append(
            Subnet(
                id=f"sub4-{where}",
                name=f"net{where}/4",
                network_id=f"net{where}",
                number=where,
                cidr=f"10.{prefix}.0.0/24",
                gateway_ip=f"10.{prefix}.0.1",
            )
        )
    for where, mode in ((1, Ipv6Mode.STATEFUL), (2, Ipv6Mode.SLAAC)):
        objects.append(
            Subnet(
                id=f"sub6-{where}",
                name=f"net{where}/6",
                network_id=f"net{where}",
                number=100 + where,
                cidr=f"fd00:{where}::/64",
                gateway_ip=f"fd00:{where}::1",
                ipv6_mode=mode,
            )
        )
    return objects


def _groups() -> list[AnyResource]:
    """open: all; web: out all, in a little; flat: all, without state."""
    objects: list[AnyResource] = []
    for number, (name, stateful) in enumerate((("open", True), ("web", True), ("flat", False)), 1):
        objects.append(SecurityGroup(id=name, name=name, number=number, stateful=stateful))
    number = 0
    for version in (4, 6):
        for group, direction, fields in (
            ("open", Direction.FROM_VM, {}),
            ("open", Direction.TO_VM, {}),
            ("flat", Direction.FROM_VM, {}),
            ("flat", Direction.TO_VM, {}),
            ("web", Direction.FROM_VM, {"remote_group_id": "open"}),
            ("web", Direction.TO_VM, {"protocol": 6, "port_min": 80, "port_max": 443}),
            ("web", Direction.TO_VM, {"protocol": 17, "port_min": 53, "port_max": 53}),
        ):
            number += 1
            objects.append(
                SecurityGroupRule(
                    id=f"rule{number}",
                    name=f"rule{number}",
                    number=number,
                    security_group_id=group,
                    direction=direction,
                    ip_version=version,
                    **fields,
                )
            )
    return objects


def _ports() -> list[AnyResource]:
    """Two of each group, one without port security, one alone in its network."""
    objects: list[AnyResource] = [QosPolicy(id="marked", name="marked", dscp=46)]
    plan = (
        (1, "vm", "open"),
        (1, "vm", "web"),
        (1, "container", "flat"),
        (2, "vm", "open"),
        (2, "vm", "web"),
        (2, "vm", "flat"),
        (2, "container", None),
        (3, "vm", "open"),
        (3, "vm", "web"),
    )
    for number, (where, kind, group) in enumerate(plan):
        objects.append(Machine(id=f"m{number}", name=f"m{number}", machine_kind=kind, host=HOST))
        objects.append(_port(number, where, group))
    return objects


def _port(number: int, where: int, group: str | None) -> Port:
    prefix = 1 if where == 3 else where
    fixed = [FixedIp(subnet_id=f"sub4-{where}", ip=f"10.{prefix}.0.{10 + number}")]
    if where != 3:
        fixed.append(FixedIp(subnet_id=f"sub6-{where}", ip=f"fd00:{prefix}::{10 + number:x}"))
    pairs = (
        AddressPair(cidr="10.1.0.100/32", mac=VRRP_MAC),
        AddressPair(cidr="fd00:1::64/128"),
    )
    return Port(
        id=f"{number:02x}-port-{where}",
        name=f"p{number}",
        network_id=f"net{where}",
        mac=f"fa:16:3e:00:{where:02x}:{number:02x}",
        fixed_ips=tuple(fixed),
        machine_id=f"m{number}",
        host=HOST,
        port_security=group is not None,
        security_group_ids=(group,) if group else (),
        address_pairs=pairs if number in (0, 1) else (),
        qos_policy_id="marked" if number in (1, 3) else None,
    )


def _router() -> Router:
    interfaces = tuple(
        RouterInterface(
            network_id=f"net{where}",
            mac=f"fa:16:3e:ff:{where:02x}:01",
            addresses=(f"10.{where}.0.1", f"fd00:{where}::1"),
        )
        for where in (1, 2)
    )
    routes = (
        Route(destination="10.9.0.0/16", nexthop="10.2.0.13"),
        Route(destination="10.9.1.0/24"),
        Route(destination="fd00:9::/32", nexthop="fd00:2::d"),
        Route(destination="fd00:9:1::/48"),
        Route(destination="10.8.0.0/16", nexthop="10.2.0.77"),
    )
    return Router(id="r1", name="r1", number=1, interfaces=interfaces, routes=routes)
