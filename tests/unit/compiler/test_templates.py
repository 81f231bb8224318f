"""The rendered answers: read back with scapy, and byte for byte where layouts
are easy to get wrong."""

from __future__ import annotations

import pytest
from compiler_intents import HOST, host_route, interface, network, router, subnet4, subnet6
from scapy.layers.dhcp import DHCP
from scapy.layers.dhcp6 import (
    DUID_LL,
    DHCP6_Reply,
    DHCP6OptDNSDomains,
    DHCP6OptDNSServers,
    DHCP6OptServerId,
)
from scapy.layers.inet6 import (
    ICMPv6ND_RA,
    ICMPv6NDOptDNSSL,
    ICMPv6NDOptMTU,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptRDNSS,
    ICMPv6NDOptRouteInfo,
    ICMPv6NDOptSrcLLAddr,
)

from heddle.compiler.claims import service_mac
from heddle.compiler.fragment import Limits
from heddle.compiler.host import Compiler, compile_host
from heddle.compiler.state import Dhcp4TemplateRow, Dhcp6TemplateRow, RaTemplateRow, RowKey
from heddle.intent.model import AnyResource, Ipv6Mode, Kind, Network, Subnet

MAC = interface(1).mac
GATEWAY = router(interface(1))
LIMITS = Limits(dhcp_options=304, ra_message=480, groups=16, sets=64)


def dhcp4(*objects: AnyResource) -> Dhcp4TemplateRow:
    row = compile_host(objects, HOST).rows[RowKey("dhcp4_templates", 1)]
    assert isinstance(row, Dhcp4TemplateRow)
    assert row.options_length == len(row.options)
    return row


def dhcp4_options(*objects: AnyResource) -> dict[str, tuple[object, ...]]:
    """As scapy reads them."""
    *options, end = DHCP(dhcp4(*objects).options).options
    assert end == "end"
    return {option[0]: option[1:] for option in options}


def dhcp6(*objects: AnyResource) -> Dhcp6TemplateRow:
    row = compile_host(objects, HOST).rows[RowKey("dhcp6_templates", 101)]
    assert isinstance(row, Dhcp6TemplateRow)
    assert row.options_length == len(row.options)
    return row


def advertisement(*objects: AnyResource) -> RaTemplateRow:
    row = compile_host(objects, HOST).rows[RowKey("ra_templates", 1)]
    assert isinstance(row, RaTemplateRow)
    assert row.length == len(row.message)
    assert row.length % 8 == 0
    return row


class TestDhcp4:
    def test_everything(self) -> None:
        options = dhcp4_options(
            network(1, mtu=1400, domain="one.example"),
            subnet4(1, dns=("9.9.9.9", "fd00::53", "8.8.8.8"), lease_time=3600),
            GATEWAY,
        )
        assert options == {
            "server_id": ("10.1.0.1",),
            "lease_time": (3600,),
            "renewal_time": (1800,),
            "rebinding_time": (3150,),
            "subnet_mask": ("255.255.255.0",),
            "router": ("10.1.0.1",),
            "name_server": ("9.9.9.9", "8.8.8.8"),
            "domain": (b"one.example",),
            "interface-mtu": (1400,),
        }

    def test_bytes(self) -> None:
        row = dhcp4(network(1), subnet4(1), GATEWAY)
        assert row.options.hex(" ") == (
            "36 04 0a 01 00 01 "  # server identifier
            "33 04 00 01 51 80 "  # lease: a day
            "3a 04 00 00 a8 c0 "  # T1
            "3b 04 00 01 27 50 "  # T2
            "01 04 ff ff ff 00 "  # mask
            "03 04 0a 01 00 01 "  # router
            "1a 02 05 aa "  # MTU
            "ff"
        )
        assert row.server_mac == bytes.fromhex(MAC.replace(":", ""))
        assert row.server_address == bytes([10, 1, 0, 1])

    def test_without_a_router(self) -> None:
        subnet = subnet4(1)
        assert "router" not in dhcp4_options(network(1), subnet)
        assert dhcp4(network(1), subnet).server_mac.hex(":") == service_mac(subnet)

    def test_forever(self) -> None:
        options = dhcp4_options(network(1), subnet4(1, lease_time=0xFFFFFFFF))
        for name in ("lease_time", "renewal_time", "rebinding_time"):
            assert options[name] == (0xFFFFFFFF,)

    def test_classless_routes_carry_the_default_route(self) -> None:
        """RFC 3442: the examples of its table, and what replaces option 3."""
        routes = (
            host_route("10.0.0.0/8", "10.1.0.9"),
            host_route("10.17.0.0/16", "10.1.0.9"),
            host_route("10.229.0.128/25", "10.1.0.9"),
            host_route("10.198.122.47/32", "10.1.0.9"),
        )
        row = dhcp4(network(1), subnet4(1, host_routes=routes), GATEWAY)
        expected = bytes.fromhex(
            "08 0a 0a 01 00 09"
            "10 0a 11 0a 01 00 09"
            "19 0a e5 00 80 0a 01 00 09"
            "20 0a c6 7a 2f 0a 01 00 09"
            "00 0a 01 00 01"
        )
        assert row.options.endswith(bytes([121, len(expected)]) + expected + b"\xff")

    def test_explicit_default_route_stands(self) -> None:
        routes = (host_route("0.0.0.0/0", "10.1.0.9"),)
        row = dhcp4(network(1), subnet4(1, host_routes=routes), GATEWAY)
        assert row.options.endswith(bytes([121, 5, 0, 10, 1, 0, 9, 255]))

    def test_no_default_route_without_a_router(self) -> None:
        routes = (host_route("10.8.0.0/16", "10.1.0.9"),)
        row = dhcp4(network(1), subnet4(1, host_routes=routes))
        assert row.options.endswith(bytes([121, 7, 16, 10, 8, 10, 1, 0, 9, 255]))

    def test_long_options_continue(self) -> None:
        """RFC 3396: 40 routes of 7 bytes and a default of 5 take two options."""
        routes = tuple(host_route(f"10.{n}.0.0/16", "10.1.0.9") for n in range(40))
        options = dhcp4(network(1), subnet4(1, host_routes=routes), GATEWAY).options
        first = options.index(bytes([121, 255]))
        second = first + 2 + 255
        assert options[second : second + 2] == bytes([121, 40 * 7 + 5 - 255])
        assert len(options) == second + 2 + 40 * 7 + 5 - 255 + 1

    def test_off(self) -> None:
        rows = compile_host([network(1), subnet4(1, enable_dhcp=False)], HOST).rows
        assert rows == {}


class TestDhcp6:
    STATEFUL = subnet6(
        1, ipv6_mode=Ipv6Mode.STATEFUL, dns=("fd00::53", "9.9.9.9", "fd00::54"), lease_time=600
    )

    def test_everything(self) -> None:
        row = dhcp6(network(1, domain="one.example"), self.STATEFUL, GATEWAY)
        message = DHCP6_Reply(DHCP6_Reply(trid=1).build() + row.options)
        assert message[DHCP6OptServerId].duid == DUID_LL(hwtype=1, lladdr=MAC)
        assert message[DHCP6OptDNSServers].dnsservers == ["fd00::53", "fd00::54"]
        assert message[DHCP6OptDNSDomains].dnsdomains == ["one.example."]
        assert (row.preferred_lifetime, row.valid_lifetime) == (600, 600)

    def test_bytes(self) -> None:
        row = dhcp6(network(1, domain="a.bc"), subnet6(1, ipv6_mode=Ipv6Mode.STATELESS), GATEWAY)
        assert row.options.hex(" ") == (
            "00 02 00 0a 00 03 00 01 fa 16 3e 00 01 01 "  # server identifier, DUID-LL
            "00 18 00 06 01 61 02 62 63 00"  # domain list
        )
        assert row.server_id_length == 10
        assert row.server_mac == bytes.fromhex("fa163e000101")

    @pytest.mark.parametrize("mode", [None, Ipv6Mode.SLAAC])
    def test_not_served(self, mode: Ipv6Mode | None) -> None:
        rows = compile_host([network(1), subnet6(1, ipv6_mode=mode)], HOST).rows
        assert not [key for key in rows if key.table == "dhcp6_templates"]


class TestRouterAdvertisement:
    def test_everything(self) -> None:
        row = advertisement(
            network(1, mtu=1400, domain="one.example"),
            subnet6(
                1,
                dns=("fd00::53", "9.9.9.9"),
                host_routes=(
                    host_route("fd00:8::/32", "fd00:1::1"),
                    host_route("fd00:9::/32", "fd00:1::9"),
                ),
            ),
            GATEWAY,
        )
        message = ICMPv6ND_RA(row.message)
        assert row.router_mac == bytes.fromhex(MAC.replace(":", ""))
        assert (message.type, message.code, message.cksum) == (134, 0, 0)
        assert (message.chlim, message.routerlifetime) == (64, 9000)
        assert (message.M, message.O, message.prf) == (0, 0, 0)
        assert (message.reachabletime, message.retranstimer) == (0, 0)
        assert message[ICMPv6NDOptSrcLLAddr].lladdr == MAC
        assert message[ICMPv6NDOptMTU].mtu == 1400
        prefix = message[ICMPv6NDOptPrefixInfo]
        assert (prefix.prefix, prefix.prefixlen, prefix.L, prefix.A) == ("fd00:1::", 64, 1, 1)
        assert (prefix.validlifetime, prefix.preferredlifetime) == (2592000, 604800)
        route = message[ICMPv6NDOptRouteInfo]
        assert (route.prefix, route.plen, route.rtlifetime) == ("fd00:8::", 32, 9000)
        assert message[ICMPv6NDOptRDNSS].dns == ["fd00::53"]
        assert message[ICMPv6NDOptRDNSS].lifetime == 9000
        assert message[ICMPv6NDOptDNSSL].searchlist == ["one.example."]

    def test_bytes(self) -> None:
        row = advertisement(network(1, domain="one"), subnet6(1), GATEWAY)
        assert row.message.hex(" ") == (
            "86 00 00 00 40 00 23 28 00 00 00 00 00 00 00 00 "
            "01 01 fa 16 3e 00 01 01 "  # source link-layer address
            "05 01 00 00 00 00 05 aa "  # MTU
            "03 04 40 c0 00 27 8d 00 00 09 3a 80 00 00 00 00 "  # prefix information
            "fd 00 00 01 00 00 00 00 00 00 00 00 00 00 00 00 "
            "1f 02 00 00 00 00 23 28 03 6f 6e 65 00 00 00 00"  # DNSSL
        )

    @pytest.mark.parametrize(
        ("prefix", "units"), [("::/0", 1), ("fd00::/16", 2), ("fd00::/64", 2), ("fd00::/65", 3)]
    )
    def test_route_information_is_as_long_as_its_prefix(self, prefix: str, units: int) -> None:
        """RFC 4191 2.3."""
        subnet = subnet6(1, host_routes=(host_route(prefix, "fd00:1::1"),))
        option = advertisement(network(1), subnet, GATEWAY).message[64:]
        assert option[:2] == bytes([24, units])
        assert len(option) == 8 * units

    @pytest.mark.parametrize(
        ("mode", "managed", "other", "autonomous"),
        [
            (None, 0, 0, 0),
            (Ipv6Mode.SLAAC, 0, 0, 1),
            (Ipv6Mode.STATEFUL, 1, 0, 0),
            (Ipv6Mode.STATELESS, 0, 1, 1),
        ],
    )
    def test_modes(self, mode: Ipv6Mode | None, managed: int, other: int, autonomous: int) -> None:
        row = advertisement(network(1), subnet6(1, ipv6_mode=mode), GATEWAY)
        message = ICMPv6ND_RA(row.message)
        assert (managed, other) == (message.M, message.O)
        assert autonomous == message[ICMPv6NDOptPrefixInfo].A

    def test_all_subnets_of_the_network(self) -> None:
        second = subnet6(1, id="x", number=9, cidr="fd00:77::/64", gateway_ip="fd00:77::1")
        row = advertisement(network(1), subnet6(1), second, GATEWAY)
        message = ICMPv6ND_RA(row.message)
        prefixes = []
        while ICMPv6NDOptPrefixInfo in message:
            prefixes.append(message[ICMPv6NDOptPrefixInfo].prefix)
            message = message[ICMPv6NDOptPrefixInfo].payload
        assert prefixes == ["fd00:1::", "fd00:77::"]

    def test_nobody_advertises_without_a_router(self) -> None:
        rows = compile_host([network(1), subnet6(1)], HOST).rows
        assert not [key for key in rows if key.table == "ra_templates"]


def many_servers(subnet: Subnet, text: str) -> Subnet:
    servers = tuple(text.format(n) for n in range(1, 100))
    return subnet.model_copy(update={"dns": servers})


LONG_DOMAIN = ".".join(["x" * 60] * 4)
TOO_MUCH: dict[str, tuple[Network, Subnet, Kind, str]] = {
    "DHCP": (
        network(1),
        many_servers(subnet4(1), "10.0.0.{}"),
        Kind.SUBNET,
        "subnet net1/4: its DHCP options take 441 bytes, but only 304 fit; give fewer DNS",
    ),
    "DHCPv6": (
        network(1, domain=LONG_DOMAIN),
        subnet6(1, ipv6_mode=Ipv6Mode.STATEFUL, dns=("fd00::53", "fd00::54", "fd00::55")),
        Kind.SUBNET,
        "subnet net1/6: its DHCPv6 options take 315 bytes, but only 304 fit; give fewer DNS",
    ),
    "advertisement": (
        network(1),
        many_servers(subnet6(1), "fd00::{}"),
        Kind.NETWORK,
        "network net1: its router advertisement takes 1656 bytes, but only 480 fit; give fewer",
    ),
    "domain": (
        network(1, domain="one..example"),
        subnet6(1),
        Kind.NETWORK,
        "network net1: domain 'one..example' is no domain name; give labels of 1 to 63",
    ),
}


@pytest.mark.parametrize(("net", "subnet", "kind", "error"), TOO_MUCH.values(), ids=TOO_MUCH)
def test_what_does_not_fit_is_left_out_and_named(
    net: Network, subnet: Subnet, kind: Kind, error: str
) -> None:
    compiler = Compiler(HOST, LIMITS)
    compiler.update((r.kind, r.id, r) for r in (net, subnet, GATEWAY))
    assert [key[0] for key in compiler.errors] == [kind]
    (message,) = compiler.errors.values()
    assert message.startswith(error)
    assert any(key.table == "router_interfaces" for key in compiler.state.rows)
    good = (network(1), subnet.model_copy(update={"dns": ()}))
    compiler.update((r.kind, r.id, r) for r in good)
    assert compiler.errors == {}
