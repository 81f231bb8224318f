"""Which frame a traced machine would send."""

from __future__ import annotations

from typing import Any

import pytest

from heddle.cli.route import Way, choose_way
from heddle.cli.view import View
from heddle.errors import NotFoundError, RequestError

GATEWAY_MAC = "fa:16:3e:00:00:fe"


def network(name: str) -> dict[str, Any]:
    return {"kind": "network", "id": name, "name": name}


def subnet(network_id: str, cidr: str, gateway: str, **more: object) -> dict[str, Any]:
    own = {"kind": "subnet", "id": f"{network_id}-{cidr}", "name": cidr, "network_id": network_id}
    return {**own, "cidr": cidr, "gateway_ip": gateway, "host_routes": [], **more}


def machine(name: str) -> dict[str, Any]:
    return {"kind": "machine", "id": name, "name": name, "machine_kind": "container"}


def port(machine_id: str, nic: int, network_id: str, mac: int, *ips: str) -> dict[str, Any]:
    fixed = []
    for ip in ips:
        cidr, address = ip.split("=")
        fixed.append({"subnet_id": f"{network_id}-{cidr}", "ip": address})
    own = {"kind": "port", "id": f"{machine_id}{nic}-port", "name": f"{machine_id}/{network_id}"}
    mac_text = f"fa:16:3e:00:00:{mac:02x}"
    where = {"machine_id": machine_id, "nic": nic, "network_id": network_id}
    return {**own, **where, "mac": mac_text, "fixed_ips": fixed}


@pytest.fixture
def view() -> View:
    found = View.__new__(View)  # what it reads from the store is given here
    router = {
        "kind": "router",
        "id": "main",
        "name": "main",
        "interfaces": [
            {"network_id": "a", "mac": GATEWAY_MAC, "addresses": ["10.1.0.1", "fd01::1"]},
            {"network_id": "b", "mac": GATEWAY_MAC, "addresses": ["10.2.0.1"]},
        ],
    }
    via = {"destination": "10.9.0.0/16", "nexthop": "10.1.0.3"}
    found.objects = [
        network("a"),
        network("b"),
        network("alone"),
        subnet("a", "10.1.0.0/24", "10.1.0.1", host_routes=[via]),
        subnet("a", "fd01::/64", "fd01::1"),
        subnet("b", "10.2.0.0/24", "10.2.0.1"),
        subnet("alone", "10.3.0.0/24", "10.3.0.1"),
        router,
        *(machine(name) for name in ("m0", "m1", "m2", "m3")),
        port("m0", 0, "a", 0x10, "10.1.0.0/24=10.1.0.2", "fd01::/64=fd01::2"),
        port("m1", 0, "a", 0x11, "10.1.0.0/24=10.1.0.3", "fd01::/64=fd01::3"),
        port("m2", 0, "b", 0x12, "10.2.0.0/24=10.2.0.2"),
        port("m2", 1, "a", 0x13, "10.1.0.0/24=10.1.0.4"),
        port("m3", 0, "alone", 0x14, "10.3.0.0/24=10.3.0.2"),
    ]
    found.statuses = {}
    return found


def mac(last: int) -> bytes:
    return bytes.fromhex("fa163e0000") + bytes([last])


def ends(way: Way) -> tuple[str, str, bytes | None]:
    return way.source, way.destination, way.destination_mac


def test_one_network_goes_straight_there(view: View) -> None:
    way = choose_way(view, "m0", "m1", ipv6=False)
    assert ends(way) == ("10.1.0.2", "10.1.0.3", mac(0x11))
    assert way.source_mac == mac(0x10)
    assert way.port.label == "m0:0"


def test_another_subnet_goes_to_the_gateway(view: View) -> None:
    assert ends(choose_way(view, "m0", "m2:0", ipv6=False)) == ("10.1.0.2", "10.2.0.2", mac(0xFE))


def test_a_shared_network_is_preferred(view: View) -> None:
    assert ends(choose_way(view, "m0", "m2", ipv6=False)) == ("10.1.0.2", "10.1.0.4", mac(0x13))


def test_ipv6(view: View) -> None:
    assert ends(choose_way(view, "m0", "m1", ipv6=True)) == ("fd01::2", "fd01::3", mac(0x11))


def test_an_address_of_nobody_is_asked_for(view: View) -> None:
    assert ends(choose_way(view, "m0", "10.1.0.99", ipv6=False)) == ("10.1.0.2", "10.1.0.99", None)


def test_an_address_elsewhere_goes_to_the_gateway(view: View) -> None:
    assert choose_way(view, "m0", "8.8.8.8", ipv6=False).destination_mac == mac(0xFE)


def test_a_route_given_to_guests_is_followed(view: View) -> None:
    assert choose_way(view, "m0", "10.9.1.1", ipv6=False).destination_mac == mac(0x11)


@pytest.mark.parametrize(
    ("group", "mac_text"),
    [
        ("224.0.0.251", "01005e0000fb"),
        ("239.255.128.1", "01005e7f8001"),
        ("ff02::1", "333300000001"),
        ("ff15::ab:1:ff00", "33330001ff00"),
        ("10.1.0.255", "ffffffffffff"),
        ("255.255.255.255", "ffffffffffff"),
    ],
)
def test_what_is_for_many_goes_to_many(view: View, group: str, mac_text: str) -> None:
    """RFC 1112 6.4, RFC 2464 7."""
    assert choose_way(view, "m0", group, ipv6=False).destination_mac == bytes.fromhex(mac_text)


def test_the_gateway_itself(view: View) -> None:
    assert choose_way(view, "m0", "10.1.0.1", ipv6=False).destination_mac == mac(0xFE)


@pytest.mark.parametrize(
    ("source", "destination", "error", "words"),
    [
        ("m9", "m0", NotFoundError, "no machine 'm9'; there is: m0, m1, m2, m3"),
        ("m0:7", "m1", NotFoundError, "m0:7: the machine has no such NIC"),
        ("m3", "m0", RequestError, "network alone has no router at 10.3.0.1"),
        ("m2:0", "fd01::2", RequestError, "m2:0 has no IPv6 address"),
    ],
)
def test_what_does_not_fit_is_said(
    view: View, source: str, destination: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        choose_way(view, source, destination, ipv6=False)
