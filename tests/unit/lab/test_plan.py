"""What a lab is to be, as it follows from a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from heddle.errors import RequestError
from heddle.intent.topology import load_topology
from heddle.lab.plan import LabPlan, checked_name, from_json, lab_name, link_name, plan_lab


def plan(tmp_path: Path, text: str, members: int = 1, old: LabPlan | None = None) -> LabPlan:
    file = tmp_path / "lab.yaml"
    file.write_text(f"version: 1\n{text}")
    return plan_lab(load_topology(file), "lab", members, old)


def addresses(made: LabPlan) -> dict[str, str]:
    return {host.name: host.address for host in made.hosts}


def test_hosts_get_addresses_in_order_and_etcd_after_them(tmp_path: Path) -> None:
    made = plan(tmp_path, "hosts: {h1: {}, h2: {}}", members=3)
    assert addresses(made) == {"h1": "198.18.0.1/24", "h2": "198.18.0.2/24"}
    assert made.members == ("198.18.0.3/24", "198.18.0.4/24", "198.18.0.5/24")
    assert made.endpoints[0] == "http://198.18.0.3:2379"
    assert (made.mtu, made.udp_port, made.ip_version) == (1500, 4789, 4)


def test_the_underlay_is_what_the_file_says(tmp_path: Path) -> None:
    text = 'hosts: {h1: {}}\nunderlay: {cidr: "fd00:18::/64", mtu: 9000, udp_port: 8472}'
    made = plan(tmp_path, text)
    assert addresses(made) == {"h1": "fd00:18::1/64"}
    assert made.endpoints == ["http://[fd00:18::2]:2379"]
    assert (made.mtu, made.udp_port, made.ip_version) == (9000, 8472, 6)


def test_addresses_of_the_file_are_taken_by_nobody_else(tmp_path: Path) -> None:
    text = "hosts: {h1: {}, h2: {vtep: 198.18.0.1}, sw: {foreign: true, vtep: 198.18.0.2}}"
    made = plan(tmp_path, text)
    assert addresses(made) == {
        "h1": "198.18.0.3/24",
        "h2": "198.18.0.1/24",
        "sw": "198.18.0.2/24",
    }
    assert [host.name for host in made.own_hosts()] == ["h1", "h2"]


def test_what_is_up_keeps_its_addresses(tmp_path: Path) -> None:
    old = plan(tmp_path, "hosts: {h1: {}, h2: {}}")
    made = plan(tmp_path, "hosts: {h3: {}, h2: {}}", old=old)
    assert addresses(made) == {"h3": "198.18.0.4/24", "h2": "198.18.0.2/24"}
    assert made.members == old.members


@pytest.mark.parametrize(
    "text",
    [
        "hosts: {h1: {}}\nunderlay: {mtu: 9000}",
        "hosts: {h1: {}}\nunderlay: {udp_port: 8472}",
        "hosts: {h1: {vtep: 198.18.0.77}}",
    ],
)
def test_cables_are_not_pulled_behind_the_users_back(tmp_path: Path, text: str) -> None:
    old = plan(tmp_path, "hosts: {h1: {}}")
    with pytest.raises(RequestError, match=r"is up with .*: `heddle lab down lab` first"):
        plan(tmp_path, text, old=old)


def test_etcd_servers_do_not_come_and_go(tmp_path: Path) -> None:
    old = plan(tmp_path, "hosts: {h1: {}}")
    with pytest.raises(RequestError, match="other etcd servers"):
        plan(tmp_path, "hosts: {h1: {}}", members=3, old=old)


@pytest.mark.parametrize("hosts", ["{}", "{sw: {foreign: true, vtep: 198.18.0.2}}"])
def test_a_lab_has_hosts(tmp_path: Path, hosts: str) -> None:
    with pytest.raises(RequestError, match="it names no hosts; add"):
        plan(tmp_path, f"hosts: {hosts}")


def test_an_underlay_may_be_too_small(tmp_path: Path) -> None:
    with pytest.raises(
        RequestError, match=r"underlay 10.0.0.0/30 has no room for 2 hosts and etcd"
    ):
        plan(tmp_path, "hosts: {h1: {}, h2: {}}\nunderlay: {cidr: 10.0.0.0/30}")


@pytest.mark.parametrize("vtep", ["198.18.0.0", "198.18.0.255"])
def test_nobody_is_reached_at_a_networks_own_addresses(tmp_path: Path, vtep: str) -> None:
    with pytest.raises(RequestError, match=f"host h2, vtep: {vtep} stands for all of 198.18.0.0"):
        plan(tmp_path, f"hosts: {{h1: {{}}, h2: {{vtep: {vtep}}}}}")


def test_a_plan_survives_its_record(tmp_path: Path) -> None:
    made = plan(tmp_path, "hosts: {h1: {}, sw: {foreign: true, vtep: 198.18.0.9}}", members=3)
    assert from_json(made.to_json()) == made


def test_a_lab_is_called_like_its_file() -> None:
    assert lab_name(Path("some/three hosts.lab.yaml")) == "three-hosts-lab"
    for name in ("", "..", "a/b", "-a", "x" * 40):
        with pytest.raises(RequestError, match="up to 32 letters, digits"):
            checked_name(name)


def test_names_of_cables_fit_and_differ() -> None:
    long = [f"{'host' * 10}{number}" for number in range(3)]
    names = {link_name(host) for host in ["h1", *long]}
    assert len(names) == 4
    assert "to-h1" in names
    assert all(len(name) <= 15 for name in names)
