"""Agents and etcd die, cables are cut; traffic between healthy hosts goes on."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from cluster import Running, cluster, eventually

from heddle.lab.etcd import member_pid, stop_member

TOPOLOGY = """
version: 1
hosts: {h1: {}, h2: {}}
networks:
  web: {cidr: 172.17.17.0/24}
  db: {cidr: 192.168.0.0/24}
routers: {main: {networks: [web, db]}}
security_groups: {open: [{direction: from_vm}, {direction: to_vm}]}
machines:
  w1: {kind: container, host: h1, nics: [
    {network: web, address: 172.17.17.11, security_groups: [open]}]}
  w2: {kind: container, host: h2, nics: [
    {network: web, address: 172.17.17.12, security_groups: [open]}]}
  d2: {kind: container, host: h2, nics: [
    {network: db, address: 192.168.0.12, security_groups: [open]}]}
"""
W1, W2, D2 = "h1/w1", "h2/w2", "h2/d2"
ADDRESSES = {W2: "172.17.17.12", D2: "192.168.0.12"}
PROGRAM = str(Path(__file__).parents[1] / "netns" / "traffic.py")
RATE = 500
PORT = 7000


@pytest.fixture(scope="module")
def lab() -> Iterator[Running]:
    with cluster() as made:
        running = made.up(TOPOLOGY)
        for address in ADDRESSES.values():
            eventually(lambda a=address: running.pings(W1, a), f"w1 to reach {address}")
        yield running


@contextmanager
def losing_nothing(lab: Running) -> Iterator[None]:
    """Numbered datagrams from w1 to both others during the block: all come."""
    with ExitStack() as stack:
        ends = []
        for receiver, address in ADDRESSES.items():
            counter = stack.enter_context(_running(lab, receiver, "count", str(PORT)))
            assert counter.stdout.readline() == "listening\n"
            sender = stack.enter_context(_running(lab, W1, "send", address, str(PORT), str(RATE)))
            assert sender.stdout.readline() == "sending\n"
            ends.append((sender, counter))
        yield
        for sender, counter in ends:
            sent = int(_end(sender))
            came = json.loads(_end(counter))
            assert sent > 10
            assert came["different"] == sent
            assert came["came"] == sent


@contextmanager
def _running(lab: Running, machine: str, *argv: str) -> Iterator[Any]:
    command = lab.inside(machine, sys.executable, PROGRAM, *argv)
    with lab.background(command) as process:
        yield process


def _end(process: Any) -> str:  # noqa: ANN401 (Popen[str])
    output, _ = process.communicate(timeout=60)
    return str(output)


def restart_agents(lab: Running) -> None:
    lab.cluster.up(TOPOLOGY)


def test_killed_agents_lose_nothing(lab: Running) -> None:
    with losing_nothing(lab):
        for host in ("h1", "h2"):
            os.kill(lab.agent_pid(host), signal.SIGKILL)
        eventually(lambda: not _agents(lab), "the agents' end")
        restart_agents(lab)
        assert len(_agents(lab)) == 2


def test_a_killed_etcd_stops_no_traffic(lab: Running) -> None:
    with losing_nothing(lab):
        assert stop_member(lab.folder.etcd, 1)
        eventually(lambda: member_pid(lab.folder.etcd, 1) is None, "the end of etcd")
        offered = lab.exec(
            W2, "busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-f", "-s", "/bin/true"
        )
        assert "lease of 172.17.17.12 obtained" in offered.stderr
        assert lab.pings(W2, "172.17.17.11")
    restart_agents(lab)
    assert len(_agents(lab)) == 2


def test_a_cut_ends_traffic_and_healing_restores_it(lab: Running) -> None:
    lab.cluster.heddle("lab", "cut", "h1", "h2")
    assert not lab.pings(W1, ADDRESSES[W2])
    lab.cluster.heddle("lab", "heal")
    eventually(lambda: lab.pings(W1, ADDRESSES[W2]), "traffic after healing")
    with losing_nothing(lab):
        for _ in range(20):
            assert lab.pings(W1, ADDRESSES[W2])


@pytest.mark.parametrize("host", ["h1", "h2"])
def test_a_damaged_tunnel_is_repaired_and_told(lab: Running, host: str) -> None:
    lab.host(host, "ip", "link", "delete", "heddle-vxlan")
    eventually(lambda: lab.pings(W1, ADDRESSES[D2]), "traffic over the new tunnel", 5)
    shown = lab.host(host, "heddle", "show", "agent").stdout
    assert "+ link heddle-vxlan" in shown


def _agents(lab: Running) -> list[str]:
    listed = json.loads(lab.cluster.heddle("lab", "list", "--json").stdout)
    return list(listed[0]["agents"])
