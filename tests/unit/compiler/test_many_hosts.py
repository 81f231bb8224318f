"""What a host holds of others: where they are, what is on them, whom to flood to."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from compiler_intents import (
    HOST,
    detour,
    dual_stack,
    foreign,
    host,
    interface,
    machine,
    network,
    path,
    port,
    presence,
    router,
    static,
    subnet4,
)

from heddle.compiler.addresses import mac_bytes, mapped
from heddle.compiler.cluster import SMALL
from heddle.compiler.host import Compiler
from heddle.compiler.state import (
    QUEUE,
    AddressKey,
    Device,
    EndpointRow,
    FloodHostKey,
    HostState,
    MacKey,
    NeighborRow,
    PortRow,
    RouteRow,
    RowKey,
    Symbol,
    ThisHostRow,
    Tunnel,
    TunnelNetworkRow,
    TunnelSenderKey,
    VtepRow,
)
from heddle.compiler.symbols import ENDPOINT_PORT, ENDPOINT_REMOTE, ROUTE_VIA, VTEP, VTEP_FOREIGN
from heddle.intent.model import HOST_NUMBER_MAX, AnyResource, EnvelopeWay, Kind

TUNNEL = Device("heddle-vxlan")
OWN_TAP = Device("tap0001-0002-p")


def compiled(*objects: AnyResource, of: str = HOST) -> Compiler:
    compiler = Compiler(of)
    compiler.update((r.kind, r.id, r) for r in objects)
    return compiler


def table(state: HostState, name: str) -> dict[object, object]:
    return {key.key: row for key, row in state.rows.items() if key.table == name}


def vtep(number: int, via: int | None = None, mtu: int = 0) -> VtepRow:
    address = mapped(f"192.0.2.{number if via is None else via}")
    return VtepRow(address, mapped("192.0.2.1"), 0 if via is None else number, mtu, 4, VTEP)


def senders(*numbers: int) -> dict[TunnelSenderKey, int]:
    return {TunnelSenderKey(mapped(f"192.0.2.{number}")): number for number in numbers}


HERE: list[AnyResource] = [network(1), subnet4(1), machine("m1"), port(1, 2, "m1")]
THERE = port(1, 3, "m9", host="h2")
PAIR: list[AnyResource] = [host(1), host(2), *HERE, THERE]


# ---- this host -----------------------------------------------------------------


def test_a_host_with_a_vtep_has_a_tunnel() -> None:
    state = compiled(host(1, udp_port=8472)).state
    assert state.tunnel == Tunnel(8472, "192.0.2.1", f"heddle:tunnel:{HOST}")
    assert state.rows == {RowKey("this_host", 0): ThisHostRow(1, TUNNEL, 8472)}


def test_a_host_may_leave_envelopes_to_its_stack() -> None:
    tunnel = compiled(host(1, envelopes=EnvelopeWay.STACK)).state.tunnel
    assert tunnel == Tunnel(4789, "192.0.2.1", f"heddle:tunnel:{HOST}", is_direct=False)


def test_a_host_without_one_has_none() -> None:
    state = compiled(host(1, vtep=""), host(2)).state
    assert state.tunnel is None
    assert state.rows == {RowKey("this_host", 0): ThisHostRow(1, 0)}


def test_a_tunnel_comes_and_goes() -> None:
    compiler = compiled(*PAIR[1:])
    assert compiler.state.tunnel is None
    delta = compiler.update([(Kind.HOST, "host1", host(1))])
    assert delta.tunnel_changed
    assert delta.tunnel is compiler.state.tunnel is not None
    assert not compiler.update([(Kind.HOST, "host1", host(1))]).tunnel_changed
    delta = compiler.update([(Kind.HOST, "host1", None)])
    assert (delta.tunnel_changed, delta.tunnel, compiler.state.tunnel) == (True, None, None)


# ---- ports of others -----------------------------------------------------------


def test_a_port_elsewhere_is_with_its_host() -> None:
    state = compiled(*PAIR).state
    mac = mac_bytes(THERE.mac)
    assert state.rows[RowKey("macs", MacKey(1, mac))] == EndpointRow(ENDPOINT_REMOTE, 2)
    address = RowKey("addresses", AddressKey(1, mapped("10.1.0.3")))
    assert state.rows[address] == NeighborRow(ENDPOINT_REMOTE, 2, mac)
    assert list(state.links) == [OWN_TAP]


def test_a_port_that_moves_is_with_its_new_host() -> None:
    compiler = compiled(*PAIR, host(3))
    moved = THERE.model_copy(update={"host": "h3"})
    delta = compiler.update([(Kind.PORT, moved.id, moved)])
    changed = {
        key.table: row for key, row in delta.rows.items() if key.table in ("macs", "addresses")
    }
    assert changed["macs"] == EndpointRow(ENDPOINT_REMOTE, 3)
    assert changed["addresses"] == NeighborRow(ENDPOINT_REMOTE, 3, mac_bytes(THERE.mac))


def test_networks_that_no_port_here_can_reach_are_not_held() -> None:
    apart = [network(5), subnet4(5), port(5, 3, "m9", host="h2")]
    rows = compiled(*PAIR).state.rows
    with_apart = compiled(*PAIR, *apart).state.rows
    assert {key.table for key in with_apart.keys() - rows.keys()} == {
        "addresses",
        "dhcp4_templates",
        "macs",
    }
    assert not [row for key, row in with_apart.items() if key not in rows and _is_remote(row)]


def _is_remote(row: object) -> bool:
    return getattr(row, "kind", None) == ENDPOINT_REMOTE


def test_what_routers_join_is_held_as_far_as_they_reach() -> None:
    world = [
        *(o for o in dual_stack(1, 2, 3, 4) if o.kind != "router"),
        router(interface(1), interface(2)),
        router(interface(2, "10.2.0.9"), interface(3), number=2),
        host(1),
        host(2),
        machine("m1"),
        port(1, 2),
        *(port(n, 3, "m9", host="h2") for n in (1, 2, 3, 4)),
    ]
    state = compiled(*world).state
    remote = {key.key for key, row in state.rows.items() if _is_remote(row)}
    assert {getattr(key, "network", 0) for key in remote} == {1, 2, 3}
    assert set(table(state, "tunnel_networks")) == {1, 2, 3}
    assert table(state, "flood_hosts") == {FloodHostKey(n, 2): 0 for n in (1, 2, 3)}


def test_a_network_is_held_from_its_first_port_to_its_last() -> None:
    compiler = compiled(*PAIR[:-2], THERE)
    assert not [row for row in compiler.state.rows.values() if _is_remote(row)]
    own = port(1, 2, "m1")
    compiler.update([(Kind.PORT, own.id, own)])
    assert len([row for row in compiler.state.rows.values() if _is_remote(row)]) == 2
    compiler.update([(Kind.PORT, own.id, None)])
    assert not [row for row in compiler.state.rows.values() if _is_remote(row)]


def test_a_next_hop_may_be_elsewhere() -> None:
    """The route leads to the port's address, that to its host."""
    routed = [*dual_stack(1, 2), machine("m1"), port(1, 2), host(1), host(2)]
    via = router(interface(1), interface(2), routes=(static("10.9.0.0/16", "10.2.0.9"),))
    state = compiled(*routed, via, port(2, 9, "m9", host="h2")).state
    (route,) = [row for row in table(state, "routes").values() if _kind(row) == ROUTE_VIA]
    assert isinstance(route, RouteRow)
    hop = state.rows[RowKey("addresses", AddressKey(route.network, route.via))]
    assert isinstance(hop, NeighborRow)
    assert (hop.kind, hop.target) == (ENDPOINT_REMOTE, 2)


def _kind(row: object) -> object:
    return getattr(row, "kind", None)


# ---- other hosts ---------------------------------------------------------------


def test_envelopes_go_to_vteps_and_come_from_them() -> None:
    state = compiled(*PAIR, host(3)).state
    assert table(state, "vteps") == {2: vtep(2), 3: vtep(3)}
    assert table(state, "tunnel_senders") == senders(2, 3)


def test_an_ipv6_underlay() -> None:
    state = compiled(host(1, vtep="2001:db8::1"), host(2, vtep="2001:db8::2"), *HERE, THERE).state
    far, own = mapped("2001:db8::2"), mapped("2001:db8::1")
    assert table(state, "vteps") == {2: VtepRow(far, own, 0, 0, 6, VTEP)}
    assert table(state, "tunnel_senders") == {TunnelSenderKey(far): 2}


MANY: list[AnyResource] = [host(n, vtep=f"192.0.2.{n}") for n in range(1, SMALL + 2)]


def test_in_a_large_cluster_only_needed_hosts_are_known() -> None:
    compiler = compiled(*MANY, *HERE, THERE)
    assert set(table(compiler.state, "vteps")) == {2}
    compiler.update([(Kind.HOST, f"host{SMALL + 1}", None)])
    assert set(table(compiler.state, "vteps")) == set(range(2, SMALL + 1))
    compiler.update([(Kind.HOST, f"host{SMALL + 1}", MANY[-1])])
    assert set(table(compiler.state, "vteps")) == {2}


def test_a_relay_knows_all_hosts_and_is_known() -> None:
    assert set(table(compiled(*MANY, *HERE, detour("h9", "h7")).state, "vteps")) == {7}
    everybody = set(range(2, SMALL + 2))
    assert set(table(compiled(*MANY, *HERE, detour("h9", HOST)).state, "vteps")) == everybody


def test_hosts_on_probed_paths_are_known() -> None:
    found = compiled(*MANY, *HERE, path("h8", "h9"), path("h5"), path("h6", HOST)).state
    assert set(table(found, "vteps")) == {5, 6, 8, 9}


RELAYED: dict[str, tuple[list[AnyResource], VtepRow]] = {
    "straight": ([], vtep(2)),
    "their detour": ([detour("h2", "h3")], vtep(2, via=3)),
    "our detour": ([detour(HOST, "h3")], vtep(2, via=3)),
    "both": ([detour(HOST, "h3"), detour("h2", "h4")], vtep(2, via=4)),
    "they are our relay": ([detour(HOST, "h2")], vtep(2)),
    "we are theirs": ([detour("h2", HOST), detour(HOST, "h3")], vtep(2)),
    "a probed path": ([path("h2", "h3", mtu=1400)], vtep(2, via=3, mtu=1400)),
    "a probed path past the detour": ([detour("h2", "h3"), path("h2")], vtep(2)),
    "a path that we are the relay of": ([path("h2", HOST)], vtep(2)),
}


@pytest.mark.parametrize(("ways", "row"), RELAYED.values(), ids=RELAYED)
def test_the_way_to_a_host(ways: list[AnyResource], row: VtepRow) -> None:
    compiler = compiled(*PAIR, host(3), host(4), *ways)
    assert compiler.errors == {}
    assert table(compiler.state, "vteps")[2] == row
    assert table(compiler.state, "tunnel_senders") == senders(2, 3, 4)


FAULTS: dict[str, tuple[list[AnyResource], tuple[Kind, str], str]] = {
    "no object": (
        [host(1), *HERE, THERE],
        (Kind.HOST, "h2"),
        "host h2: has ports in networks of this host, but no VTEP; start its agent with vtep set "
        "in its heddle.toml",
    ),
    "no VTEP": (
        [host(1), host(2, vtep=""), *HERE, THERE],
        (Kind.HOST, "host2"),
        "host h2: has no VTEP; set vtep in the [host] section of its heddle.toml",
    ),
    "another family": (
        [host(1), host(2, vtep="2001:db8::2"), *HERE, THERE],
        (Kind.HOST, "host2"),
        "host h2: has VTEP 2001:db8::2, of another address family than 192.0.2.1 of this host; "
        "give both hosts one of the same family",
    ),
    "another port": (
        [host(1), host(2, udp_port=8472), *HERE, THERE],
        (Kind.HOST, "host2"),
        "host h2: uses UDP port 8472, this host 4789; set udp_port alike",
    ),
    "no relay": (
        [*PAIR, detour("h2", "h3")],
        (Kind.HOST, "host2"),
        "host h2: its relay is not there; start its agent, or name another relay",
    ),
    "a relay without a VTEP": (
        [*PAIR, host(3, vtep=""), detour("h2", "h3")],
        (Kind.HOST, "host2"),
        "host h2: its relay h3 has no VTEP; set vtep in the [host] section of its heddle.toml",
    ),
    "no VTEP of its own": (
        [host(1, vtep=""), *PAIR[1:]],
        (Kind.HOST, "host1"),
        "host h1: has no VTEP, so that no other host can be reached; set vtep in the [host] "
        "section of heddle.toml",
    ),
    "no object of its own": (
        PAIR[1:],
        (Kind.HOST, "h1"),
        "host h1: other hosts have ports in its networks, but it has no VTEP; set vtep in the "
        "[host] section of heddle.toml",
    ),
}


@pytest.mark.parametrize(("objects", "key", "error"), FAULTS.values(), ids=FAULTS)
def test_a_host_that_can_not_be_reached(
    objects: list[AnyResource], key: tuple[Kind, str], error: str
) -> None:
    compiler = compiled(*objects)
    assert compiler.errors[key] == error
    assert table(compiler.state, "vteps").keys().isdisjoint({2})
    mac = RowKey("macs", MacKey(1, mac_bytes(THERE.mac)))
    row = compiler.state.rows[mac]
    assert isinstance(row, EndpointRow)
    assert row == EndpointRow(ENDPOINT_REMOTE, 0 if key == (Kind.HOST, "h2") else 2)


def test_a_single_host_needs_no_object() -> None:
    assert compiled(*HERE).errors == {}


# ---- flooding ------------------------------------------------------------------


def far_ports(*names: str) -> list[AnyResource]:
    return [port(1, 10 + i, "m9", host=name) for i, name in enumerate(names)]


def flooded(state: HostState, vni: int = 1) -> list[int]:
    """Hosts in the order in which the data plane walks them."""
    row = state.rows[RowKey("tunnel_networks", vni)]
    assert isinstance(row, TunnelNetworkRow)
    found = []
    number: object = row.first_host
    while number:
        assert isinstance(number, int)
        found.append(number)
        number = state.rows[RowKey("flood_hosts", FloodHostKey(vni, number))]
    assert len(found) == len(table(state, "flood_hosts"))
    return found


def test_a_network_knows_where_flooding_begins() -> None:
    state = compiled(*PAIR).state
    expected = TunnelNetworkRow(OWN_TAP, 2, 1450, Symbol("tunnel_network_flag", ()))
    assert state.rows[RowKey("tunnel_networks", 1)] == expected
    alone = compiled(host(1), *HERE).state
    assert alone.rows[RowKey("tunnel_networks", 1)] == expected._replace(first_host=0)


def test_frames_are_flooded_to_each_host_once() -> None:
    hosts = [host(n) for n in (1, 2, 3, 4, 5)]
    compiler = compiled(*hosts, *HERE, *far_ports("h4", "h2", "h5", "h2"))
    assert flooded(compiler.state) == [2, 4, 5]
    late = port(1, 20, "m9", host="h3")
    compiler.update([(Kind.PORT, late.id, late)])
    assert flooded(compiler.state) == [2, 3, 4, 5]
    compiler.update([(Kind.PORT, port(1, 11).id, None)])
    assert flooded(compiler.state) == [2, 3, 4, 5]
    compiler.update([(Kind.PORT, port(1, 13).id, None)])
    assert flooded(compiler.state) == [3, 4, 5]


def test_hosts_without_a_number_are_left_out() -> None:
    compiler = compiled(host(1), host(3), *HERE, *far_ports("h2", "h3"))
    assert flooded(compiler.state) == [3]
    compiler.update([(Kind.HOST, "host2", host(2))])
    assert flooded(compiler.state) == [2, 3]


def test_a_multicast_group_takes_the_place_of_copies() -> None:
    group = HOST_NUMBER_MAX + 1 + 1
    state = compiled(host(1), host(2), *HERE[1:], network(1, flood_group="239.0.0.1"), THERE).state
    assert flooded(state) == [group]
    assert table(state, "vteps")[group] == VtepRow(
        mapped("239.0.0.1"), mapped("192.0.2.1"), 0, 0, 4, VTEP
    )
    assert state.tunnel is not None
    assert state.tunnel.groups == ("239.0.0.1",)


def test_groups_are_joined_while_a_network_needs_them() -> None:
    grouped = [network(n, flood_group=f"239.0.0.{max(n, 2)}") for n in (1, 2, 3)]
    compiler = compiled(host(1), *grouped, machine("m1"), port(1, 2), port(2, 2, nic=1))
    assert _groups(compiler) == ("239.0.0.2",)
    compiler.update([(Kind.PORT, port(1, 2).id, None)])
    assert _groups(compiler) == ("239.0.0.2",)
    compiler.update([(Kind.PORT, port(2, 2).id, port(3, 2, id=port(2, 2).id))])
    assert _groups(compiler) == ("239.0.0.3",)
    compiler.update([(Kind.NETWORK, "net3", network(3))])
    assert _groups(compiler) == ()


def _groups(compiler: Compiler) -> tuple[str, ...]:
    assert compiler.state.tunnel is not None
    return compiler.state.tunnel.groups


# ---- foreign members -----------------------------------------------------------

SWITCH = host(9, name="sw1", foreign=True)


def with_switch(*members: object) -> list[AnyResource]:
    return [host(1), SWITCH, network(1, foreign_members=members), *HERE[1:]]


def test_machines_behind_a_foreign_vtep_are_with_it() -> None:
    member = foreign("sw1", ("02:00:00:00:00:01", "10.1.0.9"), ("02:00:00:00:00:02", None))
    state = compiled(*with_switch(member)).state
    macs = [mac_bytes(f"02:00:00:00:00:0{n}") for n in (1, 2)]
    for mac in macs:
        assert state.rows[RowKey("macs", MacKey(1, mac))] == EndpointRow(ENDPOINT_REMOTE, 9)
    remote = {key: row for key, row in table(state, "addresses").items() if _is_remote(row)}
    assert remote == {AddressKey(1, mapped("10.1.0.9")): NeighborRow(ENDPOINT_REMOTE, 9, macs[0])}
    assert table(state, "vteps") == {9: vtep(9)._replace(flags=VTEP_FOREIGN)}
    assert table(state, "tunnel_senders") == senders(9)
    assert flooded(state) == [9]


def test_a_foreign_member_may_have_to_be_learned() -> None:
    for learn in (False, True):
        state = compiled(*with_switch(foreign("sw1", learn=learn))).state
        row = state.rows[RowKey("tunnel_networks", 1)]
        assert isinstance(row, TunnelNetworkRow)
        assert row.flags.names == (("TUNNEL_LEARN",) if learn else ())


# ---- migration -----------------------------------------------------------------


def moving(**fields: str) -> list[AnyResource]:
    """A machine and its port on their way from h1 to h2."""
    places = {"host": "h1", "migrating_to": "h2"} | fields
    return [
        *(host(n) for n in (1, 2, 3)),
        network(1),
        subnet4(1),
        machine("m1", **places),
        port(1, 2, **places),
    ]


OWN_MAC = mac_bytes(port(1, 2).mac)


def elsewhere(number: int) -> EndpointRow:
    return EndpointRow(ENDPOINT_REMOTE, number)


def port_row(objects: Iterable[AnyResource], of: str) -> PortRow:
    row = compiled(*objects, of=of).state.rows[RowKey("ports", OWN_TAP)]
    assert isinstance(row, PortRow)
    return row


def roles(row: PortRow) -> tuple[set[str], int]:
    return {"PORT_STANDBY", "PORT_AWAY"} & set(row.flags.names), row.elsewhere


ROLES: dict[str, tuple[list[AnyResource], str, tuple[set[str], int]]] = {
    "at its source": (moving(), "h1", (set(), 0)),
    "at its target": (moving(), "h2", ({"PORT_STANDBY"}, 1)),
    "paused at its source": (
        [*moving(), presence("machine-m1", here=False)],
        "h1",
        ({"PORT_AWAY"}, 2),
    ),
    "resumed at its target": ([*moving(), presence("machine-m1", here=True)], "h2", (set(), 0)),
    "moved, at its target": (
        moving(host="h2", migrating_to="", moved_from="h1"),
        "h2",
        (set(), 0),
    ),
    "moved, at its source": (
        moving(host="h2", migrating_to="", moved_from="h1"),
        "h1",
        ({"PORT_AWAY"}, 2),
    ),
}


@pytest.mark.parametrize(("objects", "of", "expected"), ROLES.values(), ids=ROLES)
def test_a_port_on_its_way_is_a_port_of_both_hosts(
    objects: list[AnyResource], of: str, expected: tuple[set[str], int]
) -> None:
    assert roles(port_row(objects, of)) == expected
    state = compiled(*objects, of=of).state
    assert state.links.keys() == {OWN_TAP}
    mac = mac_bytes(port(1, 2).mac)
    assert state.rows[RowKey("macs", MacKey(1, mac))] == EndpointRow(ENDPOINT_PORT, OWN_TAP)


@pytest.mark.parametrize(
    ("objects", "of", "is_longer"),
    [
        (moving(), "h1", True),
        (moving(), "h2", True),
        (moving(host="h2", migrating_to="", moved_from="h1"), "h2", True),
        (moving(host="h2", migrating_to=""), "h2", False),
    ],
    ids=["source", "target", "target when it has moved", "when it has settled"],
)
def test_more_frames_wait_for_a_machine_on_its_way(
    objects: list[AnyResource], of: str, is_longer: bool
) -> None:
    """Until it has settled: an emulated one takes seconds to catch up."""
    link = compiled(*objects, of=of).state.links[OWN_TAP]
    assert (link.queue > QUEUE) == is_longer


@pytest.mark.parametrize(
    ("objects", "at", "flooded_to"),
    [
        (moving(), 1, [1, 2]),
        (moving(host="h2", migrating_to="", moved_from="h1"), 2, [2]),
    ],
    ids=["moving", "moved"],
)
def test_others_know_one_host_for_it(
    objects: list[AnyResource], at: int, flooded_to: list[int]
) -> None:
    """And flood to both while it is between them."""
    third = [machine("m3", host="h3"), port(1, 3, "m3", host="h3")]
    state = compiled(*objects, *third, of="h3").state
    assert state.rows[RowKey("macs", MacKey(1, OWN_MAC))] == elsewhere(at)
    assert flooded(state) == flooded_to


def test_a_container_has_no_place_at_a_target() -> None:
    objects = [o for o in moving() if o.kind != "machine"]
    container = machine("m1", "container", migrating_to="h2")
    state = compiled(*objects, container, of="h2").state
    assert state.links == {}
    assert state.rows[RowKey("macs", MacKey(1, OWN_MAC))] == elsewhere(1)
