"""Hosts in topology files: what is refused, what becomes of the rest, and where
machines are placed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from heddle.errors import ConflictError, TopologyError
from heddle.intent.expand import expand
from heddle.intent.hosts import registered_host
from heddle.intent.model import (
    VXLAN_PORT,
    AnyResource,
    Detour,
    ForeignMac,
    ForeignMember,
    Host,
    Kind,
    Machine,
    Network,
    Port,
)
from heddle.intent.plan import plan
from heddle.intent.topology import Topology
from heddle.store.interface import Snapshot

LoadText = Callable[..., Topology]


def snapshot(resources: Sequence[AnyResource] = ()) -> Snapshot:
    objects: dict[Kind, dict[str, AnyResource]] = {kind: {} for kind in Kind}
    for resource in resources:
        objects[resource.kind][resource.id] = resource
    return Snapshot(1, objects)


def agents(*names: str, vtep: str = "192.0.2.{}", udp_port: int = VXLAN_PORT) -> list[AnyResource]:
    """Hosts that have registered themselves."""
    found: list[AnyResource] = []
    for number, name in enumerate(names, 1):
        address = vtep.format(number)
        found.append(registered_host(snapshot(found), name, vtep=address, udp_port=udp_port))
    return found


def expanded(topology: Topology, stored: Sequence[AnyResource] = ()) -> list[AnyResource]:
    return expand(topology, snapshot(stored), "box", topology.origin)


def applied(topology: Topology, stored: Sequence[AnyResource]) -> list[AnyResource]:
    """What a store then holds."""
    wanted = expanded(topology, stored)
    changes = plan(snapshot(stored), wanted, topology.origin)
    gone = set(changes.removed)
    kept = {(r.kind, r.id): r for r in stored if (r.kind, r.id) not in gone}
    return list((kept | {(r.kind, r.id): r for r in changes.put}).values())


def places(resources: Sequence[AnyResource]) -> dict[str, str]:
    """Hosts by machine; its ports are where it is."""
    machines = {one.id: one for one in resources if isinstance(one, Machine)}
    for port in (one for one in resources if isinstance(one, Port)):
        machine = machines[port.machine_id]
        assert (port.host, port.migrating_to, port.moved_from) == (
            machine.host,
            machine.migrating_to,
            machine.moved_from,
        )
    return {one.name: one.host for one in machines.values()}


def containers(*lines: str, hosts: str = "") -> str:
    rows = "".join(f"  {line}\n" for line in lines)
    return f"version: 1\n{hosts}networks: {{web: {{cidr: 10.0.0.0/24}}}}\nmachines:\n{rows}"


PLAIN = "{{kind: container, nics: [{{network: web}}]}}"


def container(name: str, host: str = "") -> str:
    place = f"host: {host}, " if host else ""
    return f"{name}: {{kind: container, {place}nics: [{{network: web}}]}}"


def vm(name: str, memory: str) -> str:
    return f"{name}: {{memory: {memory}, nics: [{{network: web}}]}}"


# ---- errors --------------------------------------------------------------------

NETWORK = "networks: {web: {cidr: 10.0.0.0/24}}\n"
REFUSED = {
    "hosts that contradict each other": (
        """\
        version: 1
        hosts:
          a-: {}
          sw1: {foreign: true}
          sw2: {foreign: true, vtep: 192.0.2.9}
          h2: {vtep: 192.0.2.9}
          h3: {vtep: 224.0.0.1}
          h4: {relay: h4}
          h5: {relay: h9}
          h6: {relay: sw1}
        networks: {web: {cidr: 10.0.0.0/24}}
        machines:
          a: {kind: container, host: sw1}
          b: {kind: container, host: h22}
        """,
        [
            '3: host a-: "a-" is no usable name; use letters, digits, - and _, at most 63, the '
            "first and last no - or _",
            '4: host sw1: is foreign, so key "vtep" must say its address; for example '
            '"vtep: 192.0.2.1"',
            '6: host h2, vtep: 192.0.2.9 is the VTEP of host "sw2" too; give each its own',
            "7: host h3, vtep: 224.0.0.1 is no address of a host; give the one that others reach "
            "it by",
            "8: host h4, relay: a host can't be its own relay; name another",
            '9: host h5, relay: host "h9" is not in the file; there is a-, h2, h3, h4, h5, h6',
            '10: host h6, relay: host "sw1" is foreign, and relays nothing; name a heddle host',
            '13: machine a, host: host "sw1" is foreign; name a heddle host',
            '14: machine b, host: host "h22" is not in the file; did you mean "h2"?',
        ],
    ),
    "an underlay that does not fit": (
        """\
        version: 1
        underlay: {cidr: 198.18.0.0/24}
        hosts:
          h1: {vtep: 198.18.1.1}
        networks:
          web: {cidr: 10.0.0.0/24, flood: 10.0.0.1}
          db: {cidr: 10.1.0.0/24, flood: "ff05::1"}
        """,
        [
            "4: host h1, vtep: 198.18.1.1 is outside the underlay's 198.18.0.0/24; choose one "
            "of it",
            "6: network web, flood: 10.0.0.1 is no multicast group; use one such as 239.0.0.1",
            "7: network db, flood: ff05::1 is of another address family than the VTEPs; use one "
            "family",
        ],
    ),
    "an underlay where nobody can be": (
        """\
        version: 1
        underlay: {cidr: 127.0.0.0/24}
        hosts: {h1: {}}
        """,
        [
            '2: underlay cidr: "127.0.0.0/24" holds addresses for loopback (RFC 1122); use private '
            'ones such as 10.0.0.0/24 or "fd00:1::/64"'
        ],
    ),
    "VTEPs of two families": (
        """\
        version: 1
        hosts:
          h1: {vtep: 198.18.1.1}
          h2: {vtep: "fd00::1"}
        """,
        [
            "2: hosts: some VTEPs are IPv4 and some IPv6; envelopes need one of them, the same "
            "everywhere"
        ],
    ),
    "foreign members": (
        """\
        version: 1
        hosts: {h1: {}, sw1: {foreign: true, vtep: 192.0.2.9}}
        networks:
          web:
            cidr: 10.0.0.0/24
            foreign:
              h1: {}
              sw1:
                macs:
                  "02:00:00:00:00:01": 10.0.0.1
                  "02:00:00:00:00:02": 10.1.0.2
                  "02:00:00:00:00:03": 10.0.0.3
                  "02:00:00:00:00:04":
        machines:
          a: {kind: container, nics: [{network: web, address: 10.0.0.3}]}
          b: {kind: container, nics: [{network: web, mac: "02:00:00:00:00:04"}]}
        """,
        [
            '7: network web, foreign, h1: "h1" is no foreign host; add "h1: {foreign: true, '
            'vtep: ...}" to hosts',
            "10: network web, foreign, sw1, macs, 02:00:00:00:00:01: 10.0.0.1 is the gateway "
            "address of 10.0.0.0/24; choose another from 10.0.0.2 to 10.0.0.254",
            "11: network web, foreign, sw1, macs, 02:00:00:00:00:02: 10.1.0.2 is outside network "
            '"web" (10.0.0.0/24); choose one from 10.0.0.2 to 10.0.0.254',
            "15: machine a, nic 0, address: 10.0.0.3 is taken by MAC 02:00:00:00:00:03 behind "
            'host "sw1"; choose another, or leave it out',
            "16: machine b, nic 0, mac: 02:00:00:00:00:04 is the MAC of MAC 02:00:00:00:00:04 "
            'behind host "sw1" in network "web" too; give each its own',
        ],
    ),
}


@pytest.mark.parametrize(("text", "expected"), REFUSED.values(), ids=REFUSED)
def test_a_file_that_contradicts_itself(load: LoadText, text: str, expected: list[str]) -> None:
    with pytest.raises(TopologyError) as error:
        load(text)
    assert [line.partition("net.yaml:")[2] for line in str(error.value).splitlines()] == expected


# Against the store: the hosts there, and what a file says.
UNKNOWN = {
    "a single host knows itself": (
        (),
        containers(container("a", "h2")),
        ['4: machine a, host: host "h2" is not known; there is box'],
    ),
    "a cluster knows its agents": (
        ("h1", "h2"),
        containers(container("a", "h3"), hosts="hosts: {h1: {}, h3: {}}\n"),
        ['2: host h3: host "h3" is not known; there is h1, h2'],
    ),
    "this host is none of the cluster's": (
        ("h1",),
        containers(container("a", "box")),
        ['4: machine a, host: host "box" is not known; there is h1'],
    ),
    "another VTEP": (
        ("h1",),
        containers(hosts="hosts: {h1: {vtep: 192.0.2.7}}\n"),
        [
            "2: host h1, vtep: 192.0.2.7, but its agent says 192.0.2.1; correct it here or in "
            "heddle.toml"
        ],
    ),
    "foreign hosts that the agents can't reach": (
        ("h1",),
        """\
version: 1
underlay: {udp_port: 8472}
hosts: {sw1: {foreign: true, vtep: "fd00::1"}}
networks: {web: {cidr: 10.0.0.0/24, flood: "ff05::1"}}
""",
        [
            "2: underlay udp_port: 8472, but the agents use 4789; give that",
            "3: host sw1, vtep: fd00::1 is IPv6, the VTEPs of the agents IPv4; use that",
            "4: network web, flood: ff05::1 is IPv6, the VTEPs of the agents IPv4; use that",
        ],
    ),
    "an MTU that does not fit": (
        ("h1",),
        containers(hosts="underlay: {mtu: 1490}\n"),
        [
            "3: network web, mtu: 1450 and 50 for the envelope exceed the underlay's MTU of "
            "1490; give 1440 or less"
        ],
    ),
}


@pytest.mark.parametrize(("names", "text", "expected"), UNKNOWN.values(), ids=UNKNOWN)
def test_a_file_that_contradicts_the_store(
    load: LoadText, names: Sequence[str], text: str, expected: list[str]
) -> None:
    with pytest.raises(TopologyError) as error:
        expanded(load(text), agents(*names))
    found = [line.partition("net.yaml:")[2] for line in str(error.value).splitlines()]
    remedy = ", or start its agent with the same store first"
    assert [line.removesuffix(remedy) for line in found] == expected


# ---- objects -------------------------------------------------------------------


def test_hosts_become_objects(load: LoadText) -> None:
    resources = expanded(
        load(
            """\
            version: 1
            underlay: {udp_port: 8472}
            hosts:
              h1: {}
              h2: {relay: h1}
              sw1: {foreign: true, vtep: 192.0.2.9}
            networks:
              web:
                cidr: 10.0.0.0/24
                flood: 239.0.0.1
                foreign:
                  sw1: {learn: true, macs: {"02:00:00:00:00:01": 10.0.0.9, "02:00:00:00:00:02": }}
            """
        ),
        agents("h1", "h2", udp_port=8472),
    )
    (host,) = [one for one in resources if isinstance(one, Host)]
    assert (host.name, host.vtep, host.udp_port, host.foreign) == ("sw1", "192.0.2.9", 8472, True)
    (detour,) = [one for one in resources if isinstance(one, Detour)]
    assert (detour.name, detour.host, detour.relay) == ("h2", "h2", "h1")
    (network,) = [one for one in resources if isinstance(one, Network)]
    assert network.flood_group == "239.0.0.1"
    assert network.foreign_members == (
        ForeignMember(
            host="sw1",
            learn=True,
            macs=(
                ForeignMac(mac="02:00:00:00:00:01", address="10.0.0.9"),
                ForeignMac(mac="02:00:00:00:00:02"),
            ),
        ),
    )


@pytest.mark.parametrize(("vtep", "mtu"), [("192.0.2.{}", 1450), ("2001:db8::{}", 1430)])
def test_the_default_mtu_leaves_room_for_the_envelope(load: LoadText, vtep: str, mtu: int) -> None:
    resources = expanded(load(containers(container("a"))), agents("h1", vtep=vtep))
    assert [one.mtu for one in resources if isinstance(one, Network)] == [mtu]


def test_a_foreign_vtep_can_not_be_that_of_a_host(load: LoadText) -> None:
    stored = agents("h1")
    topology = load(containers(hosts="hosts: {sw1: {foreign: true, vtep: 192.0.2.1}}\n"))
    with pytest.raises(ConflictError) as error:
        plan(snapshot(stored), expanded(topology, stored), topology.origin)
    assert str(error.value) == (
        "host sw1: VTEP 192.0.2.1 is taken by host h1 of its agent; choose another, or remove "
        "that one first"
    )


def test_addresses_behind_foreign_vteps_are_not_given_out(load: LoadText) -> None:
    resources = expanded(
        load(
            """\
            version: 1
            hosts: {sw1: {foreign: true, vtep: 192.0.2.9}}
            networks:
              web: {cidr: 10.0.0.0/24, foreign: {sw1: {macs: {"02:00:00:00:00:01": 10.0.0.2}}}}
            machines:
              a: {kind: container, nics: [{network: web}]}
            """
        )
    )
    (port,) = [one for one in resources if isinstance(one, Port)]
    assert [fixed.ip for fixed in port.fixed_ips] == ["10.0.0.3"]


# ---- placement -----------------------------------------------------------------


def test_a_single_host_has_all_machines(load: LoadText) -> None:
    topology = load(containers(container("a"), container("b", "box")))
    assert places(expanded(topology)) == {"a": "box", "b": "box"}


def test_plans_say_where_machines_go(load: LoadText) -> None:
    topology = load(containers(container("a")))
    told = {}
    for names in ((), ("h1",), ("h1", "h2")):
        stored = agents(*names)
        lines = plan(snapshot(stored), expanded(topology, stored), topology.origin).lines()
        told[names] = [line for line in lines if line.startswith("+ machine")]
    assert told == {
        (): ["+ machine a: container"],
        ("h1",): ["+ machine a: container"],
        ("h1", "h2"): ["+ machine a: container, on h1"],
    }


def test_vms_go_where_the_least_memory_is_given_away(load: LoadText) -> None:
    topology = load(containers(vm("a1", "1G"), vm("a2", "256M"), vm("a10", "256M"), vm("a3", "1G")))
    assert places(expanded(topology, agents("h1", "h2"))) == {
        "a1": "h1",
        "a2": "h2",
        "a3": "h2",
        "a10": "h1",
    }


def test_containers_go_where_the_fewest_machines_are(load: LoadText) -> None:
    topology = load(containers(container("a", "h1"), container("b"), container("c")))
    assert places(expanded(topology, agents("h2", "h1"))) == {"a": "h1", "b": "h2", "c": "h1"}


def test_machines_of_other_files_count(load: LoadText) -> None:
    stored = agents("h1", "h2")
    stored = applied(load(containers(vm("a", "1G")), "other.yaml"), stored)
    topology = load("version: 1\nmachines: {b: {}}\n")
    assert places(applied(topology, stored)) == {"a": "h1", "b": "h2"}


def test_only_hosts_of_the_file_are_given_machines(load: LoadText) -> None:
    topology = load(containers(container("a"), hosts="hosts: {h2: {}}\n"))
    assert places(expanded(topology, agents("h1", "h2"))) == {"a": "h2"}


def test_machines_stay_when_others_come(load: LoadText) -> None:
    stored = applied(load(containers(container("b"), container("c"))), agents("h1", "h2"))
    assert places(stored) == {"b": "h1", "c": "h2"}
    stored = applied(load(containers(container("a"), container("b"), container("c"))), stored)
    assert places(stored) == {"a": "h1", "b": "h1", "c": "h2"}


def migrated(resources: Sequence[AnyResource], **places: str) -> list[AnyResource]:
    """What `heddle migrate` leaves in the store."""
    return [
        one.model_copy(update=places) if isinstance(one, Machine | Port) else one
        for one in resources
    ]


@pytest.mark.parametrize("named", ["h1", ""])
def test_a_migration_is_not_undone(load: LoadText, named: str) -> None:
    topology = load(containers(container("a", named)))
    stored = migrated(applied(topology, agents("h1", "h2")), host="h2", moved_from="h1")
    assert not plan(snapshot(stored), expanded(topology, stored), topology.origin)


def test_another_host_in_the_file_moves_the_machine(load: LoadText) -> None:
    first = load(containers(container("a", "h1")))
    stored = migrated(applied(first, agents("h1", "h2", "h3")), host="h2")
    moved = load(containers(container("a", "h3")))
    assert places(applied(moved, stored)) == {"a": "h3"}
    changes = plan(snapshot(stored), expanded(moved, stored), moved.origin)
    assert changes.lines() == ["~ machine a: host h2 -> h3", "~ port a/web: host h2 -> h3"]
    assert places(applied(load(containers(container("a"))), stored)) == {"a": "h2"}


def test_a_machine_that_no_host_was_named_for_moves_when_one_is(load: LoadText) -> None:
    stored = applied(load(containers(container("a"))), agents("h1", "h2"))
    assert places(applied(load(containers(container("a", "h2"))), stored)) == {"a": "h2"}


def test_a_machine_leaves_a_host_that_is_gone(load: LoadText) -> None:
    topology = load(containers(container("a")))
    gone = [one for one in applied(topology, agents("h1")) if not isinstance(one, Host)]
    assert places(applied(topology, [*gone, *agents("h2")])) == {"a": "h2"}


def test_a_migrating_machine_is_not_moved(load: LoadText) -> None:
    stored = migrated(
        applied(load(containers(container("a", "h1"))), agents("h1", "h2", "h3")),
        migrating_to="h2",
    )
    with pytest.raises(TopologyError, match="is on its way to h2; apply again when it is there"):
        expanded(load(containers(container("a", "h3"))), stored)
    again = load(containers(container("a", "h1")))
    assert not plan(snapshot(stored), expanded(again, stored), again.origin)
