"""Whole intents by name. Any may follow any other on a host."""

from __future__ import annotations

from compiler_intents import (
    dual_stack,
    host_route,
    interface,
    machine,
    network,
    port,
    router,
    static,
    subnet4,
    subnet6,
)

from heddle.intent.model import AnyResource, FixedIp, Ipv6Mode

TWO_MACHINES: list[AnyResource] = [
    machine("m1"),
    machine("m2", "container"),
    port(1, 2, "m1"),
    port(2, 2, "m2"),
]

STATES: dict[str, list[AnyResource]] = {
    "empty": [],
    "network alone": [network(1)],
    "subnet without its network": [subnet4(1)],
    "port without anything": [port(1, 2)],
    "port without its subnets": [network(1), machine("m1"), port(1, 2)],
    "one port": [network(1), subnet4(1), machine("m1"), port(1, 2)],
    "one container port": [
        network(1),
        subnet4(1),
        machine("m1", "container"),
        port(1, 2),
    ],
    "three ports": [
        network(1),
        subnet4(1),
        *(machine(f"m{n}") for n in (1, 2, 3)),
        *(port(1, n + 1, f"m{n}") for n in (1, 2, 3)),
    ],
    "three ports, the middle one elsewhere": [
        network(1),
        subnet4(1),
        *(machine(f"m{n}") for n in (1, 3)),
        machine("m2", host="h2"),
        port(1, 2, "m1"),
        port(1, 3, "m2", host="h2"),
        port(1, 4, "m3"),
    ],
    "two networks without a router": [
        network(1),
        subnet4(1),
        network(2),
        subnet4(2),
        *TWO_MACHINES,
    ],
    "two networks, routed": [*dual_stack(1, 2), *TWO_MACHINES],
    "two networks, routed, other VNIs": [
        *(o for o in dual_stack(1, 2) if o.kind != "network"),
        network(1, vni=11),
        network(2, vni=12, mtu=1400, domain="two.example"),
        *TWO_MACHINES,
    ],
    "two networks, VNIs exchanged": [
        *(o for o in dual_stack(1, 2) if o.kind != "network"),
        network(1, vni=2),
        network(2, vni=1),
        *TWO_MACHINES,
    ],
    "addresses exchanged": [
        *dual_stack(1),
        machine("m1"),
        machine("m2"),
        port(1, 2, "m1", fixed_ips=(FixedIp(subnet_id="sub4-1", ip="10.1.0.3"),)),
        port(1, 3, "m2", fixed_ips=(FixedIp(subnet_id="sub4-1", ip="10.1.0.2"),)),
    ],
    "router of one network": [*dual_stack(1), machine("m1"), port(1, 2)],
    "router with a missing network": [
        network(1),
        subnet4(1),
        router(interface(1), interface(2)),
        *TWO_MACHINES,
    ],
    "static routes": [
        *(o for o in dual_stack(1, 2) if o.kind != "router"),
        router(
            interface(1),
            interface(2),
            routes=(
                static("10.9.0.0/16", "10.2.0.2"),
                static("::/0", "fd00:1::2"),
                static("10.66.0.0/16"),
                static("10.77.0.0/16", "10.7.0.2"),
                static("10.1.0.0/24", "10.2.0.2"),
            ),
        ),
        *TWO_MACHINES,
    ],
    "two routers in a row": [
        *(o for o in dual_stack(1, 2, 3) if o.kind != "router"),
        router(interface(1), interface(2)),
        router(interface(2, "10.2.0.9"), interface(3), number=2),
        *TWO_MACHINES,
    ],
    "stateful IPv6": [
        network(1, domain="one.example"),
        subnet6(1, ipv6_mode=Ipv6Mode.STATEFUL, dns=("fd00:1::53", "10.1.0.53")),
        router(interface(1)),
        machine("m1"),
        port(1, 2),
    ],
    "stateless IPv6, no router": [
        network(1),
        subnet6(1, ipv6_mode=Ipv6Mode.STATELESS),
        machine("m1"),
        port(1, 2),
    ],
    "no DHCP": [
        network(1),
        subnet4(1, enable_dhcp=False),
        subnet6(1, enable_dhcp=False, ipv6_mode=None),
        machine("m1"),
        port(1, 2),
    ],
    "host routes": [
        network(1, domain="one.example"),
        subnet4(1, dns=("9.9.9.9",), host_routes=(host_route("10.8.0.0/15", "10.1.0.9"),)),
        subnet6(1, host_routes=(host_route("fd00:8::/32", "fd00:1::1"),)),
        router(interface(1)),
        machine("m1"),
        port(1, 2),
    ],
    "gateway held by a port": [
        network(1),
        subnet4(1),
        machine("m1"),
        port(1, 1, fixed_ips=(FixedIp(subnet_id="sub4-1", ip="10.1.0.1"),)),
    ],
    "machine with three NICs": [
        *dual_stack(1, 2),
        machine("m1", cpus=2),
        port(2, 2, nic=2),
        port(1, 2, nic=0),
        port(1, 3, nic=1),
    ],
    "machine elsewhere": [
        network(1),
        subnet4(1),
        machine("m1", host="h2"),
        port(1, 2),
    ],
    "VNI claimed twice": [
        network(1),
        network(2, vni=1),
        subnet4(1),
        subnet4(2),
        *TWO_MACHINES,
    ],
    "address claimed twice": [
        network(1),
        subnet4(1),
        machine("m1"),
        machine("m2"),
        port(1, 2, "m1"),
        port(1, 3, "m2", fixed_ips=(FixedIp(subnet_id="sub4-1", ip="10.1.0.2"),)),
    ],
    "malformed": [
        network(1),
        subnet4(1, gateway_ip="10.2.0.1"),
        machine("m1"),
        port(1, 2, mac="no mac"),
        port(1, 3, nic=1),
    ],
    "domain that is none": [
        network(1, domain="a..b"),
        subnet6(1),
        router(interface(1)),
        machine("m1"),
        port(1, 2),
    ],
}
