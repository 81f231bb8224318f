"""ARP is answered from intent (RFC 826)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from packet_world import LONE1, LONE_SERVER, MAIN_WEB, SERVICE_MAC, WEB1, WEB2, WEB3, Nic
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet

from tests.packets.conftest import Sent, Switchboard

Send = Callable[..., Sent]
BROADCAST = "ff:ff:ff:ff:ff:ff"
UNSPECIFIED = "0.0.0.0"  # noqa: S104


def request(nic: Nic, target: str, to: str = BROADCAST, **fields: object) -> Packet:
    message = {"hwsrc": nic.mac, "psrc": nic.ipv4, "pdst": target, **fields}
    return Ether(src=nic.mac, dst=to) / ARP(**message)


def reply(nic: Nic, target: str, mac: str, sender: str | None = None) -> Packet:
    return Ether(src=mac, dst=nic.mac) / ARP(
        op="is-at", hwsrc=mac, psrc=target, hwdst=nic.mac, pdst=sender or nic.ipv4
    )


OWNERS = [
    (WEB1, WEB2.ipv4, WEB2.mac),
    (WEB1, WEB3.ipv4, WEB3.mac),
    (WEB3, WEB1.ipv4, WEB1.mac),
    (WEB1, MAIN_WEB.ipv4, MAIN_WEB.mac),
    (LONE1, LONE_SERVER, SERVICE_MAC),
]


@pytest.mark.parametrize(("nic", "target", "mac"), OWNERS, ids=["vm", "veth", "back", "gw", "dhcp"])
def test_who_has(send: Send, nic: Nic, target: str, mac: str) -> None:
    sent = send(nic.name, request(nic, target))
    sent.arrives(nic.name, reply(nic, target, mac))
    assert sent.trace.decision("STAGE_ANSWER") == "DECISION_ARP_REPLY"
    assert sent.trace.decision("STAGE_DELIVER") == "DECISION_DELIVER_BACK"


def test_unicast_refresh(send: Send) -> None:
    """Guests ask the MAC they know before an entry runs out (RFC 1122 2.3.2.1)."""
    for mac in (WEB2.mac, MAIN_WEB.mac):
        sent = send("web1", request(WEB1, WEB2.ipv4, to=mac))
        sent.arrives("web1", reply(WEB1, WEB2.ipv4, WEB2.mac))


def test_padding_of_short_frames_is_kept(send: Send) -> None:
    question = bytes(request(WEB1, WEB2.ipv4)).ljust(60, b"\0")
    answer = bytes(reply(WEB1, WEB2.ipv4, WEB2.mac)).ljust(60, b"\0")
    send("web1", question).arrives("web1", answer)


def test_probe_for_a_taken_address_is_answered(send: Send) -> None:
    """RFC 5227: that is how a guest learns that the address is in use."""
    sent = send("web1", request(WEB1, WEB2.ipv4, psrc=UNSPECIFIED))
    sent.arrives("web1", reply(WEB1, WEB2.ipv4, WEB2.mac, sender=UNSPECIFIED))


@pytest.mark.parametrize("sender", [UNSPECIFIED, WEB1.ipv4], ids=["probe", "announcement"])
def test_ones_own_address_is_never_in_use(send: Send, sender: str) -> None:
    sent = send("web1", request(WEB1, WEB1.ipv4, psrc=sender))
    assert (sent.to, sent.reason) == (None, None)
    assert sent.trace.decision("STAGE_ANSWER") == "DECISION_CONSUMED"


@pytest.mark.parametrize("target", ["172.17.17.99", "192.168.0.2", "10.5.0.2", "8.8.8.8"])
def test_nobody_has_it(send: Send, target: str) -> None:
    """Also not somebody in another network."""
    sent = send("web1", request(WEB1, target))
    assert (sent.to, sent.reason) == (None, "DROP_ARP_UNKNOWN")


def test_gratuitous_reply_goes_nowhere(send: Send) -> None:
    """The neighbors know from intent."""
    frame = request(WEB1, WEB1.ipv4, op="is-at", hwdst=BROADCAST)
    assert send("web1", frame).trace.decision("STAGE_ANSWER") == "DECISION_CONSUMED"


def test_reply_of_a_vm_reaches_whom_it_is_for(send: Send) -> None:
    frame = request(WEB1, WEB2.ipv4, to=WEB2.mac, op="is-at", hwdst=WEB2.mac)
    send("web1", frame).arrives("web2", frame)


def test_reply_to_the_gateway_is_consumed(send: Send) -> None:
    frame = request(WEB1, MAIN_WEB.ipv4, to=MAIN_WEB.mac, op="is-at", hwdst=MAIN_WEB.mac)
    assert send("web1", frame).trace.decision("STAGE_SWITCH") == "DECISION_CONSUMED"


def test_answer_counts_as_sent_to_the_vm(board: Switchboard) -> None:
    question = request(WEB1, WEB2.ipv4)
    board.run("web1", question)
    counters = board.counters(WEB1.slot)
    assert (counters["from_vm_packets"], counters["to_vm_packets"]) == (1, 1)
    assert board.counters(WEB2.slot)["to_vm_packets"] == 0


def test_answer_really_reaches_the_tap(board: Switchboard) -> None:
    board.devices["web1"].write(bytes(request(WEB1, MAIN_WEB.ipv4)))
    assert board.devices["web1"].read() == bytes(reply(WEB1, MAIN_WEB.ipv4, MAIN_WEB.mac))
