"""Commands of one host that concern others."""

from __future__ import annotations

from cluster import Cluster

TWO = """
version: 1
hosts: {h1: {}, h2: {}}
networks: {web: {cidr: 172.17.17.0/24}}
machines:
  c1: {kind: container, host: h1, nics: [{network: web, address: 172.17.17.2}]}
  c2: {kind: container, host: h2, nics: [{network: web, address: 172.17.17.3}]}
"""


def test_up_and_down_on_one_host_wait_for_the_others(empty: Cluster) -> None:
    lab = empty.up("version: 1\nhosts: {h1: {}, h2: {}}\n")
    file = str(empty.write(TWO, "two.yaml"))
    said = lab.host("h1", "heddle", "up", file).stdout
    rows = [line.split() for line in said.splitlines() if line.startswith("c")]
    assert [(row[0], row[-1]) for row in rows] == [("c1:0", "active"), ("c2:0", "active")]
    assert lab.pings("h1/c1", "172.17.17.3")
    lab.host("h1", "heddle", "down", file)
    assert lab.show("machine", host="h2") == []
    links = lab.host("h2", "ip", "-o", "link").stdout
    assert "hdl" not in links
