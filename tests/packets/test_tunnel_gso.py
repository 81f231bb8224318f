"""Two hosts, each with its programs and devices: frames that the guest left uncut
stay whole from TAP to TAP, through an underlay that takes them so."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace

import pytest
from packet_diff import assert_same_frame
from packet_lab import VNET_HEADER_BYTES, Device, Lab, run
from packet_shapes import forwarded
from packet_tunnel import HERE, NEAR, UDP_PORT, Host, Tunnel, put_remote, put_vtep
from packet_world import DB1, MAIN_DB, MAIN_WEB, NICS, WEB1, WEB2, World, mapped
from test_gso import VirtioHeader, large

from heddle.datapath.codec import Row
from heddle.datapath.loader import Datapath
from heddle.paths import pin_dir
from tests.packets.conftest import Switchboard

VERSIONS = (4, 6)
# Addresses of this host and of the other one, by IP version of the underlay.
UNDERLAY = {4: ("10.98.0.1", "10.98.0.2"), 6: ("fd98::1", "fd98::2")}
AGES = 10**12  # ns
WHOLE = 20000  # bytes of payload
THERE = (WEB2, DB1)  # ports of the other host


@dataclass(frozen=True)
class OtherHost:
    """Has ports of its own, on TAPs as QEMU opens them."""

    taps: dict[str, Device]
    near: Device  # such a TAP at this host
    way: dict[str, Row]  # how this host's stack sends there

    def send(self, frame: bytes, header: VirtioHeader) -> None:
        self.near.write(header.pack() + frame)

    def receive(self, name: str) -> tuple[VirtioHeader, bytes]:
        data = self.taps[name].read()
        assert data is not None, f"nothing reached {name}"
        return VirtioHeader.unpack(data), data[VNET_HEADER_BYTES:]


def join_underlay(link: str, number: int) -> None:
    """One end of the link; in the namespace of its host."""
    with open(f"/proc/sys/net/ipv6/conf/{link}/disable_ipv6", "w", encoding="ascii") as file:
        file.write("0")
    run("ip", "link", "set", link, "mtu", "1600", "up")
    run("ip", "address", "add", f"{UNDERLAY[4][number]}/24", "dev", link)
    run("ip", "address", "add", f"{UNDERLAY[6][number]}/64", "dev", link, "nodad")


def ifindex_and_mac(link: str) -> tuple[int, bytes]:
    """In the namespace that we are in."""
    (shown,) = json.loads(subprocess.check_output(["ip", "-json", "link", "show", link]))
    return shown["ifindex"], bytes.fromhex(shown["address"].replace(":", ""))


def write_rows(datapath: Datapath, vxlan: Device, taps: dict[str, Device]) -> None:
    """Of the other host. Its other ports have devices that are not there."""
    ifindexes = {nic.name: 1000 + number for number, nic in enumerate(NICS)}
    world = World(datapath, ifindexes | {name: tap.ifindex for name, tap in taps.items()})
    world.write()
    world.put("this_host", 0, {"number": NEAR.number, "tunnel_ifindex": vxlan.ifindex})
    for addresses in UNDERLAY.values():
        world.put("tunnel_senders", {"address": mapped(addresses[0])}, HERE)
    for nic in THERE:
        row = {"first_port": taps[nic.name].ifindex, "mtu": nic.network.mtu}
        world.put("tunnel_networks", nic.network.vni, row)


@pytest.fixture(scope="module")
def other_host(session_board: Switchboard) -> Iterator[OtherHost]:
    name, lab = f"packets-{os.getpid()}-{secrets.token_hex(4)}", session_board.lab
    with ExitStack() as stack:
        other = Lab(stack)
        stack.callback(Datapath.unpin, name)
        datapath = Datapath.load(name)
        stack.callback(datapath.close)
        taps = {nic.name: other.tap(vnet_header=True) for nic in THERE}
        vxlan = other.vxlan(UDP_PORT)
        other.attach(vxlan.name, str(pin_dir(name) / "from_tunnel"))
        write_rows(datapath, vxlan, taps)
        ours, theirs = ("und" + secrets.token_hex(4) for _ in range(2))
        peer = ("peer", "name", theirs, "netns", other.namespace)
        with other.away():
            with lab.entered():
                run("ip", "link", "add", ours, "type", "veth", *peer)
                join_underlay(ours, 0)
                near = lab.tap(vnet_header=True)
                lab.attach(near.name, session_board.pin)
                ifindex, own_mac = ifindex_and_mac(ours)
            with other.entered():
                join_underlay(theirs, 1)
                _, mac = ifindex_and_mac(theirs)
            way = {"seen_at": time.monotonic_ns() + AGES, "udp_port_be": UDP_PORT}
            yield OtherHost(taps, near, way | {"ifindex": ifindex, "macs": mac + own_mac})


@pytest.fixture(
    params=[(4, False), (6, False), (4, True)],
    ids=["IPv4 underlay", "IPv6 underlay", "past the stack"],
)
def far(tunnel: Tunnel, other_host: OtherHost, request: pytest.FixtureRequest) -> OtherHost:
    """Joined by such an underlay; web1 is on the TAP that takes large frames."""
    version, is_direct = request.param
    ours, theirs = UNDERLAY[version]
    board = tunnel.board
    ifindexes = {name: device.ifindex for name, device in board.devices.items()}
    world = World(board.datapath, ifindexes | {WEB1.name: other_host.near.ifindex})
    world.write()
    put_vtep(world, Host(NEAR.number, theirs), source=mapped(ours))
    if is_direct:
        world.put("seen_ways", {"address": mapped(theirs)}, other_host.way)
    for nic in THERE:
        put_remote(world, nic, NEAR.number)
    for device in (other_host.near, *other_host.taps.values()):
        device.read_all()
    return other_host


@pytest.mark.parametrize("payload", [WHOLE, 60000])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_large_frame_stays_whole(far: OtherHost, version: int, payload: int) -> None:
    """Twice: the first by the slow paths of both hosts, the second by their flows."""
    frame = large(WEB1, WEB2.mac, WEB2.address(version), payload)
    sent = VirtioHeader.of(frame, gso_size=1300)
    for _ in range(2):
        far.send(bytes(frame), sent)
        header, received = far.receive("web2")
        assert_same_frame(received, frame)
        assert replace(header, header_bytes=0) == replace(sent, header_bytes=0)
    assert far.taps["web2"].read_all() == []


@pytest.mark.parametrize("version", VERSIONS)
def test_a_large_frame_is_routed_whole(far: OtherHost, version: int) -> None:
    frame = large(WEB1, MAIN_WEB.mac, DB1.address(version), WHOLE)
    far.send(bytes(frame), VirtioHeader.of(frame, gso_size=1300))
    header, received = far.receive("db1")
    assert_same_frame(received, forwarded(frame, MAIN_DB.mac, DB1.mac))
    assert header.gso_size == 1300


@pytest.mark.parametrize("version", VERSIONS)
def test_an_unfinished_checksum_stays_so(far: OtherHost, version: int) -> None:
    """Nobody sums up an ordinary segment on its way over an underlay that needn't."""
    frame = large(WEB1, WEB2.mac, WEB2.address(version), 100)
    sent = VirtioHeader.of(frame, gso_size=0)
    far.send(bytes(frame), sent)
    header, received = far.receive("web2")
    assert_same_frame(received, frame)
    assert header == sent
