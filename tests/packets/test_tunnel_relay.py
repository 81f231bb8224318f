"""Envelopes that go on: through a relay, and to a port that has moved."""

from __future__ import annotations

import pytest
from packet_shapes import switched
from packet_tunnel import (
    BEHIND,
    FOREIGN,
    FORWARDED_ONCE,
    FORWARDED_TWICE,
    HERE,
    NEAR,
    SIX,
    WEB4,
    WEB6,
    WEB8,
    Host,
    Tunnel,
    put_remote,
    put_vtep,
)
from packet_world import WEB, WEB1, Nic
from scapy.layers.inet import IP
from scapy.layers.l2 import Ether

TWICE_MORE = {0: FORWARDED_ONCE, FORWARDED_ONCE: FORWARDED_TWICE}
THRICE = FORWARDED_ONCE | FORWARDED_TWICE
UNKNOWN_VNI = 0x123456


@pytest.mark.parametrize("before", [0, FORWARDED_ONCE, FORWARDED_TWICE])
@pytest.mark.parametrize("vni", [WEB.vni, UNKNOWN_VNI])
@pytest.mark.parametrize("host", [NEAR, SIX], ids=lambda host: host.name)
def test_a_relay_sends_on(tunnel: Tunnel, host: Host, vni: int, before: int) -> None:
    """The frame inside is no matter of its, nor is the network."""
    frame = Ether(bytes(switched(WEB8, WEB6, 4)))
    frame[IP].tos = 0xB8
    sender = SIX if host is NEAR else NEAR
    after = {0: FORWARDED_ONCE, FORWARDED_ONCE: FORWARDED_TWICE, FORWARDED_TWICE: THRICE}[before]
    tunnel.write(sender, vni, frame, number=host.number, bits=before)
    tunnel.carries(host, vni, frame, tos=0xB8, number=host.number, bits=after)
    assert tunnel.board.rows("drops") == []


def test_a_foreign_host_knows_no_policy_bits(tunnel: Tunnel) -> None:
    frame = switched(WEB8, WEB6, 4)
    tunnel.write(NEAR, WEB.vni, frame, number=FOREIGN.number)
    tunnel.carries(FOREIGN, WEB.vni, frame)


def test_no_second_relay(tunnel: Tunnel) -> None:
    tunnel.write(SIX, WEB.vni, switched(WEB6, WEB4, 4), number=BEHIND.number)
    assert tunnel.dropped("DROP_TUNNEL_LOOP") == 1
    assert tunnel.read_all() == []


def test_not_for_ever(tunnel: Tunnel) -> None:
    tunnel.write(SIX, WEB.vni, switched(WEB6, WEB8, 4), number=NEAR.number, bits=THRICE)
    assert tunnel.dropped("DROP_TUNNEL_LOOP") == 1


def test_not_to_an_unknown_host(tunnel: Tunnel) -> None:
    tunnel.write(SIX, WEB.vni, switched(WEB6, WEB8, 4), number=999)
    assert tunnel.dropped("DROP_NO_VTEP") == 1


def test_not_for_a_stranger(tunnel: Tunnel) -> None:
    tunnel.write("10.99.0.66", WEB.vni, switched(WEB6, WEB8, 4), number=NEAR.number)
    assert tunnel.dropped("DROP_UNKNOWN_VTEP") == 1
    assert tunnel.read_all() == []


@pytest.mark.parametrize("bits", [0, FORWARDED_ONCE, THRICE])
def test_what_is_for_this_host_arrives(tunnel: Tunnel, bits: int) -> None:
    frame = switched(WEB8, WEB1, 4)
    for _ in range(2):
        tunnel.write(NEAR, WEB.vni, frame, number=HERE, bits=bits)
        assert tunnel.board.devices["web1"].read() == bytes(frame)


# ---- a port that has moved away ---------------------------------------------------------


@pytest.mark.parametrize("nic", [WEB6, WEB4], ids=lambda nic: nic.name)
def test_it_goes_on_to_where_its_port_is(tunnel: Tunnel, nic: Nic) -> None:
    """By a relay where need be: this host now is its sender."""
    host = SIX if nic is WEB6 else BEHIND
    frame = switched(WEB8, nic, 4)
    for _ in range(2):
        tunnel.write(NEAR, WEB.vni, frame)
        at = {"number": host.number, "bits": FORWARDED_ONCE}
        tunnel.carries(host.relay or host, WEB.vni, frame, **at)


def test_it_goes_on_although_its_flow_was_known(tunnel: Tunnel) -> None:
    """A new epoch comes with the change of its row."""
    frame = switched(WEB8, WEB1, 4)
    tunnel.write(NEAR, WEB.vni, frame)
    assert tunnel.board.devices["web1"].read() == bytes(frame)
    put_remote(tunnel.board.world, WEB1, SIX.number)
    tunnel.board.world.advance_epoch(WEB)
    tunnel.write(NEAR, WEB.vni, frame)
    tunnel.carries(SIX, WEB.vni, frame, number=SIX.number, bits=FORWARDED_ONCE)


def test_relayed_and_moved(tunnel: Tunnel) -> None:
    tunnel.write(NEAR, WEB.vni, switched(WEB8, WEB6, 4), number=HERE, bits=FORWARDED_ONCE)
    sent = switched(WEB8, WEB6, 4)
    tunnel.carries(SIX, WEB.vni, sent, number=SIX.number, bits=FORWARDED_TWICE)


def test_hosts_that_disagree(tunnel: Tunnel) -> None:
    tunnel.write(NEAR, WEB.vni, switched(WEB8, WEB6, 4), number=HERE, bits=THRICE)
    assert tunnel.dropped("DROP_TUNNEL_LOOP") == 1


def test_its_host_is_gone(tunnel: Tunnel) -> None:
    tunnel.board.world.delete("vteps", SIX.number)
    tunnel.write(NEAR, WEB.vni, switched(WEB8, WEB6, 4))
    assert tunnel.dropped("DROP_NO_VTEP") == 1


def test_a_way_that_changed(tunnel: Tunnel) -> None:
    """The relay's row is all that says how a host is reached."""
    frame = switched(WEB8, WEB6, 4)
    put_vtep(tunnel.board.world, Host(SIX.number, SIX.vtep, relay=NEAR))
    tunnel.write(NEAR, WEB.vni, frame)
    tunnel.carries(NEAR, WEB.vni, frame, number=SIX.number, bits=FORWARDED_ONCE)
