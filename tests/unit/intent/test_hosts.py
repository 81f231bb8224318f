"""Hosts register themselves; what one has, no other gets."""

from __future__ import annotations

import json

import pytest

from heddle.errors import ConflictError
from heddle.intent.describe import describe
from heddle.intent.hosts import envelope_bytes, host_id, registered_host
from heddle.intent.model import (
    MODELS,
    AnyResource,
    Detour,
    ForeignMac,
    ForeignMember,
    Host,
    Kind,
    Network,
)
from heddle.store.interface import Snapshot


def stored(*hosts: Host) -> Snapshot:
    return Snapshot(1, {Kind.HOST: {host.id: host for host in hosts}})


def registered(name: str = "h1", vtep: str = "192.0.2.1", /, **fields: object) -> Host:
    made = registered_host(stored(), name, vtep=vtep)
    return made.model_copy(update=fields)


def test_a_host_registers_itself_once() -> None:
    first = registered_host(stored(), "h1", vtep="192.0.2.1", udp_port=8472, machine_id="a")
    assert (first.id, first.name, first.origin) == (host_id("h1"), "h1", "agent")
    assert (first.vtep, first.udp_port, first.machine_id) == ("192.0.2.1", 8472, "a")
    again = registered_host(stored(first), "h1", vtep="192.0.2.1", udp_port=8472, machine_id="a")
    assert again == first


def test_numbers_stay_and_never_meet() -> None:
    first = registered()
    taken = registered("h2", "192.0.2.2", number=first.number)
    second = registered_host(stored(taken), "h1", vtep="192.0.2.1")
    assert second.number == first.number + 1
    moved = registered_host(stored(taken, second), "h1", vtep="192.0.2.9")
    assert (moved.number, moved.vtep) == (second.number, "192.0.2.9")


def test_hosts_without_an_overlay_may_be_many() -> None:
    assert registered_host(stored(registered("h2", "")), "h1", vtep="").vtep == ""


CONFLICTS = {
    "VTEP": (
        registered("h2"),
        "host h1: VTEP 192.0.2.1 is taken by host h2; set another vtep in the [host] section of "
        "heddle.toml",
    ),
    "name": (
        registered(vtep="192.0.2.9", machine_id="b"),
        "host h1: another machine has this name already (VTEP 192.0.2.9, machine b; here VTEP "
        "192.0.2.1, machine a); set HEDDLE_HOST to give one of them another name",
    ),
    "name of a foreign VTEP": (
        registered(foreign=True, origin="net.yaml"),
        "host h1: is a foreign VTEP of net.yaml already; set HEDDLE_HOST to give this host "
        "another name",
    ),
}


@pytest.mark.parametrize(("other", "message"), CONFLICTS.values(), ids=CONFLICTS)
def test_what_another_has_is_refused(other: Host, message: str) -> None:
    with pytest.raises(ConflictError) as error:
        registered_host(stored(other), "h1", vtep="192.0.2.1", machine_id="a")
    assert str(error.value) == message


def test_a_machine_installed_anew_is_the_same_host() -> None:
    old = registered(machine_id="b")
    new = registered_host(stored(old), "h1", vtep="192.0.2.1", machine_id="a")
    assert (new.number, new.machine_id) == (old.number, "a")


def test_the_envelope_is_larger_over_ipv6() -> None:
    assert (envelope_bytes("192.0.2.1"), envelope_bytes("2001:db8::1")) == (50, 70)


SWITCH = ForeignMember(
    host="sw1",
    learn=True,
    macs=(ForeignMac(mac="02:00:00:00:00:01", address="10.0.0.9"), ForeignMac(mac="02::")),
)
DESCRIBED: dict[str, AnyResource] = {
    "host h1: vtep 192.0.2.1, number 7": registered(number=7),
    "host h1: foreign, vtep 192.0.2.1, number 7, udp port 8472": registered(
        number=7, foreign=True, udp_port=8472
    ),
    "host h1: no vtep, number 7": registered(number=7, vtep=""),
    "detour h3: through h1": Detour(id="d", name="h3", host="h3", relay="h1"),
    "network web: vni 5, mtu 1450, flood group 239.1.1.1, foreign sw1 (02:00:00:00:00:01 "
    "10.0.0.9, 02::, learns)": Network(
        id="n", name="web", vni=5, flood_group="239.1.1.1", foreign_members=(SWITCH,)
    ),
}


@pytest.mark.parametrize(("line", "resource"), DESCRIBED.items())
def test_plans_tell_what_there_is_to_say(line: str, resource: AnyResource) -> None:
    assert describe(resource, {}) == line


# As release 0.2 wrote them.
OLD = {
    Kind.NETWORK: {"id": "n", "name": "web", "vni": 5, "mode": "overlay", "mtu": 1450},
    Kind.MACHINE: {"id": "m", "name": "vm0", "machine_kind": "vm", "host": "h1", "running": True},
    Kind.PORT: {"id": "p", "name": "vm0/web", "network_id": "n", "mac": "fa:16:3e:00:00:01"}
    | {"machine_id": "m", "nic": 0, "host": "h1"},
}


@pytest.mark.parametrize("kind", OLD)
def test_what_an_older_release_stored_is_understood(kind: Kind) -> None:
    old = {"project_id": "default", "revision_number": 3, **OLD[kind]}
    resource = MODELS[kind].model_validate_json(json.dumps(old))
    assert resource.model_dump().items() >= old.items()
