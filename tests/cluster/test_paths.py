"""Paths between the hosts of a lab: cuts are got around, healing loses nothing, and
what a path carries is proven."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from cluster import Cluster, Running, eventually

HOSTS = ("h1", "h2", "h3", "h4")
SOON = 10.0  # seconds on a busy machine; on an idle one it takes two
TRAFFIC = Path(__file__).parent.parent / "netns" / "traffic.py"
PORT = 7000
PER_SECOND = 1000.0

TOPOLOGY = """
version: 1
underlay: {cidr: 198.18.0.0/24}
hosts: {h1: {}, h2: {}, h3: {}, h4: {}}
networks:
  web: {cidr: [10.1.0.0/24, "fd00:1::/64"]}
security_groups:
  open: [{direction: from_vm}, {direction: to_vm}]
machines:
"""
MACHINE = """
  c{0}:
    kind: container
    host: h{0}
    nics: [{{network: web, address: 10.1.0.1{0}, security_groups: [open]}}]
"""


@pytest.fixture(scope="module")
def made(module_cluster: Cluster) -> Running:
    machines = (MACHINE.format(host[1]) for host in HOSTS)
    return module_cluster.up(TOPOLOGY + "".join(machines))


@pytest.fixture
def lab(made: Running) -> Iterator[Running]:
    """All paths are direct; cuts are healed afterwards."""
    pairs = list(permutations(HOSTS, 2))
    eventually(lambda: all(way(made, *pair) == "direct" for pair in pairs), "direct paths", 30)
    yield made
    heal(made)


def paths(lab: Running, host: str) -> dict[str, dict[str, Any]]:
    return {path["host"]: path for path in lab.show("paths", host=host)["paths"]}


def way(lab: Running, host: str, to: str) -> str:
    """``direct``, the relay, or what else there is to say."""
    path = paths(lab, host).get(to, {"relay": None, "state": "no path"})
    return str(path["relay"] or path["state"])


def wait_for_way(lab: Running, host: str, to: str, *expected: str) -> str:
    def found() -> str | None:
        is_now = way(lab, host, to)
        return is_now if is_now in expected else None

    return eventually(found, f"{host} to reach {to} by {expected}", SOON)


def first_way_told(lab: Running, host: str, to: str) -> str:
    """By an agent that has just started."""
    return eventually(lambda: None if (told := way(lab, host, to)) == "no path" else told, "a way")


def cut(lab: Running, *words: str) -> None:
    lab.cluster.heddle("lab", "cut", "--name", lab.folder.name, *words)


def heal(lab: Running) -> None:
    lab.cluster.heddle("lab", "heal", "--name", lab.folder.name)


def address(host: str) -> str:
    return f"10.1.0.1{host[1]}"


def container(host: str) -> str:
    return f"{host}/c{host[1]}"


def reaches(lab: Running, host: str, to: str) -> bool:
    return lab.pings(container(host), address(to))


# ---- relays -------------------------------------------------------------------------


def test_cut_pair_goes_through_a_relay(lab: Running) -> None:
    cut(lab, "h1", "h3")
    wait_for_way(lab, "h1", "h3", "h2", "h4")
    wait_for_way(lab, "h3", "h1", "h2", "h4")
    assert reaches(lab, "h1", "h3")
    assert reaches(lab, "h3", "h1")
    assert way(lab, "h1", "h2") == "direct"
    why = paths(lab, "h1")["h3"]["why"]
    assert why == "direct probes are not answered; this relay answers fastest"


def test_cut_one_way_counts_for_both(lab: Running) -> None:
    cut(lab, "--one-way", "h1", "h3")
    wait_for_way(lab, "h1", "h3", "h2", "h4")
    wait_for_way(lab, "h3", "h1", "h2", "h4")
    assert reaches(lab, "h1", "h3")


def test_healing_loses_nothing(lab: Running) -> None:
    """A packet each way every millisecond, while the path becomes direct again."""
    cut(lab, "h1", "h3")
    wait_for_way(lab, "h1", "h3", "h2", "h4")
    wait_for_way(lab, "h3", "h1", "h2", "h4")
    with stream(lab, "h1", "h3") as one, stream(lab, "h3", "h1") as other:
        heal(lab)
        wait_for_way(lab, "h1", "h3", "direct")
        wait_for_way(lab, "h3", "h1", "direct")
    for sent, taken in (one(), other()):
        assert sent > PER_SECOND / 10
        assert taken == {"came": sent, "different": sent}


def test_another_relay_takes_over(lab: Running) -> None:
    cut(lab, "h1", "h3")
    relay = wait_for_way(lab, "h1", "h3", "h2", "h4")
    cut(lab, relay)  # a host that is dead
    other = {"h2": "h4", "h4": "h2"}[relay]
    wait_for_way(lab, "h1", "h3", other)
    wait_for_way(lab, "h3", "h1", other)
    assert reaches(lab, "h1", "h3")


def test_star_through_one_host(lab: Running) -> None:
    for one, other in (("h2", "h3"), ("h2", "h4"), ("h3", "h4")):
        cut(lab, one, other)
    for pair in permutations(("h2", "h3", "h4"), 2):
        wait_for_way(lab, *pair, "h1")
    assert all(reaches(lab, *pair) for pair in permutations(HOSTS, 2))


def test_host_that_nobody_reaches(lab: Running) -> None:
    cut(lab, "h4")
    wait_for_way(lab, "h1", "h4", "unreachable")
    doctor = lab.host("h1", "heddle", "doctor", "--json", check=False)
    finding = next(f for f in json.loads(doctor.stdout) if f["name"] == "paths")
    assert (doctor.returncode, finding["state"]) == (1, "broken")
    assert "host h4 is not reached" in finding["detail"]


# ---- without agent and store ------------------------------------------------------


def test_relay_outlives_the_agent(lab: Running) -> None:
    cut(lab, "h1", "h3")
    relay = wait_for_way(lab, "h1", "h3", "h2", "h4")
    wait_for_way(lab, "h3", "h1", "h2", "h4")
    os.kill(lab.agent_pid("h1"), signal.SIGKILL)
    with stream(lab, "h1", "h3") as one, stream(lab, "h3", "h1") as other:
        lab.host("h1", "heddle", "agent", "--detach")
        assert first_way_told(lab, "h1", "h3") == relay
    for sent, taken in (one(), other()):
        assert taken == {"came": sent, "different": sent}


def test_relay_is_found_without_the_store(lab: Running) -> None:
    for pid in _etcd_of(lab):
        os.kill(pid, signal.SIGSTOP)
    try:
        cut(lab, "h1", "h3")
        eventually(lambda: reaches(lab, "h1", "h3"), "a relay")
        eventually(lambda: reaches(lab, "h3", "h1"), "a relay the other way")
        assert way(lab, "h1", "h3") in ("h2", "h4")
    finally:
        for pid in _etcd_of(lab):
            os.kill(pid, signal.SIGCONT)


# ---- MTU ---------------------------------------------------------------------------


def test_mtu_is_proven(lab: Running) -> None:
    for one, other in permutations(HOSTS, 2):
        eventually(lambda pair=(one, other): mtu(lab, *pair) == 1450, "the size of the underlay")


def test_path_that_shrinks_is_flagged_and_recovers(lab: Running) -> None:
    with narrow(lab, "h3", 1400):
        eventually(lambda: mtu(lab, "h1", "h3") == 1350, "a smaller path", 40)
        assert way(lab, "h1", "h3") == "direct"
        problem = (
            "network web: packets of 1450 bytes do not pass between hosts h1 and h3, whose path "
            "carries 1350"
        )
        eventually(lambda: problem in lab.host("h1", "heddle", "show").stdout, "the flag")
        doctor = lab.host("h1", "heddle", "doctor", check=False)
        assert problem in doctor.stdout
        assert doctor.returncode == 1
        ping = ["ping", "-c", "1", "-W", "2", "-M", "do", "-s", str(1400 - 28), address("h3")]
        refused = lab.exec(container("h1"), *ping, check=False)
        assert "mtu = 1350" in refused.stdout + refused.stderr
        assert reaches(lab, "h1", "h3")
    eventually(lambda: mtu(lab, "h1", "h3") == 1450, "the path as it was", 40)
    eventually(lambda: problem not in lab.host("h1", "heddle", "show").stdout, "no flag")
    lab.exec(container("h1"), "ip", "route", "flush", "cache")
    assert lab.exec(container("h1"), *ping).returncode == 0


def test_network_that_does_not_fit_is_refused(lab: Running) -> None:
    text = """
version: 1
networks: {{wide: {{cidr: 10.9.0.0/24, mtu: {mtu}}}}}
machines:
  w1: {{kind: container, host: h1, nics: [{{network: wide}}]}}
  w2: {{kind: container, host: h2, nics: [{{network: wide}}]}}
"""
    eventually(lambda: mtu(lab, "h1", "h2") == 1450, "the size of the underlay")
    eventually(lambda: _published(lab), "the facts")
    done = apply(lab, text.format(mtu=1451))
    assert (done.returncode, done.stderr) == (
        2,
        "heddle: network wide: packets of 1451 bytes do not pass between hosts h1 and h2, whose "
        "path carries 1450; lower `mtu` of the network\n",
    )
    assert [n["name"] for n in lab.show("network")] == ["web"]
    assert apply(lab, text.format(mtu=1450)).returncode == 0
    lab.host("h1", "heddle", "down", str(lab.cluster.root / "wide.yaml"))


def apply(lab: Running, text: str) -> subprocess.CompletedProcess[str]:
    file = lab.cluster.write(text, "wide.yaml")
    return lab.host("h1", "heddle", "apply", str(file), check=False)


def mtu(lab: Running, host: str, to: str) -> int | None:
    found: int | None = paths(lab, host)[to]["mtu"]
    return found


def _published(lab: Running) -> bool:
    overview = lab.show()
    return {path["host"]: path["mtu"] for path in overview["paths"]}.get("h2") == 1450


@contextmanager
def narrow(lab: Running, host: str, size: int) -> Iterator[None]:
    """A host's link to the underlay takes less, and loses what is larger."""
    lab.host(host, "ip", "link", "set", "eth0", "mtu", str(size))
    try:
        yield
    finally:
        lab.host(host, "ip", "link", "set", "eth0", "mtu", "1500")


# ---- traffic -------------------------------------------------------------------------


Result = Callable[[], tuple[int, dict[str, int]]]


@contextmanager
def stream(lab: Running, host: str, to: str) -> Iterator[Result]:
    """Datagrams from container to container while the block runs; afterwards, how
    many were sent, and what came of them."""
    traffic = [sys.executable, str(TRAFFIC)]
    counting = lab.inside(container(to), *traffic, "count", str(PORT))
    sending = [*traffic, "send", address(to), str(PORT), str(PER_SECOND)]
    outcome: list[tuple[int, dict[str, int]]] = []
    with piped(lab, counting) as counter:
        assert counter.stdout is not None
        assert counter.stdout.readline() == "listening\n"
        with piped(lab, lab.inside(container(host), *sending)) as sender:
            assert sender.stdout is not None
            assert sender.stdout.readline() == "sending\n"
            yield lambda: outcome[0]
            sent = int(sender.communicate()[0])
        outcome.append((sent, json.loads(counter.communicate()[0])))


@contextmanager
def piped(lab: Running, argv: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A process that ends when its standard input does."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        argv, env=lab.cluster.environment, text=True, stdin=pipe, stdout=pipe
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _etcd_of(lab: Running) -> list[int]:
    """Processes named etcd that belong to this lab."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if b"etcd" in words.split(b"\0")[0] and str(lab.cluster.root).encode() in words:
            found.append(int(folder.name))
    return found
