"""``heddle lab``: made, changed, damaged, and gone without a trace."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import Cluster, Running, cluster, eventually

from heddle.lab.etcd import member_pid, stop_member
from heddle.lab.folder import ETCD, UNDERLAY

TWO = """
version: 1
hosts: {h1: {}, h2: {}}
networks: {web: {cidr: 172.17.17.0/24}}
machines:
  c1: {kind: container, host: h1, nics: [{network: web, address: 172.17.17.2}]}
  c2: {kind: container, host: h2, nics: [{network: web, address: 172.17.17.3}]}
"""
THREE = TWO.replace("h2: {}}", "h2: {}, h3: {}}")
BARE = "version: 1\nhosts: {h1: {}, h2: {}, h3: {}}\n"
KILLS = 6


@pytest.fixture(scope="module")
def shared() -> Iterator[Running]:
    """Three hosts without machines, for tests that leave them as they find them."""
    with cluster() as made:
        yield made.up(BARE)


def reaches(lab: Running, sender: str, receiver: str) -> bool:
    """Whether a ping passes between two hosts of the underlay."""
    space = lab.space(sender)
    address = _address(lab, receiver)
    return not lab.cluster.run(
        space.entering(["ping", "-c", "1", "-W", "1", address]), check=False
    ).returncode


def _address(lab: Running, host: str) -> str:
    plan = lab.plan
    return plan.members[0].split("/")[0] if host == ETCD else plan.host(host).vtep


# ---- up and down -------------------------------------------------------------


def test_up_gives_hosts_agents_and_ready_ports(empty: Cluster) -> None:
    done = empty.heddle("lab", "up", empty.write(TWO), "--name", "lab")
    assert "+ machine c1: container, on h1" in done.stdout
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith("h")]
    assert [(row[0], row[1], row[-1]) for row in rows] == [
        ("h1", "c1:0", "active"),
        ("h2", "c2:0", "active"),
    ]
    lab = empty.lab()
    assert lab.host("h1", "hostname").stdout == "h1\n"
    assert lab.host("h2", "sh", "-c", "cat /etc/machine-id").stdout != (
        lab.host("h1", "sh", "-c", "cat /etc/machine-id").stdout
    )
    assert {machine["name"] for machine in lab.show("machine", host="h2")} == {"c1", "c2"}
    again = empty.heddle("lab", "up", empty.write(TWO), "--name", "lab")
    assert again.stdout.startswith("nothing to change\n")
    empty.heddle("lab", "down")
    eventually(lambda: not empty.leftovers(), f"nothing to be left: {empty.leftovers()}", 5)


def test_hosts_leave_each_others_name_servers_alone(empty: Cluster) -> None:
    text = TWO.replace("172.17.17.0/24}", "172.17.17.0/24, dns: [172.17.17.53]}")
    empty.heddle("lab", "up", empty.write(text), "--name", "lab")
    lab = empty.lab()
    sweep = "from heddle.hypervisor.namespaces import forget_resolvers_of_the_gone as f; f()"
    lab.host("h2", sys.executable, "-c", sweep)
    servers = lab.host("h1", "ip", "netns", "exec", "heddle-c1", "cat", "/etc/resolv.conf").stdout
    assert servers == "nameserver 172.17.17.53\n"


def test_a_lab_follows_its_file(empty: Cluster) -> None:
    lab = empty.up(TWO)
    before = {host.name: host for host in lab.plan.hosts}
    index = lab.agent_pid("h1")
    lab = empty.up(THREE)
    assert {host.name: host for host in lab.plan.hosts}.items() >= before.items()
    assert lab.agent_pid("h1") == index
    assert lab.host("h3", "hostname").stdout == "h3\n"
    lab = empty.up(TWO)
    assert [host.name for host in lab.plan.hosts] == ["h1", "h2"]
    assert {host["name"] for host in lab.show("host")} == {"h1", "h2"}
    assert not lab.folder.root("h3").exists()
    assert "to-h3" not in lab.cluster.run(lab.space(UNDERLAY).entering(["ip", "link"])).stdout


def test_two_labs_have_hosts_of_the_same_names(empty: Cluster) -> None:
    one, other = empty.up(TWO, name="one"), empty.up(TWO, name="other")
    listed = empty.heddle("lab", "list").stdout
    assert "one" in listed
    assert "other" in listed
    which = empty.heddle("lab", "exec", "h1", "--", "hostname", check=False)
    assert which.returncode == 2
    assert "which lab: one, other?" in which.stderr
    empty.heddle("lab", "down", "other")
    assert one.host("h1", "heddle", "exec", "c1", "--", "true").returncode == 0
    assert not other.folder.path.exists()


def test_what_has_died_is_started_again(empty: Cluster) -> None:
    lab = empty.up(TWO)
    os.kill(lab.agent_pid("h2"), signal.SIGKILL)
    assert stop_member(lab.folder.etcd, 1)
    lab = empty.up(TWO)
    assert lab.agent_pid("h2")
    assert member_pid(lab.folder.etcd, 1)
    assert empty.heddle("lab", "list").stdout.split()[-3:] == ["h1", "h2", "-"]


def test_down_on_a_host_empties_the_cluster_and_keeps_its_hosts(empty: Cluster) -> None:
    lab = empty.up(TWO)
    lab.host("h1", "heddle", "down")
    assert lab.show("machine", host="h2") == []
    assert {host["name"] for host in lab.show("host")} == {"h1", "h2"}
    lab = empty.up(TWO)
    eventually(lambda: lab.pings("h1/c1", "172.17.17.3"), "the guests to talk again")


# ---- death -------------------------------------------------------------------


@pytest.mark.parametrize("number", range(KILLS))
def test_a_killed_up_leaves_what_down_takes_away(empty: Cluster, number: int) -> None:
    """At a moment that goes from the first to the last by and by."""
    _die(empty, ["lab", "up", str(empty.write(TWO)), "--name", "lab"], number / KILLS * 6)
    empty.heddle("lab", "down", "lab", check=False)  # there may be nothing yet
    eventually(lambda: not empty.leftovers(), f"nothing to be left: {empty.leftovers()}", 5)


@pytest.mark.parametrize("number", range(3))
def test_a_killed_up_is_carried_on_by_the_next(empty: Cluster, number: int) -> None:
    _die(empty, ["lab", "up", str(empty.write(TWO)), "--name", "lab"], 0.3 + number)
    lab = empty.up(TWO)
    assert lab.host("h2", "heddle", "exec", "c2", "--", "true").returncode == 0


@pytest.mark.parametrize("number", range(3))
def test_a_killed_down_is_carried_on_by_the_next(empty: Cluster, number: int) -> None:
    empty.up(TWO)
    _die(empty, ["lab", "down"], 0.2 + number * 0.15)
    empty.heddle("lab", "down", check=False)
    eventually(lambda: not empty.leftovers(), f"nothing to be left: {empty.leftovers()}", 5)


def _die(made: Cluster, argv: list[str], seconds: float) -> None:
    """Start a command, and kill it after about so long, if it still runs."""
    process = subprocess.Popen(
        [*made.command(), *argv],
        env=made.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        process.wait(seconds + random.uniform(0, 0.2))  # noqa: S311 (no secret)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


# ---- faults of the underlay ----------------------------------------------------


def test_a_cut_is_between_two_hosts_alone(shared: Running) -> None:
    shared.cluster.heddle("lab", "cut", "h1", "h2")
    assert not reaches(shared, "h1", "h2")
    assert not reaches(shared, "h2", "h1")
    assert reaches(shared, "h1", "h3")
    assert reaches(shared, "h2", ETCD)
    assert "h1-h2" in shared.cluster.heddle("lab", "list").stdout
    shared.cluster.heddle("lab", "heal", "h2", "h1")
    assert reaches(shared, "h1", "h2")


def test_a_cut_may_be_one_way(shared: Running) -> None:
    """An answer to what came through is lost as well as a request: so frames
    are counted where they arrive."""
    shared.cluster.heddle("lab", "cut", "h1", "h2", "--one-way")
    assert not reaches(shared, "h1", "h2")
    assert "h1>h2" in shared.cluster.heddle("lab", "list").stdout
    before = _received(shared, "h1")
    assert not reaches(shared, "h2", "h1")
    assert _received(shared, "h1") > before
    shared.cluster.heddle("lab", "heal")
    assert reaches(shared, "h1", "h2")


def test_a_host_can_be_cut_off(shared: Running) -> None:
    shared.cluster.heddle("lab", "cut", "h1")
    assert not any(reaches(shared, "h1", other) for other in ("h2", ETCD))
    assert reaches(shared, "h2", "h3")
    shared.cluster.heddle("lab", "heal", "h1")
    assert reaches(shared, "h1", "h2")
    assert reaches(shared, "h1", ETCD)


def _received(lab: Running, host: str) -> int:
    return int(lab.host(host, "cat", "/sys/class/net/eth0/statistics/rx_packets").stdout)


# ---- requests that are wrong -----------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["exec", "h9", "--", "true"], "has no host 'h9'; it has h1, h2, h3"),
        (["cut", "h1", "h9"], "has no host 'h9'"),
        (["cut", "h1", "h1"], "name one host, or two different ones"),
        (["cut", "h1", "--one-way"], "--one-way is about two hosts"),
        (["down", "nothing"], "no lab 'nothing'; there is: lab"),
    ],
)
def test_a_wrong_request_says_what_would_be_right(
    shared: Running, argv: list[str], says: str
) -> None:
    done = shared.cluster.heddle("lab", *argv, check=False)
    assert done.returncode == 2
    assert says in done.stderr


def test_a_file_without_hosts_is_no_lab(empty: Cluster) -> None:
    file = empty.write("version: 1\nnetworks: {web: {cidr: 10.0.0.0/24}}\n")
    done = empty.heddle("lab", "up", file, check=False)
    assert done.returncode == 2
    assert "it names no hosts; add `hosts: {h1: {}, h2: {}}`" in done.stderr
    assert not empty.leftovers()


def test_names_that_are_too_long_for_sockets_are_refused(empty: Cluster) -> None:
    file = empty.write(f"version: 1\nhosts: {{{'h' * 60}: {{}}}}\n")
    done = empty.heddle("lab", "up", file, "--name", "lab", check=False)
    assert done.returncode == 2
    assert "is too long for a socket (107 bytes): give the lab (--name)" in done.stderr
    assert not empty.leftovers()


def test_another_underlay_wants_the_lab_down_first(shared: Running) -> None:
    file = shared.cluster.write(BARE + "underlay: {mtu: 9000}\n")
    done = shared.cluster.heddle("lab", "up", file, "--name", "lab", check=False)
    assert done.returncode == 2
    assert "`heddle lab down lab` first" in done.stderr


def test_without_etcd_the_remedy_is_named(empty: Cluster, tmp_path: Path) -> None:
    empty.environment["PATH"] = str(tmp_path)
    done = empty.heddle("lab", "up", empty.write(TWO), check=False)
    assert done.returncode == 1
    assert "etcd is missing: apt-get install etcd-server" in done.stderr
    del empty.environment["PATH"]


def test_down_is_quick(empty: Cluster) -> None:
    empty.up(BARE)
    began = time.monotonic()
    empty.heddle("lab", "down")
    assert time.monotonic() - began < 10
