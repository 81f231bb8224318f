"""Hosts whose clocks are hours apart, and from etcd's: nothing depends on them."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cluster import Running, cluster, eventually

SOURCE = Path(__file__).parent / "skewed_clock.c"
SKEWS = {"h1": -7200, "h2": 7200}
SLACK_SECONDS = 600  # of a slow machine; little beside the hours
W1, W2 = "172.17.17.11", "172.17.17.12"
TOPOLOGY = f"""
version: 1
hosts: {{h1: {{}}, h2: {{}}}}
networks:
  web: {{cidr: 172.17.17.0/24}}
security_groups: {{open: [{{direction: from_vm}}, {{direction: to_vm, protocol: icmp}}]}}
machines:
  w1: {{kind: container, host: h1, nics: [
    {{network: web, address: {W1}, security_groups: [open]}}]}}
  w2: {{kind: container, host: h2, nics: [
    {{network: web, address: {W2}, security_groups: [open]}}]}}
"""
MORE = """
version: 1
networks: {NAME: {cidr: 10.77.0.0/24}}
machines: {NAME: {kind: container, host: HOST, nics: [{network: NAME}]}}
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    library = tmp_path_factory.mktemp("clock") / "skewed_clock.so"
    command = ["cc", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, SOURCE]
    subprocess.run(command, check=True)
    with cluster() as made:
        skews = ",".join(f"{host}={seconds}" for host, seconds in SKEWS.items())
        made.environment |= {"LD_PRELOAD": str(library), "SKEWS": skews}
        yield made.up(TOPOLOGY)


def life(lab: Running, host: str, seen_from: str) -> str:
    """Such as "up since 2026-01-31T12:00:00+00:00"."""
    told = {one["name"]: one["agent"] for one in lab.show("host", host=seen_from)}
    return str(told[host])


def age(since: str, seen_from: str) -> float:
    """Seconds before now, by the clock of a host."""
    now = datetime.now(UTC) + timedelta(seconds=SKEWS[seen_from])
    return (now - datetime.fromisoformat(since)).total_seconds()


def test_the_clocks_are_wrong(lab: Running) -> None:
    for host in SKEWS:
        assert abs(age(lab.show("agent", host=host)["started_at"], host)) < SLACK_SECONDS


@pytest.mark.parametrize("seen_from", SKEWS)
def test_all_hosts_are_up_and_reached(lab: Running, seen_from: str) -> None:
    assert all(life(lab, host, seen_from).startswith("up ") for host in SKEWS)

    def is_direct() -> bool:
        paths = lab.show("paths", host=seen_from)["paths"]
        return [path["state"] for path in paths] == ["direct"]

    eventually(is_direct, "a direct path")
    ports = lab.show("port", host=seen_from)
    assert {port["status"]["state"] for port in ports} == {"active"}


def test_traffic_passes(lab: Running) -> None:
    assert lab.pings("h1/w1", W2)
    assert lab.pings("h2/w2", W1)


@pytest.mark.parametrize("host", SKEWS)
def test_what_one_host_changes_the_other_does(lab: Running, host: str) -> None:
    other = "h2" if host == "h1" else "h1"
    text = MORE.replace("NAME", f"from-{host}").replace("HOST", other)
    file = lab.cluster.write(text, f"from-{host}.yaml")
    lab.host(host, "heddle", "up", str(file))
    assert lab.exec(f"{other}/from-{host}", "true").returncode == 0


def test_a_host_that_dies_is_down_in_time(lab: Running) -> None:
    """As the other one sees it, by etcd's clock, told in its own."""
    os.kill(lab.agent_pid("h2"), signal.SIGKILL)
    eventually(lambda: life(lab, "h2", "h1").startswith("down "), "h2 to be down")
    since = life(lab, "h2", "h1").removeprefix("down since ")
    assert -SLACK_SECONDS < age(since, "h1") < SLACK_SECONDS
    lab.cluster.up(TOPOLOGY)
    assert life(lab, "h2", "h1").startswith("up ")
