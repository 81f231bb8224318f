"""Envelopes that this host does not take: why, counted where, told how."""

from __future__ import annotations

import pytest
from packet_shapes import switched
from packet_tunnel import HOSTS, STRANGE_VTEPS, Host, Tunnel
from packet_world import LONE, WEB, WEB1, WEB2, mapped
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet, Raw

FRAME = switched(WEB2, WEB1, 4)


def told(tunnel: Tunnel, vtep: str, vni: int, frame: Packet | bytes, reason: str) -> None:
    """One drop of this reason at the VXLAN device, with an event that names the
    sender and the network."""
    assert tunnel.dropped(reason) == 0
    tunnel.write(vtep, vni, frame)
    (event,) = tunnel.board.dropped_events()
    value = tunnel.board.datapath.abi.value
    assert event["reason"] == value(reason)
    assert (event["ifindex"], event["from_ifindex"]) == (tunnel.vxlan.ifindex,) * 2
    assert (event["network"], event["vtep"]) == (vni, mapped(vtep))
    assert event["length"] == len(bytes(frame))
    assert event["frame"].startswith(bytes(frame)[: event["captured"]])
    assert tunnel.dropped(reason) == 1


@pytest.mark.parametrize("vtep", STRANGE_VTEPS)
def test_an_unknown_sender(tunnel: Tunnel, vtep: str) -> None:
    told(tunnel, vtep, WEB.vni, FRAME, "DROP_UNKNOWN_VTEP")


@pytest.mark.parametrize("host", HOSTS, ids=str)
@pytest.mark.parametrize("vni", [LONE.vni, 0, 0xFFFFFE])
def test_an_unknown_network(tunnel: Tunnel, host: Host, vni: int) -> None:
    told(tunnel, host.vtep, vni, FRAME, "DROP_UNKNOWN_VNI")


# What lacks even an IP header, the VXLAN device drops itself (rx_length_errors).
@pytest.mark.parametrize("length", [34, 40, 42, len(FRAME) - 1])
def test_a_truncated_frame(tunnel: Tunnel, length: int) -> None:
    told(tunnel, HOSTS[0].vtep, WEB.vni, bytes(FRAME)[:length], "DROP_TUNNEL_MALFORMED")


def test_a_tagged_frame(tunnel: Tunnel) -> None:
    frame = Ether(src=WEB2.mac, dst=WEB1.mac) / Dot1Q(vlan=7) / Raw(bytes(50))
    tunnel.write(HOSTS[0].vtep, WEB.vni, frame)
    assert tunnel.dropped("DROP_VLAN_TAGGED") == 1


def test_an_unknown_receiver(tunnel: Tunnel) -> None:
    frame = Ether(bytes(FRAME))
    frame.dst = "fa:16:3e:00:00:99"
    told(tunnel, HOSTS[0].vtep, WEB.vni, frame, "DROP_UNKNOWN_MAC")
