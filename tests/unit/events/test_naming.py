"""Ports by the names that operators use."""

from __future__ import annotations

from heddle.events.naming import PortNames
from heddle.intent.names import tap_name, veth_name

VM = {"kind": "machine", "id": "m1", "name": "vm0", "machine_kind": "vm"}
CONTAINER = {"kind": "machine", "id": "m2", "name": "c0", "machine_kind": "container"}
NETWORK = {"kind": "network", "id": "n1", "name": "web"}
FIRST = "11111111-1111-1111-1111-111111111111"
SECOND = "22222222-2222-2222-2222-222222222222"


def port(port_id: str, machine_id: str, nic: int) -> dict[str, object]:
    return {
        "kind": "port", "id": port_id, "machine_id": machine_id, "network_id": "n1", "nic": nic,
    }  # fmt: skip


def test_devices_lead_to_machine_and_nic() -> None:
    names = PortNames([VM, CONTAINER, NETWORK, port(FIRST, "m1", 0), port(SECOND, "m2", 1)])
    assert names.by_device[tap_name(FIRST)].label == "vm0:0"
    assert names.by_device[veth_name(SECOND)].label == "c0:1"
    assert names.by_id[SECOND].network == "web"


def test_a_device_that_is_no_port_keeps_its_own_name() -> None:
    names = PortNames([])
    assert names.label(1) == "lo"
    assert names.label(1 << 30) == f"device {1 << 30}"


def test_a_port_without_its_machine_shows_the_id() -> None:
    assert PortNames([port(FIRST, "gone", 0)]).by_id[FIRST].label == "gone:0"


def test_a_port_knows_its_groups() -> None:
    groups = [
        {"kind": "security_group", "id": f"g{number}", "name": name}
        for number, name in enumerate(("web", "default"))
    ]
    own = {**port(FIRST, "m1", 0), "security_group_ids": ["g1", "g0", "gone"]}
    open_port = {**port(SECOND, "m2", 0), "port_security": False}
    names = PortNames([VM, CONTAINER, NETWORK, *groups, own, open_port])
    assert names.by_id[FIRST].security_groups == ("default", "web", "gone")
    assert names.by_id[FIRST].guarded
    assert not names.by_id[SECOND].guarded
