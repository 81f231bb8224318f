"""What only one object can have stays unique when several write at once."""

from __future__ import annotations

from collections import Counter
from contextlib import closing, suppress
from functools import partial
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from store_places import EtcdPlace, Place, network
from store_processes import exit_code, in_child

from heddle.cli.change import commit, wanted_by
from heddle.errors import ConflictError
from heddle.intent.allocate import AddressPool
from heddle.intent.claims import claims_of
from heddle.intent.model import FixedIp, Kind, Network, Port, Subnet
from heddle.intent.topology import load_topology
from heddle.store.etcd import journal
from heddle.store.interface import Store, Transaction

WRITERS = 6

# All of them hash to few VNIs and MACs, if allocation were not careful.
TOPOLOGY = """
version: 1
networks:
  web{n}: {{cidr: 10.0.0.0/24}}
  db{n}: {{cidr: 10.1.0.0/24}}
routers:
  main{n}: {{networks: [web{n}, db{n}]}}
security_groups:
  sg{n}: [{{direction: to_vm, protocol: tcp, ports: 80}}]
machines:
  a{n}: {{kind: container, nics: [{{network: web{n}}}, {{network: db{n}}}]}}
  b{n}: {{kind: container, nics: [{{network: web{n}, security_groups: [sg{n}]}}]}}
"""


def assert_unique(store: Store) -> None:
    objects = [one for kind in store.snapshot().objects.values() for one in kind.values()]
    claims = Counter(claim for one in objects for claim in claims_of(one))
    assert [claim for claim, count in claims.items() if count > 1] == []


def test_files_applied_at_the_same_time_get_numbers_of_their_own(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heddle.intent.expand.VNI_MAX", 2 * WRITERS)  # as many as are wanted

    def apply(number: int) -> None:
        file = tmp_path / f"{number}.yaml"
        file.write_text(TOPOLOGY.format(n=number))
        topology = load_topology(file)
        with closing(place.open()) as store:
            commit(store, lambda: wanted_by(topology, store, running=False))

    pids = [in_child(partial(apply, number)) for number in range(WRITERS)]
    assert [exit_code(pid) for pid in pids] == [0] * WRITERS
    with closing(place.open()) as store:
        assert_unique(store)
        objects = store.snapshot().objects
    assert len(objects[Kind.NETWORK]) == 2 * WRITERS
    assert len(objects[Kind.PORT]) == 3 * WRITERS


def new_port(name: str, address: str) -> Port:
    digits = f"{int(ip_address(address)) & 0xFFFF:04x}"
    return Port(
        id=f"id-{name}",
        name=name,
        network_id="id-web",
        mac=f"02:00:00:00:{digits[:2]}:{digits[2:]}",
        fixed_ips=(FixedIp(subnet_id="s", ip=address),),
        machine_id="m",
        host="h1",
    )


def test_writers_that_expect_no_revision_get_addresses_of_their_own(
    etcd_place: EtcdPlace,
) -> None:
    """Each takes the lowest address that it sees free, and looks again when
    another was faster; only the claims keep them apart."""
    each = 8
    prefix = ip_network("10.0.0.0/24")

    def write(own: int) -> None:
        with closing(etcd_place.open()) as store:
            for index in range(each):
                add_port(store, f"p{own}-{index}")

    def add_port(store: Store, name: str) -> None:
        while True:
            ports = store.snapshot().objects[Kind.PORT].values()
            taken = {ip_address(one.fixed_ips[0].ip) for one in ports if isinstance(one, Port)}
            free = AddressPool(prefix, taken).lowest_free()  # type: ignore[arg-type]
            with suppress(ConflictError):
                store.commit(Transaction(put=[new_port(name, str(free))]))
                return

    with closing(etcd_place.open()) as store:
        store.commit(Transaction(put=[network("web", 1)]))
    pids = [in_child(partial(write, own)) for own in range(WRITERS)]
    assert [exit_code(pid) for pid in pids] == [0] * WRITERS
    with closing(etcd_place.open()) as store:
        assert_unique(store)
        assert len(store.snapshot().objects[Kind.PORT]) == WRITERS * each


@pytest.mark.parametrize("others", [0, 600], ids=["small", "large"])
def test_who_has_it_is_named(etcd_place: EtcdPlace, others: int) -> None:
    with closing(etcd_place.open()) as store:
        store.commit(Transaction(put=[network("web", 5), new_port("p1", "10.0.0.5")]))
        more = [network(f"n{index}", 100 + index) for index in range(others)]
        with pytest.raises(ConflictError, match="VNI 5 is taken by network web; choose another"):
            store.commit(Transaction(put=[*more, network("db", 5)]))
        with pytest.raises(ConflictError, match=r"(MAC|address) .* is taken by port p1"):
            store.commit(Transaction(put=[*more, new_port("p2", "10.0.0.5")]))
        assert set(store.snapshot().objects[Kind.NETWORK]) == {"id-web"}


def overtake(
    etcd_place: EtcdPlace, monkeypatch: pytest.MonkeyPatch, transaction: Transaction
) -> None:
    """Let another commit come in before the next large one is decided."""
    write = journal._write_journal
    others = iter([transaction])

    def overtaken(*arguments: Any) -> int:  # noqa: ANN401
        for other in others:
            with closing(etcd_place.open()) as store:
                store.commit(other)
        return write(*arguments)

    monkeypatch.setattr(journal, "_write_journal", overtaken)


def test_a_large_commit_that_is_overtaken_begins_anew(
    etcd_place: EtcdPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = [network(f"n{index}", 100 + index) for index in range(600)]
    with closing(etcd_place.open()) as store:
        store.commit(Transaction(put=[network("web", 5)]))
        overtake(etcd_place, monkeypatch, Transaction(put=[network("web", 5, mtu=1400)]))
        store.commit(Transaction(put=[*many, network("web", 5, mtu=1300)]))
        found = store.snapshot().objects[Kind.NETWORK]["id-web"]
        assert found.revision_number == 3
        overtake(etcd_place, monkeypatch, Transaction(put=[network("first", 7)]))
        with pytest.raises(ConflictError, match="VNI 7 is taken by network first"):
            store.commit(Transaction(put=[network("late", 7), *(_changed(one) for one in many)]))
        assert_unique(store)
        assert "id-late" not in store.snapshot().objects[Kind.NETWORK]


def _changed(one: Network) -> Network:
    return one.model_copy(update={"mtu": 1200})


def test_two_objects_of_one_commit_can_not_have_the_same(etcd_place: EtcdPlace) -> None:
    with closing(etcd_place.open()) as store:
        with pytest.raises(ConflictError, match="VNI 5: two objects of one commit want it"):
            store.commit(Transaction(put=[network("a", 5), network("b", 5)]))
        assert store.snapshot().revision == 0


def test_what_is_deleted_is_free_again(etcd_place: EtcdPlace) -> None:
    subnet = Subnet(
        id="s", name="s", network_id="id-a", number=7, cidr="10.0.0.0/24", gateway_ip="10.0.0.1"
    )
    with closing(etcd_place.open()) as store:
        store.commit(Transaction(put=[network("a", 5), subnet]))
        store.commit(Transaction(delete=[(Kind.NETWORK, "id-a"), (Kind.SUBNET, "s")]))
        store.commit(Transaction(put=[network("b", 5)]))
        store.commit(Transaction(put=[subnet.model_copy(update={"id": "t"})]))
        assert_unique(store)
