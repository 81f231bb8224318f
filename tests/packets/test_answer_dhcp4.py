"""DHCPv4 is answered from the subnet's template (RFC 2131, 2132)."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

import pytest
from packet_world import (
    LONE1,
    LONE_OPTIONS4,
    LONE_SERVER,
    MAIN_WEB,
    SERVICE_MAC,
    WEB1,
    WEB2,
    WEB3,
    WEB_OPTIONS4,
    WEB_SUBNET4,
    Nic,
    mac_bytes,
    option,
)
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from tests.packets.conftest import Sent, Switchboard

Send = Callable[..., Sent]
BROADCAST = "ff:ff:ff:ff:ff:ff"
UNSPECIFIED, EVERYONE = "0.0.0.0", "255.255.255.255"  # noqa: S104
XID = 0x12345678
COOKIE = b"\x63\x82\x53\x63"
BOOTP_BYTES_MIN = 300  # RFC 951
BROADCAST_FLAG = 0x8000
OFFER, ACK, NAK = 2, 5, 6
# Lease times (51, 58, 59) stand behind the server identifier.
LEASE_OPTIONS = slice(6, 24)


def request(nic: Nic, *options: tuple[str, object] | str, **fields: object) -> Packet:
    """A client's broadcast. ``fields`` are those of BOOTP."""
    bootp = {"chaddr": mac_bytes(nic.mac), "xid": XID, "secs": 3, **fields}
    return (
        Ether(src=nic.mac, dst=BROADCAST)
        / IP(src=UNSPECIFIED, dst=EVERYONE)
        / UDP(sport=68, dport=67)
        / BOOTP(**bootp)
        / DHCP(options=[*options, "end"])
    )


def reply(
    nic: Nic,
    kind: int,
    options: bytes,
    *,
    to: str | None = None,
    server: tuple[str, str] = (MAIN_WEB.mac, MAIN_WEB.ipv4),
    **fields: object,
) -> Packet:
    """The server's answer, field by field."""
    bootp = {"op": 2, "xid": XID, "chaddr": mac_bytes(nic.mac), **fields}
    message = bytes(BOOTP(**bootp, options=COOKIE)) + option(53, bytes([kind])) + options
    broadcast = to == EVERYONE
    return (
        Ether(src=server[0], dst=BROADCAST if broadcast else nic.mac)
        / IP(src=server[1], dst=to or nic.ipv4, ttl=64, id=0)
        / UDP(sport=67, dport=68)
        / Raw(message.ljust(BOOTP_BYTES_MIN, b"\0"))
    )


DISCOVER = ("message-type", "discover")
REQUEST = ("message-type", "request")
SERVER_ID = ("server_id", MAIN_WEB.ipv4)


def dhcp_request(nic: Nic, address: str) -> Packet:
    return request(nic, REQUEST, ("requested_addr", address), SERVER_ID)


def test_offer(send: Send) -> None:
    sent = send("web1", request(WEB1, DISCOVER))
    sent.arrives("web1", reply(WEB1, OFFER, WEB_OPTIONS4, yiaddr=WEB1.ipv4))
    assert sent.trace.decision("STAGE_ANSWER") == "DECISION_DHCP4_OFFER"


def test_ack(send: Send) -> None:
    sent = send("web2", dhcp_request(WEB2, WEB2.ipv4))
    sent.arrives("web2", reply(WEB2, ACK, WEB_OPTIONS4, yiaddr=WEB2.ipv4))
    assert sent.trace.decision("STAGE_ANSWER") == "DECISION_DHCP4_ACK"


def test_what_a_client_reads(send: Send) -> None:
    """The same in scapy's words: what was given is what the topology says."""
    answer = Ether(send("web1", request(WEB1, DISCOVER)).frame)
    options = {entry[0]: entry[1] for entry in answer[DHCP].options if len(entry) == 2}
    assert options["subnet_mask"] == "255.255.255.0"
    assert options["router"] == MAIN_WEB.ipv4
    assert options["name_server"] == "8.8.8.8"
    assert options["domain"] == b"web.example"
    assert options["interface-mtu"] == 1450
    assert options["lease_time"] == 86400
    assert options["renewal_time"] == 43200
    assert options["rebinding_time"] == 75600


def test_server_of_a_network_without_router(send: Send) -> None:
    expected = reply(
        LONE1,
        OFFER,
        LONE_OPTIONS4,
        server=(SERVICE_MAC, LONE_SERVER),
        yiaddr=LONE1.ipv4,
    )
    send("lone1", request(LONE1, DISCOVER)).arrives("lone1", expected)


def test_broadcast_flag(send: Send) -> None:
    """RFC 2131 4.1: the client can't take unicast before it has its address."""
    frame = request(WEB1, DISCOVER, flags=BROADCAST_FLAG)
    expected = reply(
        WEB1,
        OFFER,
        WEB_OPTIONS4,
        to=EVERYONE,
        yiaddr=WEB1.ipv4,
        flags=BROADCAST_FLAG,
    )
    send("web1", frame).arrives("web1", expected)


def renewal(to_mac: str, to: str) -> Packet:
    frame = request(WEB1, REQUEST, ciaddr=WEB1.ipv4)
    frame.dst, frame[IP].src, frame[IP].dst = to_mac, WEB1.ipv4, to
    return frame


@pytest.mark.parametrize(
    ("to_mac", "to"),
    [(MAIN_WEB.mac, MAIN_WEB.ipv4), (BROADCAST, EVERYONE)],
    ids=["renewing", "rebinding"],
)
def test_lease_is_extended(send: Send, to_mac: str, to: str) -> None:
    expected = reply(WEB1, ACK, WEB_OPTIONS4, ciaddr=WEB1.ipv4, yiaddr=WEB1.ipv4)
    send("web1", renewal(to_mac, to)).arrives("web1", expected)


def test_reboot_with_the_same_address(send: Send) -> None:
    """INIT-REBOOT: no server identifier (RFC 2131 4.3.2)."""
    frame = request(WEB1, REQUEST, ("requested_addr", WEB1.ipv4))
    expected = reply(WEB1, ACK, WEB_OPTIONS4, yiaddr=WEB1.ipv4)
    send("web1", frame).arrives("web1", expected)


@pytest.mark.parametrize("address", [WEB2.ipv4, "10.0.0.1"])
@pytest.mark.parametrize("with_server", [True, False])
def test_wrong_address_is_refused(send: Send, address: str, with_server: bool) -> None:
    options = [REQUEST, ("requested_addr", address), *([SERVER_ID] if with_server else [])]
    sent = send("web1", request(WEB1, *options))
    server_id = option(54, ipaddress.ip_address(MAIN_WEB.ipv4).packed) + b"\xff"
    sent.arrives("web1", reply(WEB1, NAK, server_id, to=EVERYONE))
    assert sent.trace.decision("STAGE_ANSWER") == "DECISION_DHCP4_NAK"


def test_inform_gets_no_lease(send: Send) -> None:
    """RFC 2131 4.3.5: no yiaddr, no lease times."""
    frame = request(WEB1, ("message-type", "inform"), ciaddr=WEB1.ipv4)
    frame[IP].src = WEB1.ipv4
    options = bytearray(WEB_OPTIONS4)
    options[LEASE_OPTIONS] = bytes(18)
    expected = reply(WEB1, ACK, bytes(options), ciaddr=WEB1.ipv4)
    send("web1", frame).arrives("web1", expected)


SILENT = {
    "other server chosen": request(
        WEB1, REQUEST, ("requested_addr", WEB1.ipv4), ("server_id", "172.17.17.9")
    ),
    "release": request(WEB1, ("message-type", "release"), SERVER_ID, ciaddr=WEB1.ipv4),
    "decline": request(WEB1, ("message-type", "decline"), ("requested_addr", WEB1.ipv4), SERVER_ID),
}


@pytest.mark.parametrize("name", SILENT)
def test_no_answer_is_due(send: Send, name: str) -> None:
    sent = send("web1", SILENT[name])
    assert (sent.to, sent.reason) == (None, None)
    assert sent.trace.decision("STAGE_ANSWER") == "DECISION_CONSUMED"


def with_raw_options(raw: bytes) -> Packet:
    frame = request(WEB1)
    frame[UDP].remove_payload()
    bootp = BOOTP(chaddr=mac_bytes(WEB1.mac), xid=XID, options=COOKIE)
    return Ether(bytes(frame / Raw(bytes(bootp) + raw)))


INVALID = {
    "a reply": request(WEB1, DISCOVER, op=2),
    "no ethernet": request(WEB1, DISCOVER, htype=6),
    "MAC of 8 bytes": request(WEB1, DISCOVER, hlen=8),
    "of another client": request(WEB1, DISCOVER, chaddr=mac_bytes(WEB2.mac)),
    "relayed": request(WEB1, DISCOVER, giaddr="10.0.0.1"),
    "an offer": request(WEB1, ("message-type", "offer")),
    "an ack": request(WEB1, ("message-type", "ack")),
    "unknown type": with_raw_options(option(53, b"\x63") + b"\xff"),
    "no type": request(WEB1, ("requested_addr", WEB1.ipv4)),
    "no end": with_raw_options(option(53, b"\x01")),
    "option beyond the end": with_raw_options(option(53, b"\x01") + b"\x37\xff\x01"),
    "option without a length": with_raw_options(option(53, b"\x01") + b"\x37"),
    "no options at all": with_raw_options(b""),
    "too many options": with_raw_options(b"\x0c\x01x" * 90 + option(53, b"\x01") + b"\xff"),
    "plain BOOTP": request(WEB1, DISCOVER, options=b"\0\0\0\0"),
    "too short": Ether(src=WEB1.mac, dst=BROADCAST)
    / IP(src=UNSPECIFIED, dst=EVERYONE)
    / UDP(sport=68, dport=67)
    / Raw(bytes(100)),
}


@pytest.mark.parametrize("name", INVALID)
def test_what_no_server_would_answer(send: Send, name: str) -> None:
    sent = send("web1", INVALID[name])
    assert (sent.to, sent.reason) == (None, "DROP_DHCP_INVALID")


def test_pad_options_between_others(send: Send) -> None:
    frame = with_raw_options(b"\0\0" + option(53, b"\x01") + b"\0\0\0\xff" + bytes(30))
    expected = reply(WEB1, OFFER, WEB_OPTIONS4, yiaddr=WEB1.ipv4)
    actual = Ether(send("web1", frame).frame)
    assert bytes(actual[UDP].payload) == bytes(expected[Raw])


def test_long_question_is_answered_in_full(send: Send) -> None:
    """dhclient sends 548 bytes and more; the answer is cut to its own length."""
    frame = with_raw_options(option(53, b"\x01") + option(60, b"v" * 200) + b"\xff" + bytes(700))
    expected = reply(WEB1, OFFER, WEB_OPTIONS4, secs=0, yiaddr=WEB1.ipv4)
    send("web1", frame).arrives("web1", expected)


@pytest.mark.parametrize("extra", [0, 1, 2, 3, 33, 100])
def test_options_of_every_length(board: Switchboard, send: Send, extra: int) -> None:
    """Checksum and lengths hold for odd and even lengths, up to a full template."""
    limit = board.world.value("DHCP_OPTIONS_MAX")
    filler = b"".join(option(224 + i, bytes(range(60))) for i in range(extra // 62))
    filler += option(250, b"z" * (extra % 62))
    options = WEB_OPTIONS4[:-1] + filler + b"\xff"
    if extra == 100:
        options = WEB_OPTIONS4[:-1].ljust(limit - 1, b"\0") + b"\xff"
    board.world.put_dhcp4(WEB_SUBNET4, MAIN_WEB.mac, MAIN_WEB.ipv4, options)
    expected = reply(WEB1, OFFER, options, yiaddr=WEB1.ipv4)
    send("web1", request(WEB1, DISCOVER)).arrives("web1", expected)


def test_port_without_dhcp_hears_its_network(board: Switchboard) -> None:
    """web3 has DHCP off: its question is a broadcast like any other."""
    told = board.trace("web3", request(WEB3, DISCOVER))
    assert told.decision("STAGE_SWITCH") == "DECISION_SWITCH_FLOOD"


def test_conversation_through_a_real_tap(board: Switchboard) -> None:
    device = board.devices["web1"]
    device.write(bytes(request(WEB1, DISCOVER)))
    offer = Ether(device.read())
    address = offer[BOOTP].yiaddr
    device.write(bytes(dhcp_request(WEB1, address)))
    ack = reply(WEB1, ACK, WEB_OPTIONS4, yiaddr=WEB1.ipv4)
    assert device.read() == bytes(ack)
