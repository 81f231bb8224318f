"""`heddle leaks` on a live host: each leak is planted and found, and without one
nothing is. Kinds of frames are the business of the unit tests."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address
from typing import Any

import pytest
from lab import Lab, eventually
from lab_topologies import ROUTED
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import LLC, STP, Dot3, Ether
from scapy.packet import Packet, Raw

from heddle.leaks.catalogue import CATALOGUE

VTEP, OUTSIDE = "198.18.0.1", "198.18.0.2"
UPLINK = "eth0"
SHORT = "0.2"  # seconds of capture where none is needed

_SEND_UNTIL_EOF = """
import select, socket, sys
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind((sys.argv[1], 0))
while not select.select([sys.stdin], [], [], 0.05)[0]:
    wire.send(bytes.fromhex(sys.argv[2]))
"""

Leaks = set[tuple[str, str]]  # name and place


@pytest.fixture(scope="module")
def host(module_lab: Lab) -> Lab:
    """A host with two containers and a link outside. Its agent is dead, since it
    would take away what is planted."""
    lab = module_lab
    lab.run("ip", "link", "add", UPLINK, "type", "veth", "peer", "name", "outside")
    lab.run("ip", "address", "add", f"{VTEP}/24", "dev", UPLINK)
    for device in (UPLINK, "outside"):
        lab.run("ip", "link", "set", device, "up")
    lab.heddle("up", lab.write(ROUTED))
    lab.kill_agent()
    return lab


def leaks(lab: Lab, seconds: str = SHORT) -> Leaks:
    done = lab.heddle("leaks", "--json", "--seconds", seconds, check=False)
    assert done.stderr == ""
    return _found(done.stdout, done.returncode)


def _found(output: str, code: int) -> Leaks:
    found = {(leak["name"], leak["where"]) for leak in json.loads(output)["leaks"]}
    assert code == bool(found)
    return found


@contextmanager
def planted(lab: Lab, plant: str, take_away: str) -> Iterator[None]:
    """Shell commands around the block."""
    lab.run("sh", "-ec", plant)
    try:
        yield
    finally:
        lab.run("sh", "-ec", take_away)


def test_healthy_host_leaks_nothing(host: Lab) -> None:
    assert leaks(host, "1") == set()
    assert "nothing leaks" in host.heddle("leaks", "--seconds", SHORT).stdout


def test_healthy_traffic_leaks_nothing(host: Lab) -> None:
    with host.background(host.inside("c0", "ping", "-i", "0.05", "10.2.0.10")):
        assert leaks(host, "1") == set()


# ---- the kernel's state ----------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "plant", "take_away"),
    [
        (
            "link-address",
            "ip address add 192.0.2.1/32 dev {0}",
            "ip address del 192.0.2.1/32 dev {0}",
        ),
        (
            "link-bridge",
            "ip link add br0 type bridge; ip link set {0} master br0",
            "ip link set {0} nomaster; ip link del br0",
        ),
        (
            "link-stacked",
            "ip link add link {0} name upper type macvlan mode bridge",
            "ip link del upper",
        ),
        (
            "link-proxy",
            "echo 1 > /proc/sys/net/ipv4/conf/{0}/proxy_arp",
            "echo 0 > /proc/sys/net/ipv4/conf/{0}/proxy_arp",
        ),
        (
            "link-proxy",
            "echo 1 > /proc/sys/net/ipv4/conf/all/proxy_arp",
            "echo 0 > /proc/sys/net/ipv4/conf/all/proxy_arp",
        ),
        (
            "link-ipv6",
            "echo 0 > /proc/sys/net/ipv6/conf/{0}/disable_ipv6",
            "echo 1 > /proc/sys/net/ipv6/conf/{0}/disable_ipv6",
        ),
    ],
)
def test_state_is_found(host: Lab, name: str, plant: str, take_away: str) -> None:
    device = host.device("c0:0")
    with planted(host, plant.format(device), take_away.format(device)):
        assert (name, device) in leaks(host)
    assert leaks(host) == set()


def test_link_without_our_filter_is_found(host: Lab) -> None:
    """Its frames would reach the host's own stack."""
    device = host.device("c1:0")
    host.run("tc", "qdisc", "del", "dev", device, "ingress")
    assert ("link-filter", device) in leaks(host)
    _repair(host)


@pytest.mark.parametrize("place", ["ingress", "egress"])
def test_filter_of_somebody_else_is_found(host: Lab, place: str) -> None:
    device = host.device("c1:0")
    clsact = f"tc qdisc del dev {device} ingress; tc qdisc add dev {device} clsact; "
    program = f"tc filter add dev {device} {place} handle 1 bpf bytecode '1,6 0 0 0' da"
    host.run("sh", "-ec", clsact + program)
    assert ("link-foreign-filter", device) in leaks(host)
    host.run("tc", "qdisc", "del", "dev", device, "clsact")
    _repair(host)


def test_joined_group_is_found(host: Lab) -> None:
    device = host.device("c0:0")
    plant = "ip address add 224.0.0.251/32 dev {0} autojoin"
    with planted(host, plant.format(device), f"ip address del 224.0.0.251/32 dev {device}"):
        assert ("link-group", device) in leaks(host)


def test_daemon_that_listens_for_lldp_is_found(host: Lab) -> None:
    device = host.device("c0:0")
    script = (
        "import socket, sys; s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, "
        "socket.htons(0x88cc)); s.bind((sys.argv[1], 0x88cc)); print('up', flush=True); input()"
    )
    with host.background(host.command(sys.executable, "-c", script, device)) as daemon:
        assert daemon.stdout is not None
        assert daemon.stdout.readline() == "up\n"
        assert ("link-daemon", device) in leaks(host)


# ---- what the data plane answers ----------------------------------------------------


def test_answer_to_arp_that_shows_the_host_is_found(host: Lab) -> None:
    uplink = bytes.fromhex(_mac_of(host, UPLINK).replace(":", ""))
    with changed_row(host, "addresses", _is_address("10.1.0.1"), mac=uplink):
        assert ("arp-answer", "c0:0") in leaks(host)
    with changed_row(host, "addresses", _is_address("fd00:1::1"), mac=uplink):
        assert ("arp-answer", "c0:0") in leaks(host)


def test_answer_of_dhcp_that_shows_the_host_is_found(host: Lab) -> None:
    server = ip_address(VTEP).packed
    with changed_row(host, "dhcp4_templates", lambda key: True, server_address=server):
        assert {("dhcp-answer", "c0:0"), ("dhcp-answer", "c1:0")} <= leaks(host)


def test_router_advertisement_that_shows_the_host_is_found(host: Lab) -> None:
    uplink = bytes.fromhex(_mac_of(host, UPLINK).replace(":", ""))
    with changed_row(host, "ra_templates", lambda key: True, router_mac=uplink):
        assert ("ra-answer", "c0:0") in leaks(host)


def test_icmp_error_that_shows_the_host_is_found(host: Lab) -> None:
    vtep = bytes(10) + b"\xff\xff" + ip_address(VTEP).packed
    with changed_row(host, "router_interfaces", lambda key: True, address4=vtep):
        assert ("icmp-error", "c0:0") in leaks(host)


def test_other_mtu_is_found(host: Lab) -> None:
    with changed_row(host, "ports", lambda key: True, mtu=1399):
        assert {("mtu", "c0:0"), ("mtu", "c1:0")} <= leaks(host)
    with changed_row(host, "router_interfaces", lambda key: True, mtu=1399):
        assert {("mtu", "c0:0")} <= leaks(host)
    device = host.device("c1:0")
    with planted(host, f"ip link set {device} mtu 1399", f"ip link set {device} mtu 1400"):
        assert leaks(host) == {("mtu", "c1:0")}


# ---- captures --------------------------------------------------------------------------


def test_frame_of_the_host_towards_a_guest_is_found(host: Lab) -> None:
    device = host.device("c0:0")
    frame = Dot3(src=_mac_of(host, device), dst="01:80:c2:00:00:00") / LLC() / STP()
    assert leaks_while_sending(host, device, frame) == {("guest-stp", "c0:0")}


def test_guest_frame_on_the_wire_is_found(host: Lab) -> None:
    mac = host.exec("c0", "cat", "/sys/class/net/eth0/address").stdout.strip()
    frame = Ether(src=mac, dst="ff:ff:ff:ff:ff:ff") / IP(src="10.1.0.10") / UDP() / Raw(b"x")
    assert ("wire-frame", UPLINK) in leaks_while_sending(host, UPLINK, frame)


def test_guest_packet_on_the_wire_is_found(host: Lab) -> None:
    frame = Ether(src=_mac_of(host, UPLINK), dst="02:00:00:00:00:01") / IP(src="10.1.0.10") / UDP()
    assert ("wire-packet", UPLINK) in leaks_while_sending(host, UPLINK, frame)


def leaks_while_sending(lab: Lab, device: str, frame: Packet) -> Leaks:
    """What is found while a frame leaves a device of the host again and again."""
    sender = lab.command(sys.executable, "-c", _SEND_UNTIL_EOF, device, bytes(frame).hex())
    with lab.background(sender):
        return leaks(lab, "2")


# ---- the rest ------------------------------------------------------------------------------


def test_seconds_must_make_sense(host: Lab) -> None:
    done = host.heddle("leaks", "--seconds", "-1", check=False)
    assert (done.returncode, done.stderr) == (2, "heddle: --seconds -1: must be 0 to 3600\n")


def test_leak_comes_with_a_remedy(host: Lab) -> None:
    device = host.device("c0:0")
    plant = f"ip address add 192.0.2.1/32 dev {device}"
    with planted(host, plant, f"ip address del 192.0.2.1/32 dev {device}"):
        done = host.heddle("leaks", "--seconds", SHORT, check=False)
    assert done.returncode == 1
    assert f"link-address  {device}  has 192.0.2.1" in done.stdout
    assert CATALOGUE["link-address"].remedy in done.stdout


@contextmanager
def changed_row(
    lab: Lab,
    table: str,
    chosen: Callable[[Any], bool],
    **fields: object,
) -> Iterator[None]:
    """Some rows of a table are others within the block."""
    with lab.datapath() as datapath, ExitStack() as stack:
        rows = datapath.table(table)
        key_codec, codec = datapath.abi.table_types(table)
        before = {k: v for k, v in rows.items() if chosen(key_codec.unpack(k))}
        assert before
        for key, value in before.items():
            assert isinstance(value, bytes)
            stack.callback(rows.put, key, value)
            rows.put(key, codec.pack({**codec.unpack(value), **fields}))
        yield


def _is_address(text: str) -> Callable[[Any], bool]:
    address = ip_address(text)
    mapped = bytes(10) + b"\xff\xff" + address.packed if address.version == 4 else address.packed
    return lambda key: bool(key["address"] == mapped)


def _mac_of(lab: Lab, device: str) -> str:
    links = json.loads(lab.run("ip", "-json", "link", "show", device).stdout)
    return str(links[0]["address"])


def _repair(lab: Lab) -> None:
    """An agent starts, mends what was broken, and is killed."""
    lab.heddle("agent", "--detach")
    eventually(lambda: leaks(lab) == set(), "the agent to mend it")
    lab.kill_agent()
