"""A router's interfaces and routes."""

from __future__ import annotations

from compiler_intents import HOST, dual_stack, interface, network, router, static, subnet4, subnet6
from test_port import mapped, ula

from heddle.compiler.host import compile_host
from heddle.compiler.state import (
    AddressKey,
    EndpointRow,
    HostState,
    MacKey,
    NeighborRow,
    RouteKey,
    RouterInterfaceKey,
    RouterInterfaceRow,
    RouteRow,
    RowKey,
    Symbol,
)
from heddle.intent.model import AnyResource, Route

ROUTER = Symbol("endpoint_kind", ("ENDPOINT_ROUTER",))
CONNECTED = Symbol("route_kind", ("ROUTE_CONNECTED",))
VIA = Symbol("route_kind", ("ROUTE_VIA",))
BLACKHOLE = Symbol("route_kind", ("ROUTE_BLACKHOLE",))
MAC = bytes.fromhex("fa163e000101")
NOWHERE = bytes(16)


def with_routes(*routes: Route) -> list[AnyResource]:
    plain = [o for o in dual_stack(1, 2) if o.kind != "router"]
    return [*plain, router(interface(1), interface(2), number=7, routes=routes)]


def routes_of(state: HostState) -> dict[tuple[int, bytes], RouteRow]:
    """By prefix length out of 128, and address."""
    return {
        (key.key.prefix_bits - 32, key.key.address): row
        for key, row in state.rows.items()
        if isinstance(key.key, RouteKey) and isinstance(row, RouteRow)
    }


def test_interface() -> None:
    objects = [network(1, mtu=1400), subnet4(1), router(interface(1), number=7)]
    rows = compile_host(objects, HOST).rows
    assert rows[RowKey("router_interfaces", RouterInterfaceKey(7, 1))] == RouterInterfaceRow(
        MAC, 1400, mapped("10.1.0.1"), ula(1, 1)
    )
    assert rows[RowKey("macs", MacKey(1, MAC))] == EndpointRow(ROUTER, 7)
    for address in (mapped("10.1.0.1"), ula(1, 1)):
        assert rows[RowKey("addresses", AddressKey(1, address))] == NeighborRow(ROUTER, 7, MAC)


def test_interface_of_one_family() -> None:
    rows = compile_host([network(1), router(interface(1, "10.1.0.1"))], HOST).rows
    row = rows[RowKey("router_interfaces", RouterInterfaceKey(1, 1))]
    assert isinstance(row, RouterInterfaceRow)
    assert row.address6 == NOWHERE


def test_connected_routes() -> None:
    assert routes_of(compile_host(with_routes(), HOST)) == {
        (96 + 24, mapped("10.1.0.0")): RouteRow(CONNECTED, 1, 4, 24, NOWHERE),
        (96 + 24, mapped("10.2.0.0")): RouteRow(CONNECTED, 2, 4, 24, NOWHERE),
        (64, ula(1, 0)): RouteRow(CONNECTED, 1, 6, 64, NOWHERE),
        (64, ula(2, 0)): RouteRow(CONNECTED, 2, 6, 64, NOWHERE),
    }


def test_subnet_without_an_address_of_the_router_is_not_connected() -> None:
    objects = [network(1), subnet4(1), subnet6(1), router(interface(1, "10.1.0.9"))]
    assert set(routes_of(compile_host(objects, HOST))) == {(96 + 24, mapped("10.1.0.0"))}


def test_static_routes() -> None:
    connected = routes_of(compile_host(with_routes(), HOST))
    state = compile_host(
        with_routes(
            static("0.0.0.0/0", "10.2.0.9"),
            static("::/0", "fd00:1::9"),
            static("10.66.0.0/16"),
        ),
        HOST,
    )
    assert routes_of(state) == {
        **connected,
        (96, mapped("0.0.0.0")): RouteRow(VIA, 2, 4, 0, mapped("10.2.0.9")),  # noqa: S104
        (0, NOWHERE): RouteRow(VIA, 1, 6, 0, ula(1, 9)),
        (96 + 16, mapped("10.66.0.0")): RouteRow(BLACKHOLE, 0, 4, 16, NOWHERE),
    }


def test_routes_that_add_nothing() -> None:
    connected = routes_of(compile_host(with_routes(), HOST))
    nowhere = static("10.9.0.0/16", "10.3.0.9")
    equal_to_connected = static("10.1.0.0/24", "10.2.0.9")
    assert routes_of(compile_host(with_routes(nowhere, equal_to_connected), HOST)) == connected


def test_missing_network_takes_only_its_interface() -> None:
    objects = [network(1), subnet4(1), router(interface(1), interface(2))]
    state = compile_host(objects, HOST)
    assert {key.key.network for key in state.rows if isinstance(key.key, RouterInterfaceKey)} == {1}
    assert set(routes_of(state)) == {(96 + 24, mapped("10.1.0.0"))}
