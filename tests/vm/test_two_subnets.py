"""The main job: a topology file goes in, real guests in different subnets talk.

Two emulated VMs, routed by the data plane alone, on a host of their own whose
one way out is watched.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest
from lab import Lab, eventually, with_lab
from scapy.layers.inet import ICMP, IP, TCP
from scapy.layers.l2 import Ether

import heddle

pytestmark = pytest.mark.timeout(900)

EXAMPLE = Path(heddle.__file__).parent.parent / "examples" / "two-subnets.yaml"
VM0, VM1 = "172.17.17.2", "192.168.0.2"
GATEWAY0, GATEWAY1 = "172.17.17.1", "192.168.0.1"
MTU = 1450
CAPTURE = Path(__file__).with_name("capture.py")


class Frame(NamedTuple):
    """A frame on a guest's TAP; ``out``: the guest received it."""

    out: bool
    ether: Ether
    length: int


@pytest.fixture(scope="module")
def lab(tiny_folder: Path) -> Iterator[Lab]:
    """The example, up, on a host with an uplink and a default route."""
    with TemporaryDirectory(prefix="heddle-") as folder, with_lab(Path(folder)) as lab:
        lab.root.chmod(0o755)  # QEMU runs as another user
        images = lab.root / "var/lib/heddle/images"
        shutil.copytree(tiny_folder, images / tiny_folder.name, copy_function=os.link)
        add_uplink(lab)
        try:
            lab.heddle("up", lab.write(EXAMPLE.read_text(), EXAMPLE.name), "--timeout", "240")
            yield lab
        finally:
            lab.heddle("down")
        assert [item for item in lab.leftovers() if item not in OWN_LINKS] == []


OWN_LINKS = ("link uplink", "link outside")


def add_uplink(lab: Lab) -> None:
    lab.run("ip", "link", "add", "uplink", "type", "veth", "peer", "name", "outside")
    for device in ("uplink", "outside"):
        lab.run("sysctl", "-qw", f"net.ipv6.conf.{device}.disable_ipv6=1")
        lab.run("ip", "link", "set", device, "up")
    lab.run("ip", "address", "add", "192.0.2.1/24", "dev", "uplink")
    lab.run("ip", "route", "add", "default", "via", "192.0.2.2")


def in_guest(lab: Lab, machine: str, *argv: str) -> str:
    return lab.heddle("exec", machine, "--", *argv).stdout


def guest_mac(lab: Lab, machine: str) -> str:
    return in_guest(lab, machine, "cat", "/sys/class/net/eth0/address").strip()


def neighbor_mac(lab: Lab, machine: str, address: str) -> str:
    """What a guest has learnt by ARP."""
    shown = in_guest(lab, machine, "ip", "neigh", "show", address)
    found = re.search(r"lladdr (\S+)", shown)
    assert found, shown
    return found[1]


@contextmanager
def captured(lab: Lab, machine: str) -> Iterator[list[Frame]]:
    """Frames on the TAP of a guest's first NIC; the list is filled when the block ends."""
    frames: list[Frame] = []
    command = lab.command(sys.executable, str(CAPTURE), lab.device(f"{machine}:0"))
    with lab.background(command) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "{}\n"
        yield frames
        process.terminate()
        for line in process.stdout:
            seen = json.loads(line)
            ether = Ether(bytes.fromhex(seen["head"]))
            frames.append(Frame(seen["out"], ether, seen["length"]))


def test_guests_have_the_addresses_of_the_file(lab: Lab) -> None:
    for machine, address, gateway in (("vm0", VM0, GATEWAY0), ("vm1", VM1, GATEWAY1)):
        assert f"inet {address}/24 " in in_guest(lab, machine, "ip", "address", "show", "eth0")
        assert f"mtu {MTU} " in in_guest(lab, machine, "ip", "link", "show", "eth0")
        assert f"default via {gateway} " in in_guest(lab, machine, "ip", "route")


def test_ping_is_routed_once_each_way(lab: Lab) -> None:
    with captured(lab, "vm1") as frames:
        said = in_guest(lab, "vm0", "ping", "-c", "3", "-W", "10", VM1)
    assert "3 packets received" in said
    assert len(re.findall(r"ttl=63 ", said)) == 3, said
    requests = [f for f in frames if f.out and ICMP in f.ether and f.ether[ICMP].type == 8]
    replies = [f for f in frames if not f.out and ICMP in f.ether and f.ether[ICMP].type == 0]
    assert [f.ether[IP].ttl for f in requests] == [63] * 3
    assert [f.ether[IP].ttl for f in replies] == [64] * 3
    assert {(f.ether[IP].src, f.ether[IP].dst) for f in requests} == {(VM0, VM1)}


def test_macs_are_rewritten_at_the_router(lab: Lab) -> None:
    with captured(lab, "vm0") as on_vm0, captured(lab, "vm1") as on_vm1:
        in_guest(lab, "vm0", "ping", "-c", "1", "-W", "10", VM1)
    inside = guest_mac(lab, "vm0"), neighbor_mac(lab, "vm0", GATEWAY0)
    outside = neighbor_mac(lab, "vm1", GATEWAY1), guest_mac(lab, "vm1")
    assert echo_request_macs(on_vm0, out=False) == {inside}
    assert echo_request_macs(on_vm1, out=True) == {outside}
    assert len({*inside, *outside}) == 4


def echo_request_macs(frames: list[Frame], *, out: bool) -> set[tuple[str, str]]:
    return {
        (f.ether.src, f.ether.dst)
        for f in frames
        if f.out == out and ICMP in f.ether and f.ether[ICMP].type == 8
    }


def test_tcp_stays_whole_from_guest_to_guest(lab: Lab) -> None:
    """What the sender segments late arrives unsegmented."""
    with captured(lab, "vm1") as frames:
        said = in_guest(lab, "vm0", "iperf3", "--json", "--client", VM1, "--bytes", "16M")
    assert json.loads(said)["end"]["sum_received"]["bytes"] > 8 << 20  # the rest is on its way
    sizes = [f.length for f in frames if f.out and TCP in f.ether and f.length > 200]
    assert max(sizes) > 4 * MTU
    assert sum(size for size in sizes if size > MTU + 14) > sum(sizes) / 2


def test_the_gateway_answers(lab: Lab) -> None:
    assert "ttl=64 " in in_guest(lab, "vm0", "ping", "-c", "1", "-W", "10", GATEWAY0)
    assert "ttl=64 " in in_guest(lab, "vm1", "ping", "-c", "1", "-W", "10", GATEWAY1)


def test_nothing_left_the_host(lab: Lab) -> None:
    """After traffic in which all of it could have: the host has a default route."""
    in_guest(lab, "vm0", "ping", "-c", "1", "-W", "10", VM1)
    lab.heddle("exec", "vm0", "--", "ping", "-c", "1", "-W", "1", "198.51.100.1", check=False)
    shown = json.loads(lab.run("ip", "-json", "-stats", "link", "show", "uplink").stdout)[0]
    assert shown["stats64"]["tx"]["packets"] == 0


def test_a_nic_is_added_and_removed_by_apply(lab: Lab) -> None:
    """To a guest that runs on."""
    boot = boot_id(lab, "vm0")
    before = EXAMPLE.read_text()
    after = before.replace("address: 172.17.17.2}", "address: 172.17.17.2}\n      - {network: db}")
    assert after != before
    lab.heddle("up", lab.write(after, EXAMPLE.name), "--timeout", "240")
    shown = in_guest(lab, "vm0", "ip", "address", "show", "eth1")
    assert "inet 192.168.0." in shown
    lab.heddle("apply", lab.write(before, EXAMPLE.name))
    eventually(lambda: "eth1" not in devices(lab, "vm0"), "the NIC is gone", 60)
    assert boot_id(lab, "vm0") == boot


def test_power_by_command(lab: Lab) -> None:
    lab.heddle("vm", "shutdown", "vm1")
    assert states(lab) == {"vm0": "running", "vm1": "stopped"}
    refused = lab.heddle("exec", "vm1", "--", "true", check=False)
    assert refused.returncode == 1
    assert "vm1 is not running: run heddle vm start vm1" in refused.stderr
    lab.heddle("vm", "start", "vm1", "--timeout", "240")
    assert states(lab) == {"vm0": "running", "vm1": "running"}
    # A guest has its address a moment before its route, by which it answers.
    answer = eventually(lambda: answer_to_ping(lab, "vm0", VM1), "vm1 answers", 240)
    assert "ttl=63" in answer


def test_guests_live_on_without_the_agent(lab: Lab) -> None:
    boot = boot_id(lab, "vm0")
    lab.kill_agent()
    assert "ttl=63" in in_guest(lab, "vm0", "ping", "-c", "1", "-W", "10", VM1)
    lab.heddle("up", lab.root / EXAMPLE.name, "--timeout", "240")
    assert boot_id(lab, "vm0") == boot


def answer_to_ping(lab: Lab, machine: str, address: str) -> str:
    """What ping in a guest says; nothing without an answer."""
    ping = ("ping", "-c", "1", "-W", "5", address)
    done = lab.heddle("exec", machine, "--", *ping, check=False)
    return "" if done.returncode else done.stdout


def boot_id(lab: Lab, machine: str) -> str:
    return in_guest(lab, machine, "cat", "/proc/sys/kernel/random/boot_id")


def states(lab: Lab) -> dict[str, str]:
    listed = json.loads(lab.heddle("vm", "list", "--json").stdout)
    return {item["name"]: item["status"]["state"] for item in listed}


def devices(lab: Lab, machine: str) -> list[str]:
    return in_guest(lab, machine, "ls", "/sys/class/net").split()
