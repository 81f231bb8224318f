"""Unsolicited router advertisements: the frame, and who gets it when."""

from __future__ import annotations

import asyncio

import pytest
from scapy.layers.inet6 import ICMPv6ND_RA, ICMPv6NDOptPrefixInfo, IPv6
from scapy.layers.l2 import Ether

from heddle.agent.advertise import INTERVAL_SECONDS, Advertiser, router_advertisement
from heddle.compiler.state import (
    CounterSlot,
    Device,
    HostDelta,
    PortRow,
    RaTemplateRow,
    RowKey,
    Symbol,
)

MAC = "fa:16:3e:01:02:03"
LINK_LOCAL = "fe80::f816:3eff:fe01:203"


def packet(lifetime: int = 9000) -> Ether:
    advertisement = ICMPv6ND_RA(routerlifetime=lifetime) / ICMPv6NDOptPrefixInfo(prefix="fd00::")
    addresses = IPv6(src=LINK_LOCAL, dst="ff02::1", hlim=255)
    return Ether(src=MAC, dst="33:33:00:00:00:01") / addresses / advertisement


def template(mac: str = MAC) -> RaTemplateRow:
    """As the compiler makes it: the ICMPv6 message with checksum zero."""
    message = bytearray(bytes(packet())[54:])
    message[2:4] = bytes(2)
    return RaTemplateRow(bytes.fromhex(mac.replace(":", "")), len(message), bytes(message))


def port(network: int) -> PortRow:
    flags = Symbol("port_flag", ("PORT_RA",))
    slot, following = CounterSlot("x"), Device("x")
    return PortRow(network, flags, slot, following, 0, 0, bytes(4), bytes(16), bytes(6), 1450)


class Guests:
    """An advertiser, a clock to turn, and what arrived at the devices."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.received: list[tuple[str, bytes]] = []
        self.advertiser = Advertiser(
            lambda device, frame: self.received.append((device, frame)), lambda: self.now
        )

    def update(
        self,
        ports: dict[str, int | None] | None = None,
        templates: dict[int, RaTemplateRow | None] | None = None,
    ) -> list[str]:
        """Apply rows; return the devices that get something because of it."""
        rows = {
            RowKey("ports", Device(name)): None if vni is None else port(vni)
            for name, vni in (ports or {}).items()
        }
        rows |= {RowKey("ra_templates", vni): row for vni, row in (templates or {}).items()}
        self.received.clear()
        self.advertiser.update(HostDelta(rows=rows))
        return self.due()

    def due(self) -> list[str]:
        asyncio.run(self.advertiser.send_due())
        return [device for device, _ in self.received]


@pytest.fixture
def guests() -> Guests:
    return Guests()


def test_the_frame_is_a_valid_advertisement() -> None:
    assert router_advertisement(template()) == bytes(packet())


def test_a_new_advertisement_goes_to_its_network_at_once(guests: Guests) -> None:
    assert guests.update({"a": 7, "b": 7, "c": 8}, {7: template()}) == ["a", "b"]
    assert guests.received[0][1] == bytes(packet())


def test_it_is_repeated_in_time(guests: Guests) -> None:
    guests.update({"a": 7}, {7: template()})
    guests.received.clear()
    guests.now += INTERVAL_SECONDS[0] - 1
    assert guests.due() == []
    guests.now = 1000.0 + INTERVAL_SECONDS[1]
    assert guests.due() == ["a"]


def test_a_port_that_left_gets_no_more(guests: Guests) -> None:
    guests.update({"a": 7, "b": 7}, {7: template()})
    guests.update({"a": None, "b": 8})
    guests.now += INTERVAL_SECONDS[1]
    guests.received.clear()
    assert guests.due() == []


def test_a_router_that_left_says_so(guests: Guests) -> None:
    guests.update({"a": 7}, {7: template()})
    assert guests.update(templates={7: None}) == ["a"]
    assert guests.received == [("a", bytes(packet(lifetime=0)))]
    guests.now += INTERVAL_SECONDS[1]
    guests.received.clear()
    assert guests.due() == []


def test_a_changed_advertisement_goes_out_once(guests: Guests) -> None:
    guests.update({"a": 7}, {7: template()})
    changed = template()._replace(length=16)
    assert guests.update(templates={7: changed}) == ["a"]
    guests.now += INTERVAL_SECONDS[1]
    guests.received.clear()
    assert guests.due() == ["a"], "the schedule of the old one must be gone"


def test_another_router_replaces_the_first(guests: Guests) -> None:
    guests.update({"a": 7}, {7: template()})
    assert guests.update(templates={7: template("fa:16:3e:09:09:09")}) == ["a", "a"]
    farewell, greeting = (Ether(frame) for _, frame in guests.received)
    assert (farewell.src, farewell[ICMPv6ND_RA].routerlifetime) == (MAC, 0)
    assert (greeting.src, greeting[ICMPv6ND_RA].routerlifetime) == ("fa:16:3e:09:09:09", 9000)
