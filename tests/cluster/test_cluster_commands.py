"""Commands of one host that concern others."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from cluster import Running, cluster

TWO = """
version: 1
hosts: {h1: {}, h2: {}}
networks: {web: {cidr: 172.17.17.0/24}}
security_groups: {web: [{direction: from_vm}, {direction: to_vm, remote_group: web}]}
machines:
  c1: {kind: container, host: h1, nics: [
    {network: web, address: 172.17.17.2, security_groups: [web]}]}
  c2: {kind: container, host: h2, nics: [
    {network: web, address: 172.17.17.3, security_groups: [web]}]}
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Running]:
    with cluster() as made:
        yield made.up("version: 1\nhosts: {h1: {}, h2: {}}\n")


@pytest.fixture
def file(lab: Running) -> str:
    return str(lab.cluster.write(TWO, "two.yaml"))


def test_up_and_down_on_one_host_wait_for_the_others(lab: Running, file: str) -> None:
    said = lab.host("h1", "heddle", "up", file).stdout
    rows = [line.split() for line in said.splitlines() if line.startswith("c")]
    assert [(row[0], row[-1]) for row in rows] == [("c1:0", "active"), ("c2:0", "active")]
    assert lab.pings("h1/c1", "172.17.17.3")
    for command in (["exec", "c2", "--", "true"], ["trace", "c2", "c1"]):
        done = lab.host("h1", "heddle", *command, check=False)
        assert done.returncode == 2
        assert re.search(r"c2(:0)? is on host h2: run .* there\n$", done.stderr), done.stderr
    lab.host("h1", "heddle", "down", file)
    _nothing_is_left(lab)


def test_a_clone_over_hosts_outlives_what_it_was_made_of(lab: Running, file: str) -> None:
    lab.host("h2", "heddle", "up", file)
    lab.host("h2", "heddle", "clone", "web", "--as", "copy")
    assert lab.pings("h1/copy-c1", "172.17.17.3")
    lab.host("h1", "heddle", "down", file)
    assert lab.pings("h1/copy-c1", "172.17.17.3", "-c", "3")
    assert {row["name"] for row in lab.show("security-group")} == {"copy-web"}
    lab.host("h1", "heddle", "clone", "--remove", "copy")
    _nothing_is_left(lab)


def _nothing_is_left(lab: Running) -> None:
    assert lab.show("machine", host="h2") == []
    links = lab.host("h2", "ip", "-o", "link").stdout
    assert "hdl" not in links
