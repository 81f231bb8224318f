"""Which objects a topology file stands for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import pytest

from heddle.errors import TopologyError
from heddle.intent.allocate import assign_macs, assign_numbers, natural_order
from heddle.intent.expand import expand
from heddle.intent.model import (
    AnyResource,
    Ipv6Mode,
    Kind,
    Machine,
    Network,
    Port,
    Route,
    Router,
    Subnet,
)
from heddle.intent.names import derived_mac, object_id
from heddle.intent.topology import Topology, load_topology
from heddle.store.interface import Snapshot

ResourceT = TypeVar("ResourceT", bound=AnyResource)
LoadText = Callable[..., Topology]

EXAMPLES = Path(__file__).parents[3] / "examples"

ONE_NETWORK = """\
version: 1
networks: {web: {cidr: 10.0.0.0/29}}
machines:
"""


def snapshot(resources: Iterable[AnyResource] = ()) -> Snapshot:
    objects: dict[Kind, dict[str, AnyResource]] = {kind: {} for kind in Kind}
    for resource in resources:
        objects[resource.kind][resource.id] = resource
    return Snapshot(1, objects)


def resources_of(topology: Topology, stored: Iterable[AnyResource] = ()) -> list[AnyResource]:
    return expand(topology, snapshot(stored), "box", topology.origin)


def named(resources: Iterable[AnyResource], model: type[ResourceT], name: str) -> ResourceT:
    (found,) = [one for one in resources if isinstance(one, model) and one.name == name]
    return found


def addresses(resources: Iterable[AnyResource]) -> dict[str, list[str]]:
    """Fixed IPs by port name."""
    return {
        one.name: [fixed.ip for fixed in one.fixed_ips] for one in resources if one.kind == "port"
    }


def containers(*nics: str) -> str:
    """The machines c0, c1, ... with one NIC each in network web."""
    rows = (
        f"  c{index}: {{kind: container, nics: [{{network: web{nic}}}]}}\n"
        for index, nic in enumerate(nics)
    )
    return ONE_NETWORK + "".join(rows)


def test_the_two_subnets_of_the_first_example() -> None:
    topology = load_topology(EXAMPLES / "two-subnets.yaml")
    resources = resources_of(topology)
    assert [(one.kind.value, one.name) for one in resources] == [
        ("network", "db"),
        ("network", "web"),
        ("subnet", "db/192.168.0.0/24"),
        ("subnet", "web/172.17.17.0/24"),
        ("router", "main"),
        ("security_group", "default"),
        ("security_group_rule", "default from_vm to 0.0.0.0/0"),
        ("security_group_rule", "default from_vm to ::/0"),
        ("security_group_rule", "default to_vm ipv4 from group default"),
        ("security_group_rule", "default to_vm ipv6 from group default"),
        ("machine", "vm0"),
        ("machine", "vm1"),
        ("port", "vm0/web"),
        ("port", "vm1/db"),
    ]
    assert addresses(resources) == {"vm0/web": ["172.17.17.2"], "vm1/db": ["192.168.0.2"]}
    main = named(resources, Router, "main")
    assert [one.addresses for one in main.interfaces] == [("172.17.17.1",), ("192.168.0.1",)]
    own = {one.origin for one in resources if not one.name.startswith("default")}
    assert own == {str((EXAMPLES / "two-subnets.yaml").resolve())}


def test_everything_a_file_can_say_reaches_the_model(load: LoadText, tmp_path: Path) -> None:
    (tmp_path / "disk.qcow2").touch()
    resources = resources_of(
        load(
            """\
            version: 1
            hosts: {box: {}}
            networks:
              web:
                cidr:
                - cidr: 10.0.0.0/24
                  gateway: 10.0.0.254
                  dhcp: false
                  lease_time: 3600
                  dns: 10.0.0.53
                  host_routes: [{to: 10.9.0.0/16, via: 10.0.0.9}]
                - {cidr: "fd00::/64", ipv6_mode: dhcpv6-stateless}
                - "fd01::/80"
                mtu: 1400
                dns: ["fd00::53", 10.0.0.99]
                domain: web.example
                vni: 77
            routers:
              main:
                networks: [{network: web, address: [10.0.0.253, "fd00::fe"]}]
                routes: [{to: 10.9.0.0/16, via: 10.0.0.9}, {to: "fd99::/16", blackhole: true}]
            machines:
              vm0:
                host: box
                image: disk.qcow2
                cpus: 2
                memory: 1G
                nics: [{network: web, address: 10.0.0.7, mac: 52-54-00-00-00-0A}]
            """
        )
    )
    web = named(resources, Network, "web")
    assert (web.vni, web.mtu, web.domain) == (77, 1400, "web.example")
    four = named(resources, Subnet, "web/10.0.0.0/24")
    assert (four.gateway_ip, four.enable_dhcp, four.lease_time) == ("10.0.0.254", False, 3600)
    assert (four.dns, four.ipv6_mode) == (("10.0.0.53",), None)
    assert [(one.destination, one.nexthop) for one in four.host_routes] == [
        ("10.9.0.0/16", "10.0.0.9")
    ]
    six = named(resources, Subnet, "web/fd00::/64")
    assert (six.ipv6_mode, six.dns, six.gateway_ip) == (
        Ipv6Mode.STATELESS,
        ("fd00::53",),
        "fd00::1",
    )
    assert named(resources, Subnet, "web/fd01::/80").ipv6_mode == Ipv6Mode.STATEFUL
    main = named(resources, Router, "main")
    assert main.interfaces[0].addresses == ("10.0.0.253", "fd00::fe", "fd01::1")
    assert main.routes == (
        Route(destination="10.9.0.0/16", nexthop="10.0.0.9"),
        Route(destination="fd99::/16", nexthop=None),
    )
    vm0 = named(resources, Machine, "vm0")
    assert (vm0.machine_kind, vm0.host, vm0.cpus, vm0.memory) == ("vm", "box", 2, 1 << 30)
    assert (vm0.image, vm0.running) == (str(tmp_path / "disk.qcow2"), False)
    port = named(resources, Port, "vm0/web")
    assert (port.mac, port.nic, port.host) == ("52:54:00:00:00:0a", 0, "box")
    assert port.machine_id == vm0.id
    # IPv4 first, then the assigned IPv6 address, and the one formed from the MAC.
    assert addresses([port])["vm0/web"] == ["10.0.0.7", "fd00::5054:ff:fe00:a", "fd01::2"]


def test_defaults(load: LoadText) -> None:
    resources = resources_of(load(ONE_NETWORK + "  vm0:\n"))
    vm0 = named(resources, Machine, "vm0")
    assert (vm0.machine_kind, vm0.image, vm0.cpus, vm0.memory) == ("vm", "tiny", 1, 256 << 20)
    web = named(resources, Network, "web")
    assert (web.mtu, web.mode, web.domain) == (1450, "overlay", "")
    assert named(resources, Subnet, "web/10.0.0.0/29").enable_dhcp


def test_ids_macs_and_numbers_do_not_depend_on_where_the_file_is(
    load: LoadText, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    text = containers("", ", address: 10.0.0.5")
    first = resources_of(load(text))
    second = resources_of(load(text, name="elsewhere/other.yaml"))
    assert [one.model_copy(update={"origin": ""}) for one in first] == [
        one.model_copy(update={"origin": ""}) for one in second
    ]
    web = named(first, Network, "web")
    assert web.id == "9b3f3f7c-6cd1-575c-a35d-940c1a7517e8"  # stable across releases
    assert named(first, Port, "c0/web").mac == derived_mac(
        "port", object_id("default", Kind.PORT, "c0/web")
    )


def test_the_lowest_free_addresses_are_given_out_in_natural_order(load: LoadText) -> None:
    text = ONE_NETWORK.replace("/29", "/24") + "".join(
        f"  c{index}: {{kind: container, nics: [{{network: web}}]}}\n" for index in (10, 9, 1)
    )
    assert addresses(resources_of(load(text))) == {
        "c1/web": ["10.0.0.2"],
        "c9/web": ["10.0.0.3"],
        "c10/web": ["10.0.0.4"],
    }


def test_named_addresses_are_not_given_to_others(load: LoadText) -> None:
    assert addresses(resources_of(load(containers("", "", ", address: 10.0.0.2")))) == {
        "c0/web": ["10.0.0.3"],
        "c1/web": ["10.0.0.4"],
        "c2/web": ["10.0.0.2"],
    }


def test_who_has_an_address_keeps_it_when_others_come_and_go(load: LoadText) -> None:
    before = resources_of(load(containers("", "", "")))
    without_first = load(containers("", "", "").replace("c0:", "later:"))
    assert addresses(resources_of(without_first, before)) == {
        "c1/web": ["10.0.0.3"],
        "c2/web": ["10.0.0.4"],
        "later/web": ["10.0.0.2"],  # that of c0, which is gone
    }


def test_an_address_that_is_now_named_by_another_moves(load: LoadText) -> None:
    before = resources_of(load(containers("", "")))
    after = resources_of(load(containers("", ", address: 10.0.0.2")), before)
    assert addresses(after) == {"c0/web": ["10.0.0.3"], "c1/web": ["10.0.0.2"]}


def test_addresses_of_other_origins_are_not_given_out(load: LoadText) -> None:
    (port,) = [one for one in resources_of(load(containers(""))) if isinstance(one, Port)]
    foreign = port.model_copy(update={"id": "foreign", "origin": "api"})
    assert addresses(resources_of(load(containers("")), [foreign])) == {"c0/web": ["10.0.0.3"]}


def test_addresses_of_routers_are_not_given_out(load: LoadText) -> None:
    text = containers("").replace(
        "machines:", "routers: {main: {networks: [{network: web, address: 10.0.0.2}]}}\nmachines:"
    )
    resources = resources_of(load(text))
    assert addresses(resources) == {"c0/web": ["10.0.0.3"]}
    (interface,) = named(resources, Router, "main").interfaces
    foreign = named(resources, Router, "main").model_copy(
        update={
            "id": "foreign",
            "origin": "api",
            "interfaces": (interface.model_copy(update={"addresses": ("10.0.0.3",)}),),
        }
    )
    assert addresses(resources_of(load(text), [foreign])) == {"c0/web": ["10.0.0.4"]}


def test_no_port_gets_the_mac_of_its_subnets_dhcp_server(load: LoadText) -> None:
    # Three bytes of hash collide now and then: this pair of names was searched for.
    resources = resources_of(load(containers("").replace("c0:", "c3228480:")))
    service = derived_mac("service", named(resources, Subnet, "web/10.0.0.0/29").id)
    port = named(resources, Port, "c3228480/web")
    assert derived_mac("port", port.id) == service
    assert port.mac == derived_mac("port", port.id, "1")


def test_a_full_subnet_is_an_error_with_its_line(load: LoadText) -> None:
    topology = load(containers(*[""] * 7))  # a /29 has 6 addresses, one the gateway's
    with pytest.raises(TopologyError) as caught:
        resources_of(topology)
    assert [line.split("net.yaml:")[1] for line in str(caught.value).splitlines()] == [
        f"{line}: machine c{index}, nic 0: no address is left in 10.0.0.0/29; "
        "use a shorter prefix, or add a subnet"
        for line, index in ((9, 5), (10, 6))
    ]


def test_a_second_subnet_is_used_when_the_first_is_full(load: LoadText) -> None:
    text = containers(*[""] * 6).replace("10.0.0.0/29", "[10.0.0.0/29, 10.1.0.0/29]")
    assert addresses(resources_of(load(text)))["c5/web"] == ["10.1.0.2"]


def test_every_family_that_is_not_named_gets_an_address(load: LoadText) -> None:
    text = containers(', address: "fd00::7"', ", address: 10.0.0.7")
    text = text.replace("10.0.0.0/29", '[10.0.0.0/24, "fd00::/112"]')
    assert addresses(resources_of(load(text))) == {
        "c0/web": ["10.0.0.2", "fd00::7"],
        "c1/web": ["10.0.0.7", "fd00::2"],
    }


def test_a_subnet_without_dhcp_takes_named_ipv6_addresses(load: LoadText) -> None:
    text = containers(', address: "fd00::7"', "")
    text = text.replace("10.0.0.0/29", '{cidr: "fd00::/64", dhcp: false}')
    assert addresses(resources_of(load(text))) == {"c0/web": ["fd00::7"], "c1/web": ["fd00::2"]}


def test_nics_keep_name_number_and_mac_when_one_before_them_goes(load: LoadText) -> None:
    both = ONE_NETWORK + "  c0: {nics: [{network: web}, {network: db}, {network: db}]}\n"
    both = both.replace("networks: {", "networks: {db: {cidr: 10.1.0.0/24}, ")
    before = resources_of(load(both))
    assert [(one.name, one.nic) for one in before if isinstance(one, Port)] == [
        ("c0/db", 1),
        ("c0/db/2", 2),
        ("c0/web", 0),
    ]
    less = load(both.replace("{network: web}, ", ""))
    assert named(resources_of(less, before), Port, "c0/db") == named(before, Port, "c0/db")
    again = load(both.replace("[{network: web}, {network: db}, ", "[{network: db}, "))
    more = resources_of(load(both), [one for one in before if one.name != "c0/db"])
    assert named(more, Port, "c0/db").nic == 1
    assert len(resources_of(again)) == len(before) - 1


def test_a_new_nic_takes_a_number_that_is_free(load: LoadText) -> None:
    one = ONE_NETWORK + "  c0: {nics: [{network: web}]}\n"
    two = one.replace("[{", "[{network: db}, {").replace(
        "networks: {", "networks: {db: {cidr: 10.1.0.0/24}, "
    )
    after = resources_of(load(two), resources_of(load(one)))
    assert named(after, Port, "c0/web").nic == 0  # as before
    assert named(after, Port, "c0/db").nic == 1


def test_running_and_numbers_of_what_exists_are_kept(load: LoadText) -> None:
    topology = load(containers(""))
    stored = [
        one.model_copy(update={"running": True})
        if isinstance(one, Machine)
        else one.model_copy(update={"vni": 4711})
        if isinstance(one, Network)
        else one
        for one in resources_of(topology)
    ]
    again = resources_of(topology, stored)
    assert named(again, Machine, "c0").running
    assert named(again, Network, "web").vni == 4711


def test_networks_without_a_router_and_slaac_get_a_warning(load: LoadText) -> None:
    topology = load('version: 1\nnetworks:\n  web:\n    cidr: ["fd00::/64", 10.0.0.0/24]\n')
    (warning,) = topology.warnings
    assert warning.endswith(
        "net.yaml:4: network web, cidr: fd00::/64: no router tells guests of this prefix "
        "(slaac); join the network to a router, or use dhcpv6-stateful"
    )


def test_keys_without_effect_on_a_container_get_a_warning(load: LoadText) -> None:
    topology = load("version: 1\nmachines:\n  c0: {kind: container, memory: 1G}\n")
    (warning,) = topology.warnings
    assert warning.endswith(
        "net.yaml:3: machine c0, memory: has no effect: a container shares its host's file "
        "system, CPUs and memory; remove it, or use kind: vm"
    )


def test_aliases_and_quotes_mean_the_same_as_plain_text(load: LoadText) -> None:
    resources = resources_of(
        load(
            """\
            version: 1
            networks: {"on": &net {cidr: 10.0.0.0/24}}
            machines:
              one: &machine {kind: container, nics: [{network: on}]}
              two: *machine
            """
        )
    )
    assert addresses(resources) == {"one/on": ["10.0.0.2"], "two/on": ["10.0.0.3"]}


def test_numbers_follow_from_ids_and_probe_past_those_taken() -> None:
    alone = assign_numbers(["a"], given={}, held={}, maximum=100)["a"]
    assert assign_numbers(["a"], given={}, held={"other": alone}, maximum=100) == {
        "a": alone % 100 + 1
    }
    held = {"a": 5, "gone": 6}
    assert assign_numbers(["a", "b"], given={"b": 7}, held=held, maximum=100) == {"a": 5, "b": 7}
    # What the file names is taken from who has it.
    moved = assign_numbers(["a", "b"], given={"b": 5}, held=held, maximum=100)
    assert moved["b"] == 5
    assert moved["a"] not in {5, 6}


def test_numbers_fill_the_whole_range() -> None:
    ids = [str(index) for index in range(50)]
    assert sorted(assign_numbers(ids, given={}, held={}, maximum=50).values()) == list(range(1, 51))


def test_numbers_that_collide_do_not_depend_on_order() -> None:
    ids = [str(index) for index in range(40)]
    expected: dict[str, int] = {}
    for one in sorted(ids):  # one after the other, past those that are taken
        expected |= assign_numbers([one], given={}, held=expected, maximum=50)
    assert assign_numbers(ids, given={}, held={}, maximum=50) == expected


def test_macs_are_derived_again_when_taken() -> None:
    key = ("port", "a")
    alone = assign_macs([key], given={}, held={})[key]
    assert alone == derived_mac(*key)
    other = assign_macs([key], given={}, held={("port", "b"): alone})[key]
    assert other == derived_mac(*key, "1")
    assert assign_macs([key], given={}, held={}, reserved=[alone])[key] == other


def test_natural_order() -> None:
    names = ["vm10", "vm2", "vm2/a", "10", "a1b10", "a1b2"]
    assert sorted(names, key=natural_order) == ["10", "a1b2", "a1b10", "vm2", "vm2/a", "vm10"]


@pytest.mark.parametrize(("address", "mode"), [("", "slaac"), ("fd00::7", "dhcpv6-stateful")])
def test_naming_an_address_in_a_64_makes_it_stateful(
    load: LoadText, address: str, mode: str
) -> None:
    text = containers(f', address: "{address}"' if address else "", "")
    resources = resources_of(load(text.replace("10.0.0.0/29", '"fd00::/64"')))
    assert named(resources, Subnet, "web/fd00::/64").ipv6_mode == mode
    assert (addresses(resources)["c0/web"] == ["fd00::7"]) == bool(address)
