"""DHCPv6 is answered from the subnet's template (RFC 8415)."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

import pytest
from packet_world import (
    MAIN_WEB,
    PREFERRED,
    SERVER_DUID,
    VALID,
    WEB1,
    WEB2,
    WEB3,
    WEB_OPTIONS6,
    WEB_SUBNET6,
    Nic,
    mac_bytes,
    option6,
)
from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from tests.packets.conftest import Sent, Switchboard

Send = Callable[..., Sent]
SERVERS, SERVERS_MAC = "ff02::1:2", "33:33:00:01:00:02"
TRANSACTION = b"\xab\xcd\xef"
SOLICIT, ADVERTISE, REQUEST, CONFIRM, RENEW, REBIND, REPLY = 1, 2, 3, 4, 5, 6, 7
RELEASE, DECLINE, RECONFIGURE, INFORMATION, RELAY = 8, 9, 10, 11, 12
IAID = b"\0\0\0\x07"
OTHER_DUID = b"\0\x03\0\x01" + mac_bytes(WEB2.mac)


def client_id(nic: Nic) -> bytes:
    return option6(1, b"\0\x03\0\x01" + mac_bytes(nic.mac))


def ia_na(*parts: bytes) -> bytes:
    return option6(3, IAID + bytes(8) + b"".join(parts))


def ia_address(address: str, preferred: int = 0, valid: int = 0) -> bytes:
    packed = ipaddress.ip_address(address).packed
    return option6(5, packed + preferred.to_bytes(4, "big") + valid.to_bytes(4, "big"))


SERVER_ID = option6(2, SERVER_DUID)
WANTED = option6(6, b"\0\x17\0\x18") + option6(8, b"\0\0")  # option request, elapsed time
CLIENT = client_id(WEB1)


def request(kind: int, *options: bytes, nic: Nic = WEB1) -> Packet:
    return (
        Ether(src=nic.mac, dst=SERVERS_MAC)
        / IPv6(src=nic.link_local, dst=SERVERS, hlim=1)
        / UDP(sport=546, dport=547)
        / Raw(bytes([kind]) + TRANSACTION + b"".join(options))
    )


def reply(kind: int, *options: bytes, nic: Nic = WEB1) -> Packet:
    return (
        Ether(src=MAIN_WEB.mac, dst=nic.mac)
        / IPv6(src=MAIN_WEB.link_local, dst=nic.link_local, hlim=64)
        / UDP(sport=547, dport=546)
        / Raw(bytes([kind]) + TRANSACTION + b"".join(options))
    )


def lease(nic: Nic = WEB1) -> bytes:
    """IA_NA with the port's address; T1 and T2 are 1/2 and 4/5 (RFC 8415 21.4)."""
    times = (PREFERRED // 2).to_bytes(4, "big") + (PREFERRED * 4 // 5).to_bytes(4, "big")
    return option6(3, IAID + times + ia_address(nic.ipv6, PREFERRED, VALID))


def test_advertise(send: Send) -> None:
    sent = send("web1", request(SOLICIT, CLIENT, ia_na(), WANTED))
    sent.arrives("web1", reply(ADVERTISE, WEB_OPTIONS6, lease(), CLIENT))
    assert sent.trace.decision("STAGE_ANSWER") == "DECISION_DHCP6_ADVERTISE"


WITH_ADDRESS = {
    "request": request(REQUEST, CLIENT, SERVER_ID, ia_na(ia_address(WEB1.ipv6)), WANTED),
    "request without a hint": request(REQUEST, CLIENT, SERVER_ID, ia_na()),
    "renew": request(RENEW, CLIENT, SERVER_ID, ia_na(ia_address(WEB1.ipv6))),
    "rebind": request(REBIND, CLIENT, ia_na(ia_address(WEB1.ipv6))),
    "options in another order": request(REQUEST, WANTED, ia_na(), SERVER_ID, CLIENT),
}


@pytest.mark.parametrize("name", WITH_ADDRESS)
def test_reply_with_the_address(send: Send, name: str) -> None:
    sent = send("web1", WITH_ADDRESS[name])
    sent.arrives("web1", reply(REPLY, WEB_OPTIONS6, lease(), CLIENT))
    assert sent.trace.decision("STAGE_ANSWER") == "DECISION_DHCP6_REPLY"


def test_every_port_gets_its_own(send: Send) -> None:
    frame = request(SOLICIT, client_id(WEB2), ia_na(), nic=WEB2)
    expected = reply(ADVERTISE, WEB_OPTIONS6, lease(WEB2), client_id(WEB2), nic=WEB2)
    send("web2", frame).arrives("web2", expected)


@pytest.mark.parametrize("options", [(), (CLIENT,)], ids=["anonymous", "named"])
def test_information_without_an_address(send: Send, options: tuple[bytes, ...]) -> None:
    """Stateless: the servers and domains alone (RFC 8415 18.3.6)."""
    sent = send("web1", request(INFORMATION, *options, WANTED))
    sent.arrives("web1", reply(REPLY, WEB_OPTIONS6, *options))


STATUS_SUCCESS = option6(13, b"\0\0")
WITH_STATUS = {
    "confirm": request(CONFIRM, CLIENT, ia_na(ia_address(WEB1.ipv6))),
    "release": request(RELEASE, CLIENT, SERVER_ID, ia_na(ia_address(WEB1.ipv6))),
    "decline": request(DECLINE, CLIENT, SERVER_ID, ia_na(ia_address(WEB1.ipv6))),
}


@pytest.mark.parametrize("name", WITH_STATUS)
def test_reply_with_a_status(send: Send, name: str) -> None:
    sent = send("web1", WITH_STATUS[name])
    sent.arrives("web1", reply(REPLY, WEB_OPTIONS6, STATUS_SUCCESS, CLIENT))


SILENT = {
    "another server's": request(REQUEST, CLIENT, option6(2, OTHER_DUID), ia_na()),
    "another server's, shorter": request(REQUEST, CLIENT, option6(2, SERVER_DUID[:-1]), ia_na()),
    "another server's, longer": request(RENEW, CLIENT, option6(2, SERVER_DUID + b"x"), ia_na()),
    "no IA": request(SOLICIT, CLIENT),
    "prefix delegation": request(SOLICIT, CLIENT, option6(25, IAID + bytes(8))),
}


@pytest.mark.parametrize("name", SILENT)
def test_no_answer_is_due(send: Send, name: str) -> None:
    sent = send("web1", SILENT[name])
    assert (sent.to, sent.reason) == (None, None)
    assert sent.trace.decision("STAGE_ANSWER") == "DECISION_CONSUMED"


INVALID = {
    "solicit without client": request(SOLICIT, ia_na()),
    "solicit with server": request(SOLICIT, CLIENT, SERVER_ID, ia_na()),
    "request without server": request(REQUEST, CLIENT, ia_na()),
    "renew without server": request(RENEW, CLIENT, ia_na()),
    "rebind with server": request(REBIND, CLIENT, SERVER_ID, ia_na()),
    "confirm with server": request(CONFIRM, CLIENT, SERVER_ID, ia_na()),
    "release without server": request(RELEASE, CLIENT, ia_na()),
    "decline without client": request(DECLINE, SERVER_ID, ia_na()),
    "an advertise": request(ADVERTISE, CLIENT, SERVER_ID),
    "a reply": request(REPLY, CLIENT, SERVER_ID),
    "a reconfigure": request(RECONFIGURE, CLIENT, SERVER_ID),
    "relayed": request(RELAY, bytes(30)),
    "unknown type": request(99, CLIENT),
    "option beyond the end": request(SOLICIT, CLIENT, b"\0\x03\0\x40" + bytes(12)),
    "half an option": request(SOLICIT, CLIENT, b"\0\x03"),
    "short IA": request(SOLICIT, CLIENT, option6(3, b"\0\0")),
    "short IA before another option": request(SOLICIT, option6(3, b"\0\0"), CLIENT),
    "client identifier too long": request(SOLICIT, option6(1, bytes(131)), ia_na()),
    "empty": Ether(src=WEB1.mac, dst=SERVERS_MAC)
    / IPv6(src=WEB1.link_local, dst=SERVERS, hlim=1)
    / UDP(sport=546, dport=547),
}


@pytest.mark.parametrize("name", INVALID)
def test_what_no_server_would_answer(send: Send, name: str) -> None:
    sent = send("web1", INVALID[name])
    assert (sent.to, sent.reason) == (None, "DROP_DHCP_INVALID")


@pytest.mark.parametrize("length", [3, 14, 18, 127, 130])
def test_client_identifiers_of_every_length(send: Send, length: int) -> None:
    """A DUID has 1 to 128 bytes behind its type (RFC 8415 11.1)."""
    identifier = option6(1, bytes(range(length)))
    sent = send("web1", request(SOLICIT, identifier, ia_na()))
    sent.arrives("web1", reply(ADVERTISE, WEB_OPTIONS6, lease(), identifier))


@pytest.mark.parametrize("extra", [0, 1, 2, 3, 150])
def test_options_of_every_length(board: Switchboard, send: Send, extra: int) -> None:
    options = WEB_OPTIONS6 + option6(200, b"z" * extra)
    assert len(options) <= board.world.value("DHCP_OPTIONS_MAX")
    board.world.put_dhcp6(WEB_SUBNET6, MAIN_WEB.mac, SERVER_DUID, options)
    sent = send("web1", request(SOLICIT, CLIENT, ia_na()))
    sent.arrives("web1", reply(ADVERTISE, options, lease(), CLIENT))


def test_port_without_an_address_is_told_the_rest(board: Switchboard, send: Send) -> None:
    """A SLAAC subnet: information is given, an address is not."""
    board.world.write_port(WEB1, dhcp6_address=bytes(16))
    silent = send("web1", request(SOLICIT, CLIENT, ia_na()))
    assert silent.trace.decision("STAGE_ANSWER") == "DECISION_CONSUMED"
    sent = send("web1", request(INFORMATION, CLIENT))
    sent.arrives("web1", reply(REPLY, WEB_OPTIONS6, CLIENT))


def test_port_without_dhcpv6_hears_its_network(board: Switchboard) -> None:
    told = board.trace("web3", request(SOLICIT, client_id(WEB3), ia_na(), nic=WEB3))
    assert told.decision("STAGE_SWITCH") == "DECISION_SWITCH_FLOOD"


def test_answer_really_reaches_the_tap(board: Switchboard) -> None:
    board.devices["web1"].write(bytes(request(SOLICIT, CLIENT, ia_na())))
    expected = reply(ADVERTISE, WEB_OPTIONS6, lease(), CLIENT)
    assert board.devices["web1"].read() == bytes(expected)
