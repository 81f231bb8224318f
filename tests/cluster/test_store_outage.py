"""A cluster without its store: all traffic goes on, agents start, and what was
changed is applied afterwards."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from cluster import Cluster, Running, eventually

from heddle.lab.etcd import stop_member

TWO = """
version: 1
hosts: {h1: {}, h2: {}}
networks: {web: {cidr: 172.17.17.0/24}}
machines:
  c1: {kind: container, host: h1, nics: [{network: web, address: 172.17.17.2}]}
  c2: {kind: container, host: h2, nics: [{network: web, address: 172.17.17.3}]}
"""
MORE = TWO + "  c3: {kind: container, host: h2, nics: [{network: web, address: 172.17.17.4}]}\n"


@contextmanager
def pinging(lab: Running, sender: str, address: str) -> Iterator[None]:
    """Pings all the time, of which none may be lost."""
    argv = lab.inside(sender, "ping", "-i", "0.01", "-W", "5", address)
    process = subprocess.Popen(argv, env=lab.cluster.environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        assert "icmp_seq=1 " in process.stdout.readline()  # it is under way
        yield
    finally:
        process.send_signal(signal.SIGINT)
        said = process.communicate()[0]
    found = re.search(r"(\d+) packets transmitted, (\d+) received", said)
    assert found, said
    assert int(found[1]) - int(found[2]) <= 1, said  # the last may still be on its way


def test_nothing_is_lost_with_etcd_gone_and_what_changed_comes_with_it(empty: Cluster) -> None:
    lab = empty.up(TWO)
    with pinging(lab, "h1/c1", "172.17.17.3"):
        assert stop_member(lab.folder.etcd, 1)
        os.kill(lab.agent_pid("h1"), signal.SIGKILL)
        lab.host("h1", "heddle", "agent", "--detach")  # from what it saw last
        shown = lab.host("h1", "heddle", "show", "machine")
        assert "c1" in shown.stdout
        assert "this is what the agent of this host has seen last" in shown.stderr
        refused = lab.host(
            "h1", "heddle", "apply", str(empty.write(MORE, "more.yaml")), check=False
        )
        assert refused.returncode == 1
        assert "etcd does not answer" in refused.stderr
        lab = empty.up(TWO)  # which starts etcd again
        lab = empty.up(MORE)
        assert lab.pings("h1/c1", "172.17.17.4")
    eventually(lambda: not lab.show("agent")["errors"], "the outage to be over")


def test_one_member_of_three_may_go(empty: Cluster) -> None:
    lab = empty.up(TWO, "--etcd-servers", "3")
    with pinging(lab, "h1/c1", "172.17.17.3"):
        for number in (1, 2, 3):
            assert stop_member(lab.folder.etcd, number)
            # The file's own way: it starts the member again at the end.
            lab.host("h1", "heddle", "show", "--json")
            lab = empty.up(TWO if number % 2 else MORE, "--etcd-servers", "3")
    assert {machine["name"] for machine in lab.show("machine")} == {"c1", "c2"}


def life(lab: Running) -> str:
    """What h2 knows of h1."""
    told: str = lab.show("host", "h1", host="h2")["agent"]
    return told


def test_a_host_that_was_cut_off_says_so_and_catches_up(empty: Cluster) -> None:
    lab = empty.up(TWO)
    empty.heddle("lab", "cut", "h1")
    lab.host("h2", "heddle", "apply", str(empty.write(MORE)))
    eventually(lambda: "store" in lab.show("agent").get("errors", ()), "h1 to miss etcd")
    eventually(lambda: life(lab).startswith("down since"), "h1 to be missed")
    assert not lab.show("agent", host="h2")["errors"]
    empty.heddle("lab", "heal")
    eventually(lambda: not lab.show("agent")["errors"], "h1 to find etcd again")
    eventually(lambda: life(lab).startswith("up since"), "h1 to be seen again")
    lab = empty.up(MORE)
    assert lab.pings("h1/c1", "172.17.17.4")
