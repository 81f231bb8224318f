"""A port's rows and link."""

from __future__ import annotations

import pytest
from compiler_intents import (
    HOST,
    address_pair,
    dual_stack,
    group,
    interface,
    machine,
    network,
    port,
    qos,
    router,
    static,
    subnet4,
    subnet6,
)

from heddle.compiler.host import compile_host
from heddle.compiler.state import (
    AddressKey,
    CounterSlot,
    Device,
    EndpointRow,
    HostState,
    Link,
    MacKey,
    NeighborRow,
    PortRow,
    Rate,
    RowKey,
    Shaping,
    SourcePrefixKey,
    Symbol,
)
from heddle.intent.model import AnyResource, FixedIp, Ipv6Mode

DEVICE = Device("tap0001-0002-p")
MAC = bytes.fromhex("fa163e010102")
PORT_ENDPOINT = Symbol("endpoint_kind", ("ENDPOINT_PORT",))


def mapped(text: str) -> bytes:
    return bytes(10) + b"\xff\xff" + bytes(map(int, text.split(".")))


def ula(where: int, last: int) -> bytes:
    """fd00:<where>::<last>"""
    return bytes.fromhex(f"fd00{where:04x}") + bytes(11) + bytes([last])


def port_row(state: HostState, device: str = DEVICE) -> PortRow:
    row = state.rows[RowKey("ports", Device(device))]
    assert isinstance(row, PortRow)
    return row


def flags(state: HostState) -> set[str]:
    assert port_row(state).flags.enum == "port_flag"
    return set(port_row(state).flags.names)


def test_rows_of_a_vm_port() -> None:
    state = compile_host([*dual_stack(1), machine(), port(1, 2)], HOST)
    assert port_row(state) == PortRow(
        network=1,
        flags=Symbol("port_flag", ("PORT_DHCP4", "PORT_RA")),
        counter_slot=CounterSlot(DEVICE),
        flood_next=DEVICE,
        dhcp4_subnet=1,
        dhcp6_subnet=0,
        dhcp4_address=bytes([10, 1, 0, 2]),
        dhcp6_address=bytes(16),
        mac=MAC,
        mtu=1450,
    )
    assert isinstance(port_row(state).flood_next, Device)
    assert isinstance(port_row(state).counter_slot, CounterSlot)
    assert state.rows[RowKey("macs", MacKey(1, MAC))] == EndpointRow(PORT_ENDPOINT, DEVICE)
    neighbor = NeighborRow(PORT_ENDPOINT, DEVICE, MAC)
    assert state.rows[RowKey("addresses", AddressKey(1, mapped("10.1.0.2")))] == neighbor
    assert state.rows[RowKey("addresses", AddressKey(1, ula(1, 2)))] == neighbor


def test_link_of_a_vm_port() -> None:
    objects = [network(1, mtu=1400), subnet4(1), machine(cpus=2), port(1, 2)]
    assert compile_host(objects, HOST).links == {
        DEVICE: Link(DEVICE, "heddle:port:0001-0002-port", mtu=1400, multiqueue=True)
    }
    objects[2] = machine(cpus=1)
    assert not compile_host(objects, HOST).links[DEVICE].multiqueue


def test_link_of_a_container_port() -> None:
    device = "hdl0001-0002-p"
    state = compile_host([network(1), machine("m1", "container"), port(1, 2, nic=3)], HOST)
    assert state.links == {
        device: Link(
            device,
            "heddle:port:0001-0002-port",
            mtu=1450,
            namespace="heddle-m1",
            peer="eth3",
            peer_mac="fa:16:3e:01:01:02",
        )
    }
    assert port_row(state, device).flags.names == ("PORT_PEER",)


def test_ports_of_a_network_form_a_ring() -> None:
    def ring(*numbers: int) -> dict[str, str]:
        machines = [machine(f"m{n}") for n in numbers]
        objects = [network(1), *machines, *(port(1, n, f"m{n}", fixed_ips=()) for n in numbers)]
        rows = compile_host(objects, HOST).rows
        return {
            str(key.key)[10:12]: row.flood_next[10:12]
            for key, row in rows.items()
            if isinstance(row, PortRow)
        }

    assert ring(2) == {"02": "02"}
    assert ring(3, 2) == {"02": "03", "03": "02"}
    assert ring(4, 2, 3) == {"02": "03", "03": "04", "04": "02"}


IPV6_SUBNETS = {
    "no mode": (subnet6(1, ipv6_mode=None), {"PORT_RA"}, 0, bytes(16)),
    "slaac": (subnet6(1), {"PORT_RA"}, 0, bytes(16)),
    "stateful": (
        subnet6(1, ipv6_mode=Ipv6Mode.STATEFUL),
        {"PORT_RA", "PORT_DHCP6"},
        101,
        ula(1, 2),
    ),
    "stateless": (
        subnet6(1, ipv6_mode=Ipv6Mode.STATELESS),
        {"PORT_RA", "PORT_DHCP6"},
        101,
        bytes(16),
    ),
    "stateful, DHCP off": (
        subnet6(1, ipv6_mode=Ipv6Mode.STATEFUL, enable_dhcp=False),
        {"PORT_RA"},
        0,
        bytes(16),
    ),
}


@pytest.mark.parametrize(
    ("subnet", "wanted", "number", "address"), IPV6_SUBNETS.values(), ids=IPV6_SUBNETS
)
def test_ipv6_modes(subnet: AnyResource, wanted: set[str], number: int, address: bytes) -> None:
    objects = [network(1), subnet, router(interface(1)), machine(), port(1, 2)]
    state = compile_host(objects, HOST)
    assert flags(state) == wanted
    assert port_row(state).dhcp6_subnet == number
    assert port_row(state).dhcp6_address == address


def test_advertisements_need_a_router_at_the_gateway() -> None:
    objects = [network(1), subnet6(1), machine(), port(1, 2)]
    assert "PORT_RA" not in flags(compile_host(objects, HOST))
    other = router(interface(1, "fd00:1::9"))
    assert "PORT_RA" not in flags(compile_host([*objects, other], HOST))
    assert "PORT_RA" in flags(compile_host([*objects, router(interface(1))], HOST))


def test_dhcp_follows_the_first_address() -> None:
    fixed_ips = (
        FixedIp(subnet_id="sub4-x", ip="10.200.0.2"),
        FixedIp(subnet_id="sub4-1", ip="10.1.0.2"),
    )
    silent = subnet4(
        1,
        id="sub4-x",
        number=7,
        cidr="10.200.0.0/24",
        gateway_ip="10.200.0.1",
        enable_dhcp=False,
    )
    objects = [network(1), subnet4(1), silent, machine(), port(1, 2, fixed_ips=fixed_ips)]
    assert flags(compile_host(objects, HOST)) == set()
    objects[-1] = port(1, 2, fixed_ips=fixed_ips[::-1])
    state = compile_host(objects, HOST)
    assert flags(state) == {"PORT_DHCP4"}
    assert port_row(state).dhcp4_subnet == 1


def test_routed_prefixes_may_be_sent_from() -> None:
    objects = [
        *(o for o in dual_stack(1, 2) if o.kind != "router"),
        router(
            interface(1),
            interface(2),
            routes=(
                static("10.9.0.0/16", "10.1.0.2"),
                static("::/0", "fd00:1::2"),
                static("10.8.0.0/16", "10.1.0.3"),
                static("10.7.0.0/16"),
            ),
        ),
        machine(),
        port(1, 2),
    ]
    rows = compile_host(objects, HOST).rows
    assert {key.key: row for key, row in rows.items() if key.table == "source_prefixes"} == {
        SourcePrefixKey(96 + 96 + 16, DEVICE, MAC, mapped("10.9.0.0")): 4,
        SourcePrefixKey(96, DEVICE, MAC, bytes(16)): 6,
        # Of what ::/0 holds, link-local addresses stay whose they are.
        SourcePrefixKey(96 + 10, DEVICE, MAC, bytes.fromhex("fe80").ljust(16, b"\0")): 0,
    }


def test_address_pairs_may_be_sent_from() -> None:
    pairs = (
        address_pair("10.1.0.100/32"),
        address_pair("10.9.0.0/16"),
        address_pair("10.1.0.0/28", "00:00:5e:00:01:01"),
        address_pair("::/0", "fa:16:3e:01:01:02"),
    )
    objects = [
        *(o for o in dual_stack(1) if o.kind != "router"),
        # The port is next hop of what a pair allows as well: one row.
        router(
            interface(1), routes=(static("10.9.0.0/16", "10.1.0.2"), static("::/0", "fd00:1::2"))
        ),
        machine(),
        port(1, 2, address_pairs=pairs),
    ]
    rows = compile_host(objects, HOST).rows
    virtual = bytes.fromhex("00005e000101")
    assert {key.key: row for key, row in rows.items() if key.table == "source_prefixes"} == {
        SourcePrefixKey(96 + 128, DEVICE, MAC, mapped("10.1.0.100")): 4,
        SourcePrefixKey(96 + 112, DEVICE, MAC, mapped("10.9.0.0")): 4,
        SourcePrefixKey(96 + 124, DEVICE, virtual, mapped("10.1.0.0")): 4,
        SourcePrefixKey(96, DEVICE, MAC, bytes(16)): 6,
        SourcePrefixKey(96 + 10, DEVICE, MAC, bytes.fromhex("fe80").ljust(16, b"\0")): 6,
    }


def test_groups_are_numbers_in_order() -> None:
    groups = [group("web", 9), group("db", 3), group("other", 5)]
    guarded = port(1, 2, security_group_ids=("web", "absent", "db", "web"))
    row = port_row(compile_host([network(1), machine(), *groups, guarded], HOST))
    assert (row.group_count, row.groups) == (2, (3, 9))
    assert "PORT_OPEN" not in row.flags.names


def test_without_port_security_no_groups_count() -> None:
    objects = [
        network(1),
        machine(),
        group("web", 9),
        port(1, 2, security_group_ids=("web",), port_security=False),
    ]
    row = port_row(compile_host(objects, HOST))
    assert (row.group_count, row.groups) == (0, ())
    assert "PORT_OPEN" in row.flags.names


FROM_VM = {"rate": 500_000_000, "burst": 65536}
TO_VM = {"rate": 1_000_000_000, "burst": 131072}
SHAPINGS: dict[str, tuple[dict[str, object], Shaping, str, bool]] = {
    "nothing": ({}, Shaping(), "", False),
    "from the VM": (
        {"bandwidth_from_vm": FROM_VM},
        Shaping(from_vm=Rate(500_000_000, 65536)),
        "heddle-shape",
        False,
    ),
    "to the VM": (
        {"bandwidth_to_vm": TO_VM},
        Shaping(to_vm=Rate(1_000_000_000, 131072)),
        "",
        True,
    ),
    "a guarantee": ({"minimum_bandwidth": 7}, Shaping(minimum=7), "heddle-shape", False),
}


@pytest.mark.parametrize(("fields", "shaping", "shaper", "to_vm"), SHAPINGS.values(), ids=SHAPINGS)
@pytest.mark.parametrize("kind", ["vm", "container"])
def test_bandwidth(
    fields: dict[str, object], shaping: Shaping, shaper: str, to_vm: bool, kind: str
) -> None:
    limited = port(1, 2, qos_policy_id="gold")
    objects = [network(1), machine("m1", kind), qos("gold", **fields), limited]
    state = compile_host(objects, HOST)
    (link,) = state.links.values()
    assert link.shaping == shaping
    row = port_row(state, link.name)
    assert row.shaper == (shaper or 0)
    assert isinstance(row.shaper, Device) == bool(shaper)
    assert ("PORT_SHAPED_TO_VM" in row.flags.names) == to_vm


def test_packet_rates_marking_and_connections() -> None:
    policy = qos(
        "gold",
        packet_rate_from_vm={"rate": 3, "burst": 10},
        packet_rate_to_vm={"rate": 1_000_000, "burst": 1000},
        dscp=0,
    )
    limited = port(1, 2, qos_policy_id="gold", connections_max=99)
    row = port_row(compile_host([network(1), machine(), policy, limited], HOST))
    # Rounded up: never more than three packets a second.
    assert (row.from_vm_packet_ns, row.to_vm_packet_ns) == (333_333_334, 1000)
    assert row.packet_burst == 1000
    assert row.connections_max == 99
    assert (row.dscp, "PORT_DSCP" in row.flags.names) == (0, True)
    unmarked = port_row(compile_host([network(1), machine(), qos("gold"), limited], HOST))
    assert (unmarked.dscp, "PORT_DSCP" in unmarked.flags.names) == (0, False)
    assert unmarked.from_vm_packet_ns == unmarked.to_vm_packet_ns == unmarked.packet_burst == 0


def test_a_policy_that_is_absent_limits_nothing() -> None:
    lost = port(1, 2, qos_policy_id="gold")
    state = compile_host([network(1), machine(), lost], HOST)
    assert state.links[DEVICE].shaping == Shaping()
    assert port_row(state).shaper == 0


INCOMPLETE = {
    "no network": [machine(), port(1, 2)],
    "no machine": [network(1), subnet4(1), port(1, 2)],
    "another host": [network(1), machine(), port(1, 2, host="h2")],
    "machine of another host": [network(1), machine(host="h2"), port(1, 2)],
}


@pytest.mark.parametrize("objects", INCOMPLETE.values(), ids=INCOMPLETE)
def test_unplugged_ports_yield_nothing(objects: list[AnyResource]) -> None:
    state = compile_host(objects, HOST)
    assert state.links == {}
    assert not [key for key in state.rows if key.table == "ports"]
    assert not [row for row in state.rows.values() if PORT_ENDPOINT in row]


FOREIGN = {
    "absent": "sub4-9",
    "of another network": "sub4-2",
    "of the other family": "sub6-1",
}


@pytest.mark.parametrize("subnet_id", FOREIGN.values(), ids=FOREIGN)
def test_address_outside_its_subnet_is_left_out(subnet_id: str) -> None:
    fixed_ips = (FixedIp(subnet_id=subnet_id, ip="10.1.0.2"),)
    objects = [*dual_stack(1, 2), machine(), port(1, 2, fixed_ips=fixed_ips)]
    state = compile_host(objects, HOST)
    assert RowKey("addresses", AddressKey(1, mapped("10.1.0.2"))) not in state.rows
    assert port_row(state).dhcp4_address == bytes(4)
    assert state.machines["machine-m1"].nics[0].addresses == ()
