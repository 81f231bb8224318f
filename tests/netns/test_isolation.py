"""Networks without a router between them never see each other's frames."""

from __future__ import annotations

from contextlib import ExitStack

from lab import Lab, eventually
from lab_topologies import SEPARATE
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw
from wire import Capture, captured, mac_of, send

MARK = b"only for red"
BROADCAST = "ff:ff:ff:ff:ff:ff"


def test_no_frame_crosses(lab: Lab) -> None:
    """Red sends to everybody, to groups, to its own and to blue's MACs; both
    networks use the same addresses. Blue hears nothing of it."""
    lab.heddle("up", lab.write(SEPARATE))
    macs = {name: mac_of(lab, name) for name in ("red0", "red1", "blue0", "blue1")}
    heard_by_red = [BROADCAST, "01:00:5e:00:00:fb", "33:33:00:00:00:fb", macs["red1"]]
    with ExitStack() as stack:
        captures = {
            name: stack.enter_context(captured(lab, name)) for name in ("red1", "blue0", "blue1")
        }
        for destination in (*heard_by_red, macs["blue0"], macs["blue1"]):
            send(lab, "red0", datagram(macs["red0"], destination))
        send(lab, "red0", question(macs["red0"], "10.1.0.11"))
        lab.exec("red0", "ping", "-c", "1", "-W", "20", "10.1.0.11")
        lab.exec("blue0", "ping", "-c", "1", "-W", "20", "10.1.0.11")
        eventually(lambda: len(marked(captures["red1"])) == 4, "red to hear all that is for it")
        eventually(captures["blue1"].frames, "blue to hear its own ping")
        heard = {name: capture.frames() for name, capture in captures.items()}
    assert [frame.dst for frame in marked(captures["red1"])] == heard_by_red
    for name in ("blue0", "blue1"):
        assert {macs["red0"], macs["red1"]}.isdisjoint(frame.src for frame in heard[name])
        assert marked(captures[name]) == []


def test_a_nic_changes_its_network_at_once(lab: Lab) -> None:
    """The new link's end in the container has the name of the one that goes."""
    lab.heddle("up", lab.write(SEPARATE))
    moved = SEPARATE.replace("network: red, address: 10.1.0.11", "network: blue, address: 10.1.0.9")
    lab.heddle("up", lab.write(moved))
    assert "is not heddle's" not in lab.agent_log()
    assert lab.show("agent")["repaired"] == 0
    lab.exec("red1", "ping", "-c", "1", "-W", "20", "10.1.0.11")


def datagram(source: str, destination: str) -> Packet:
    addresses = IP(src="10.1.0.10", dst="10.1.0.11")
    return Ether(src=source, dst=destination) / addresses / UDP(sport=1, dport=9) / Raw(MARK)


def question(source: str, target: str) -> Packet:
    asked = ARP(op=1, hwsrc=source, psrc="10.1.0.10", pdst=target)
    return Ether(src=source, dst=BROADCAST) / asked


def marked(capture: Capture) -> list[Packet]:
    return [frame for frame in capture.frames() if UDP in frame and MARK in bytes(frame)]
