"""A lab with virtual machines: each host has a libvirt of its own, and none of
it is left when the lab is down."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from cluster import Running, cluster, eventually

TOPOLOGY = """
version: 1
hosts: {h1: {}, h2: {}}
networks:
  web: {cidr: 172.17.17.0/24}
  db: {cidr: 192.168.0.0/24}
routers: {main: {networks: [web, db]}}
security_groups: {open: [{direction: from_vm}, {direction: to_vm}]}
machines:
  vm1: {host: h1, nics: [{network: web, address: 172.17.17.11, security_groups: [open]}]}
  vm2: {host: h2, nics: [{network: db, address: 192.168.0.12, security_groups: [open]}]}
"""


def programs(lab: Running) -> dict[int, str]:
    """What runs on the hosts, by pid."""
    pids = [pid for host in lab.plan.hosts for pid in lab.space(host.name).processes()]
    return {pid: Path(f"/proc/{pid}/exe").readlink().name for pid in pids}


def test_guests_on_two_hosts_talk_and_go_with_the_lab(tiny_folder: Path) -> None:
    with cluster() as made:
        images = made.root / "var/lib/heddle/images"
        shutil.copytree(tiny_folder, images / tiny_folder.name, copy_function=os.link)
        lab = made.up(TOPOLOGY)
        pinged = lab.host("h1", "heddle", "exec", "vm1", "--", "ping", "-c", "2", "192.168.0.12")
        assert "2 packets received" in pinged.stdout
        running = programs(lab)
        named = list(running.values())
        assert [named.count(name) for name in ("libvirtd", "virtlogd")] == [2, 2]
        assert sum(name.startswith("qemu-system") for name in named) == 2
        made.heddle("lab", "down")
        eventually(
            lambda: not [pid for pid in running if Path(f"/proc/{pid}").exists()],
            f"all of {running} to end",
            10,
        )
        eventually(lambda: not made.leftovers(), f"nothing to be left: {made.leftovers()}", 5)
