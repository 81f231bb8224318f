"""Random intent: whole, at peace with itself, and of one host.

Addresses say where they are: network n has 10.<n>.0.0/24 and fd00:<n>::/64; the
gateway is .1, ports begin at .10, and a second router speaks as .2.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from hypothesis import strategies as st
from model_board import HOST, TAPS, VETHS

from heddle.intent.model import (
    AddressGroup,
    AddressGroupEntry,
    AddressPair,
    AnyResource,
    BandwidthLimit,
    Direction,
    FixedIp,
    HostRoute,
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

T = TypeVar("T")
Draw = st.DrawFn
VRRP_MAC = "00:00:5e:00:01:01"
PROTOCOLS = (None, None, None, 1, 6, 6, 17, 132, 47, 50, 136)


@dataclass
class _Plan:
    """What has been made so far."""

    networks: list[Network] = field(default_factory=list)
    subnets: list[Subnet] = field(default_factory=list)
    groups: list[SecurityGroup] = field(default_factory=list)
    ports: list[Port] = field(default_factory=list)
    others: list[AnyResource] = field(default_factory=list)

    def objects(self) -> list[AnyResource]:
        return [*self.networks, *self.subnets, *self.others, *self.groups, *self.ports]


@st.composite
def topologies(draw: Draw) -> list[AnyResource]:
    plan = _Plan()
    # Network 3 has the same prefixes as network 1, and no router joins both.
    for where in range(1, draw(st.integers(1, 3)) + 1):
        _network(draw, plan, where)
    _groups(draw, plan)
    _ports(draw, plan)
    _routers(draw, plan)
    return plan.objects()


def _of(draw: Draw, *values: T) -> T:
    return draw(st.sampled_from(values))


# ---- networks ----------------------------------------------------------------------


def _prefix(where: int) -> int:
    return 1 if where == 3 else where


def _network(draw: Draw, plan: _Plan, where: int) -> None:
    domain = _of(draw, "", "web.example")
    mtu = _of(draw, 1450, 1450, 1400, 1280)
    plan.networks.append(
        Network(id=f"net{where}", name=f"net{where}", vni=1000 + where, mtu=mtu, domain=domain)
    )
    prefix = _prefix(where)
    plan.subnets.append(
        Subnet(
            id=f"sub4-{where}",
            name=f"net{where}/4",
            network_id=f"net{where}",
            number=where,
            cidr=f"10.{prefix}.0.0/24",
            gateway_ip=f"10.{prefix}.0.1",
            enable_dhcp=_of(draw, True, True, False),
            dns=_of(draw, (), ("9.9.9.9",)),
            host_routes=_of(
                draw, (), (HostRoute(destination="10.8.0.0/15", nexthop=f"10.{prefix}.0.9"),)
            ),
            lease_time=_of(draw, 86400, 3601, 0xFFFFFFFF),
        )
    )
    if draw(st.booleans()):
        return
    plan.subnets.append(
        Subnet(
            id=f"sub6-{where}",
            name=f"net{where}/6",
            network_id=f"net{where}",
            number=100 + where,
            cidr=f"fd00:{prefix}::/64",
            gateway_ip=f"fd00:{prefix}::1",
            ipv6_mode=_of(draw, Ipv6Mode.STATEFUL, Ipv6Mode.STATELESS, Ipv6Mode.SLAAC),
            enable_dhcp=_of(draw, True, True, False),
            dns=_of(draw, (), ("fd00::53", "9.9.9.9")),
            host_routes=_of(
                draw, (), (HostRoute(destination="fd00:8::/32", nexthop=f"fd00:{prefix}::1"),)
            ),
        )
    )


def _versions(plan: _Plan, where: int) -> list[int]:
    ids = {subnet.id for subnet in plan.subnets}
    return [version for version in (4, 6) if f"sub{version}-{where}" in ids]


# ---- security groups ------------------------------------------------------------------


def _groups(draw: Draw, plan: _Plan) -> None:
    plan.others.append(AddressGroup(id="offices", name="offices", number=90))
    for number, cidr in enumerate(("10.2.0.0/28", "10.1.0.10/32", "fd00:1::/120"), 1):
        plan.others.append(
            AddressGroupEntry(
                id=f"office{number}", name=cidr, address_group_id="offices", cidr=cidr
            )
        )
    for number in range(1, draw(st.integers(1, 3)) + 1):
        stateful = _of(draw, True, True, False)
        group = SecurityGroup(id=f"g{number}", name=f"g{number}", number=number, stateful=stateful)
        plan.groups.append(group)
    for group in plan.groups:
        # Most let out all, as Neutron's groups do; the rest is chance.
        for version in (4, 6):
            if draw(st.integers(0, 3)) > 0:
                _add_rule(plan, group, version, Direction.FROM_VM, {})
        for _ in range(draw(st.integers(1, 6))):
            _rule(draw, plan, group)


def _rule(draw: Draw, plan: _Plan, group: SecurityGroup) -> None:
    version = _of(draw, 4, 4, 6)
    protocol = _of(draw, *PROTOCOLS)
    if protocol == 1 and version == 6:
        protocol = 58
    fields = {
        "protocol": protocol,
        **_port_range(draw, protocol),
        **_remote(draw, plan, version),
    }
    direction = _of(draw, Direction.TO_VM, Direction.TO_VM, Direction.FROM_VM)
    _add_rule(plan, group, version, direction, fields)


def _add_rule(
    plan: _Plan, group: SecurityGroup, version: object, direction: object, fields: dict[str, object]
) -> None:
    number = 1 + sum(isinstance(o, SecurityGroupRule) for o in plan.others)
    plan.others.append(
        SecurityGroupRule(
            id=f"rule{number}",
            name=f"rule{number}",
            number=number,
            security_group_id=group.id,
            direction=direction,
            ip_version=version,
            **fields,
        )
    )


def _port_range(draw: Draw, protocol: object) -> dict[str, object]:
    if protocol in (6, 17, 132, 136):
        return _of(
            draw,
            {},
            {"port_min": 80, "port_max": 80},
            {"port_min": 80, "port_max": 443},
            {"port_min": 1, "port_max": 65535},
            {"port_min": 67, "port_max": 68},
            {"port_min": 0, "port_max": 79},
            {"port_min": 65535, "port_max": 65535},
            {"port_min": 1000, "port_max": 50000},
        )
    if protocol in (1, 58):
        request = 8 if protocol == 1 else 128
        return _of(draw, {}, {"port_min": request}, {"port_min": request, "port_max": 0})
    return {}


def _remote(draw: Draw, plan: _Plan, version: object) -> dict[str, object]:
    kind = _of(draw, "any", "any", "any", "prefix", "group", "addresses")
    if kind == "prefix":
        prefixes = {
            4: ("0.0.0.0/0", "10.1.0.0/24", "10.2.0.0/28", "10.0.0.0/8", "10.1.0.11/32"),
            6: ("::/0", "fd00:1::/64", "fd00:2::/125", "fd00::/16", "fd00:1::b/128"),
        }
        return {"remote_cidr": _of(draw, *prefixes[version])}
    if kind == "group":
        return {"remote_group_id": _of(draw, *plan.groups).id}
    return {"address_group_id": "offices"} if kind == "addresses" else {}


# ---- ports ----------------------------------------------------------------------------


def _ports(draw: Draw, plan: _Plan) -> None:
    containers = 0
    for number in range(draw(st.integers(4, TAPS - 1))):
        where = draw(st.integers(1, len(plan.networks)))
        kind = _of(draw, "vm", "vm", "container") if containers < VETHS else "vm"
        containers += kind == "container"
        plan.others.append(
            Machine(id=f"m{number}", name=f"m{number}", machine_kind=kind, host=HOST)
        )
        plan.ports.append(_port(draw, plan, number, where))


def _port(draw: Draw, plan: _Plan, number: int, where: int) -> Port:
    name = f"{number:02x}-port-{where}"
    prefix = _prefix(where)
    addresses = {4: f"10.{prefix}.0.{10 + number}", 6: f"fd00:{prefix}::{10 + number:x}"}
    versions = _versions(plan, where)
    qos = _qos(draw, plan, number)
    port_security = draw(st.integers(0, 5)) > 0
    return Port(
        id=name,
        name=name,
        network_id=f"net{where}",
        mac=f"fa:16:3e:00:{where:02x}:{number:02x}",
        fixed_ips=tuple(
            FixedIp(subnet_id=f"sub{version}-{where}", ip=addresses[version])
            for version in versions
        ),
        machine_id=f"m{number}",
        host=HOST,
        port_security=port_security,
        security_group_ids=tuple(
            group.id for group in plan.groups if port_security and draw(st.integers(0, 3)) > 0
        ),
        address_pairs=()
        if not port_security
        else _of(
            draw,
            (),
            (),
            (AddressPair(cidr=f"10.{prefix}.0.100/32"),),
            (AddressPair(cidr=f"10.{prefix}.0.100/32", mac=VRRP_MAC),),
            (AddressPair(cidr=f"10.{prefix}.0.128/25"), AddressPair(cidr=f"fd00:{prefix}::99/128")),
        ),
        qos_policy_id=qos,
        connections_max=_of(draw, 0, 0, 0, 1, 3),
    )


def _qos(draw: Draw, plan: _Plan, number: int) -> str | None:
    dscp = _of(draw, None, None, None, 0, 46)
    limit = BandwidthLimit(rate=1_000_000_000, burst=100_000)
    limits = _of(draw, (None, None), (None, None), (limit, None), (None, limit), (limit, limit))
    if dscp is None and limits == (None, None):
        return None
    policy = QosPolicy(
        id=f"qos{number}",
        name=f"qos{number}",
        dscp=dscp,
        bandwidth_from_vm=limits[0],
        bandwidth_to_vm=limits[1],
    )
    plan.others.append(policy)
    return policy.id


# ---- routers --------------------------------------------------------------------------


def _interface(plan: _Plan, router: int, where: int) -> RouterInterface:
    """The first router has the gateways' addresses."""
    addresses = {4: f"10.{_prefix(where)}.0.{router}", 6: f"fd00:{_prefix(where)}::{router}"}
    return RouterInterface(
        network_id=f"net{where}",
        mac=f"fa:16:3e:ff:{where:02x}:{router:02x}",
        addresses=tuple(addresses[version] for version in _versions(plan, where)),
    )


def _routers(draw: Draw, plan: _Plan) -> None:
    """Router 1 joins networks 1 and 2; router 2, if there is one, 2 and 3."""
    count = _of(draw, 1, 2, 1, 2, 0)
    for router, joined in ((1, (1, 2)), (2, (2, 3))):
        wheres = [where for where in joined if where <= len(plan.networks)]
        if router > count or not wheres:
            continue
        plan.others.append(
            Router(
                id=f"r{router}",
                name=f"r{router}",
                number=router,
                interfaces=tuple(_interface(plan, router, where) for where in wheres),
                routes=_routes(draw, plan, router, wheres),
            )
        )


def _routes(draw: Draw, plan: _Plan, router: int, wheres: list[int]) -> tuple[Route, ...]:
    """Via a port, the other router, nobody, or nowhere."""
    where = wheres[-1]
    prefix, other = _prefix(where), 3 - router
    nexthops = [f"10.{prefix}.0.{other}", f"10.{prefix}.0.77", None]
    nexthops += [port.fixed_ips[0].ip for port in plan.ports if port.network_id == f"net{where}"]
    routes = []
    for destination in ("10.9.0.0/16", "10.9.1.0/24", "0.0.0.0/0", "10.3.0.0/24"):
        if draw(st.booleans()):
            routes.append(Route(destination=destination, nexthop=_of(draw, *nexthops)))
    if 6 in _versions(plan, where):
        nexthops6 = [f"fd00:{prefix}::{other}", f"fd00:{prefix}::77", None]
        nexthops6 += [
            port.fixed_ips[1].ip for port in plan.ports if port.network_id == f"net{where}"
        ]
        for destination in ("fd00:9::/32", "::/0"):
            if draw(st.booleans()):
                routes.append(Route(destination=destination, nexthop=_of(draw, *nexthops6)))
    return tuple(routes)
