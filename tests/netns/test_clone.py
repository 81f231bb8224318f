"""A copy of running networks beside them: equal addresses, and nothing gets across."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from lab import Lab, eventually
from scapy.layers.inet import UDP
from wire import Capture, captured, mac_of

TWINS = """
version: 1
networks:
  one: {cidr: [10.1.0.0/24, "fd00:1::/64"]}
  two: {cidr: [10.2.0.0/24, "fd00:2::/64"]}
routers:
  main: {networks: [one, two]}
machines:
  c0: {kind: container, nics: [{network: one, address: [10.1.0.10, "fd00:1::10"]}]}
  c1: {kind: container, nics: [{network: one, address: [10.1.0.11, "fd00:1::11"]}]}
  c2: {kind: container, nics: [{network: two, address: [10.2.0.12, "fd00:2::12"]}]}
"""
PORT, COUNT = 4444, 20


@pytest.fixture(scope="module")
def twins(module_lab: Lab) -> Lab:
    module_lab.heddle("up", module_lab.write(TWINS))
    done = module_lab.heddle("clone", "one", "two", "--as", "copy")
    assert done.stdout.endswith("clone copy: 2 network, 4 subnet, 1 router, 3 machine, 3 port\n")
    return module_lab


def send(lab: Lab, machine: str, to: str, text: str, count: int) -> None:
    """Datagrams to an address, which may be a broadcast or multicast one."""
    family = "AF_INET6" if ":" in to else "AF_INET"
    code = (
        f"import socket; s = socket.socket(socket.{family}, socket.SOCK_DGRAM); "
        "s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1); "
        f"[s.sendto(b'{text}', ('{to}', {PORT})) for _ in range({count})]"
    )
    lab.exec(machine, sys.executable, "-c", code)


def test_macs_and_addresses_are_equal(twins: Lab) -> None:
    for name in ("c0", "c1", "c2"):
        assert mac_of(twins, name) == mac_of(twins, f"copy-{name}")
        shown = [
            twins.exec(machine, "ip", "-o", "address", "show", "dev", "eth0", "scope", "global")
            for machine in (name, f"copy-{name}")
        ]
        addresses = [sorted(w for w in s.stdout.split() if "/" in w) for s in shown]
        assert addresses[0] == addresses[1]


@pytest.mark.parametrize("machine", ["c0", "copy-c0"])
@pytest.mark.parametrize("address", ["10.1.0.11", "10.2.0.12", "fd00:1::11", "fd00:2::12"])
def test_each_reaches_its_own(twins: Lab, machine: str, address: str) -> None:
    twins.exec(machine, "ping", "-c", "1", "-W", "30", address)


GROUPS = ("10.1.0.255", "224.0.0.251")
END = {"c0": "10.1.0.10", "c1": "10.1.0.11", "c2": "10.2.0.12"}


@pytest.mark.parametrize("to", ["10.1.0.11", "10.2.0.12", "fd00:1::11", "fd00:2::12", *GROUPS])
@pytest.mark.parametrize(("sender", "others"), [("c0", "copy-"), ("copy-c0", "")])
def test_nothing_gets_across(twins: Lab, sender: str, others: str, to: str) -> None:
    """Of what one sends to an address, a broadcast or multicast group, the other's
    machines of the same addresses see nothing, and its own machines all."""
    receiver = sender.removesuffix("c0") + ("c2" if to.endswith("12") else "c1")
    with ExitStack() as stack:
        words = f"udp port {PORT}"
        captures = {
            machine: stack.enter_context(captured(twins, machine, words=words))
            for machine in (receiver, *(others + name for name in END))
        }
        send(twins, sender, to, sender, COUNT)
        for name, address in END.items():  # what comes before this has come before this
            send(twins, others + ("c1" if name == "c0" else "c0"), address, "end", 1)
        seen = {machine: _texts(capture) for machine, capture in captures.items()}
    assert seen.pop(receiver) == [sender] * COUNT
    assert {machine: set(texts) for machine, texts in seen.items()} == {
        others + name: {"end"} for name in END
    }


def _texts(capture: Capture) -> list[str]:
    """Texts of the datagrams that were seen, when all that must come have come."""

    def texts() -> list[str]:
        found = [bytes(frame[UDP].payload).rstrip(b"\0").decode() for frame in capture.frames()]
        return found if "end" in found or len(found) >= COUNT else []

    return eventually(texts, "the last datagram")


DISKS = """
version: 1
networks: {store: {cidr: 10.3.0.0/24}}
machines:
  disk0: {image: first.raw, nics: [{network: store}]}
  disk1: {image: second.raw, nics: [{network: store}]}
"""
OTHER = "version: 1\nnetworks: {other: {cidr: 10.4.0.0/24}}\n"


@pytest.fixture
def disks(twins: Lab) -> Iterator[Path]:
    """The second of two disks, which is a FIFO: to copy it takes as long as a test wants."""
    (twins.root / "first.raw").write_bytes(b"first")
    second = twins.root / "second.raw"
    second.touch()
    file = twins.write(DISKS, "disks.yaml")
    twins.heddle("apply", file)
    second.unlink()
    os.mkfifo(second)
    yield second
    twins.heddle("down", file)
    second.unlink()


def test_what_is_written_while_disks_are_copied_does_no_harm(twins: Lab, disks: Path) -> None:
    clone = [sys.executable, "-m", "heddle.cli.main", "clone", "store", "--as", "disks"]
    with twins.background(twins.command(*clone)) as process:
        with disks.open("wb") as writer:  # once cp has opened it
            twins.heddle("apply", twins.write(OTHER, "other.yaml"))
            writer.write(b"second")
        assert process.wait(60) == 0, process.communicate()
    assert (twins.root / "first-disks.raw").read_bytes() == b"first"
    assert (twins.root / "second-disks.raw").read_bytes() == b"second"
    twins.heddle("clone", "--remove", "disks")
    assert not list(twins.root.glob("*-disks.raw"))
    twins.heddle("down", twins.root / "other.yaml")


def test_a_clone_that_fails_leaves_no_disk(twins: Lab, disks: Path) -> None:
    kept = disks.with_name("second-disks.raw")
    kept.write_bytes(b"somebody's")
    done = twins.heddle("clone", "store", "--as", "disks", check=False)
    assert (done.returncode, "exists already: give the clone another name" in done.stderr) == (
        2,
        True,
    )
    assert list(twins.root.glob("*-disks.raw")) == [kept]
    kept.unlink()
    disks.rename(disks.with_name("away"))
    done = twins.heddle("clone", "store", "--as", "disks", check=False)
    disks.with_name("away").rename(disks)
    assert (
        f"machine disk1: its disk {disks} is not on this host: run heddle clone on" in done.stderr
    )


def test_removed(twins: Lab) -> None:
    """What was there before goes on."""
    done = twins.heddle("clone", "--remove", "copy")
    assert done.stdout.startswith("removed clone copy: ")
    assert {row["name"] for row in twins.show("network")} == {"one", "two"}
    twins.exec("c0", "ping", "-c", "1", "-W", "30", "10.2.0.12")
    again = twins.heddle("clone", "--remove", "copy", check=False)
    assert (again.returncode, again.stderr) == (
        2,
        "heddle: there is no clone 'copy'; there is: none\n",
    )


def test_wrong_requests(twins: Lab) -> None:
    for words, text in {
        ("one", "--as", "x"): "router main joins network two as well: name that, too",
        ("onne", "--as", "x"): "no network 'onne'; there is: one, two",
        ("one", "--as", "a b"): "clone name 'a b': use letters, digits and -, at most 32",
        ("--as", "x"): "name the networks to copy, such as: heddle clone web db --as test",
    }.items():
        done = twins.heddle("clone", *words, check=False)
        assert (done.returncode, done.stderr) == (2, f"heddle: {text}\n")
