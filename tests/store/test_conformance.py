"""What every store does, seen by one process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from store_places import Place, network

from heddle.errors import ConflictError
from heddle.intent.model import (
    FixedIp,
    Kind,
    Machine,
    Network,
    Port,
    Router,
    RouterInterface,
    Subnet,
)
from heddle.store.interface import Store, Transaction

MANY = 700  # objects: more than one transaction of etcd can hold


def test_a_new_store_is_empty_and_has_every_kind(store: Store, place: Place) -> None:
    snapshot = store.snapshot()
    assert snapshot.revision == 0
    assert snapshot.objects == {kind: {} for kind in Kind}
    with closing(place.reader()) as reader:
        assert reader.objects() == []
        assert reader.revision() == 0
        assert reader.statuses() == {}


def test_what_is_committed_is_there_after_reopening(place: Place) -> None:
    with closing(place.open()) as first:
        revision = first.commit(Transaction(put=[network("web", 1), network("db", 2)]))
    with closing(place.open()) as second:
        assert set(second.snapshot().objects[Kind.NETWORK]) == {"id-web", "id-db"}
        assert second.snapshot().revision == revision


def test_the_store_stamps_objects(store: Store) -> None:
    store.commit(Transaction(put=[network("web", 1)]))
    first = store.snapshot().objects[Kind.NETWORK]["id-web"]
    store.commit(Transaction(put=[network("web", 1, mtu=1400)]))
    second = store.snapshot().objects[Kind.NETWORK]["id-web"]
    assert (first.revision_number, second.revision_number) == (1, 2)
    assert first.created_at == second.created_at
    assert first.created_at.endswith("Z")
    assert second.updated_at >= first.updated_at


def test_revisions_grow(store: Store) -> None:
    revisions = [store.commit(Transaction(put=[network(f"n{i}", i + 1)])) for i in range(3)]
    assert sorted(set(revisions)) == revisions
    assert revisions[0] > 0
    assert store.snapshot().revision == revisions[-1]


def test_an_equal_object_makes_no_revision(store: Store) -> None:
    revision = store.commit(Transaction(put=[network("web", 1)]))
    stored = store.snapshot().objects[Kind.NETWORK]["id-web"]
    assert store.commit(Transaction(put=[network("web", 1)])) == revision
    assert store.commit(Transaction(put=[stored])) == revision
    assert store.snapshot().objects[Kind.NETWORK]["id-web"] == stored


def test_deleting_what_is_not_there_makes_no_revision(store: Store) -> None:
    assert store.commit(Transaction(delete=[(Kind.NETWORK, "nothing")])) == 0


def test_facts_make_no_revision(store: Store) -> None:
    revision = store.commit(Transaction(put=[network("web", 1)]))
    store.put_status({("port", "p"): {"state": "active"}})
    assert store.snapshot().revision == revision
    assert store.commit(Transaction(put=[network("web", 1)], expected_revision=revision)) == (
        revision
    )


def test_a_transaction_writes_and_deletes_at_once(store: Store) -> None:
    store.commit(Transaction(put=[network("web", 1)]))
    store.commit(Transaction(put=[network("db", 2)], delete=[(Kind.NETWORK, "id-web")]))
    assert set(store.snapshot().objects[Kind.NETWORK]) == {"id-db"}


def test_what_one_object_gives_up_another_can_have_at_once(store: Store) -> None:
    store.commit(Transaction(put=[network("web", 1), network("db", 2)]))
    store.commit(Transaction(put=[network("new", 1)], delete=[(Kind.NETWORK, "id-web")]))
    store.commit(Transaction(put=[network("new", 2), network("db", 1)]))  # they swap
    found = store.snapshot().objects[Kind.NETWORK]
    vnis = {one.name: one.vni for one in found.values() if isinstance(one, Network)}
    assert vnis == {"new": 2, "db": 1}


@pytest.mark.parametrize("count", [1, MANY], ids=["small", "large"])
def test_a_lost_race_is_refused_and_writes_nothing(store: Store, count: int) -> None:
    first = store.commit(Transaction(put=[network("web", 1)]))
    put = [network(f"n{index}", index + 2) for index in range(count)]
    with pytest.raises(ConflictError, match=f"revision {first}, expected 0"):
        store.commit(Transaction(put=put, expected_revision=0))
    assert set(store.snapshot().objects[Kind.NETWORK]) == {"id-web"}
    assert store.commit(Transaction(put=put, expected_revision=first)) > first
    assert len(store.snapshot().objects[Kind.NETWORK]) == count + 1


def test_a_change_of_what_has_changed_since_is_refused(store: Store) -> None:
    store.commit(Transaction(put=[network("web", 1)]))
    read = store.snapshot().objects[Kind.NETWORK]["id-web"]
    store.commit(Transaction(put=[network("db", 2)]))  # another object does not matter
    first = read.model_copy(update={"mtu": 1400})
    store.commit(Transaction(put=[first], as_read=True))
    with pytest.raises(ConflictError, match="network web: someone else has changed it"):
        store.commit(Transaction(put=[read.model_copy(update={"mtu": 1300})], as_read=True))
    store.commit(Transaction(delete=[(Kind.NETWORK, "id-web")]))
    with pytest.raises(ConflictError, match="network web: someone else has removed it"):
        store.commit(Transaction(put=[first], as_read=True))
    assert set(store.snapshot().objects[Kind.NETWORK]) == {"id-db"}


def test_a_transaction_that_fails_halfway_writes_nothing(store: Store) -> None:
    def half() -> Iterator[Network]:
        yield network("web", 1)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError):
        store.commit(Transaction(put=half()))
    assert store.snapshot().objects[Kind.NETWORK] == {}
    assert store.snapshot().revision == 0


def test_a_large_transaction_is_one(store: Store) -> None:
    put = [network(f"n{index}", index + 1, domain="x" * 2000) for index in range(MANY)]
    first = store.commit(Transaction(put=put))
    assert store.snapshot().revision == first
    assert len(store.snapshot().objects[Kind.NETWORK]) == MANY
    assert store.commit(Transaction(put=put)) == first
    gone = [(Kind.NETWORK, one.id) for one in put]
    second = store.commit(Transaction(put=[network("last", 1)], delete=gone))
    assert second > first
    assert set(store.snapshot().objects[Kind.NETWORK]) == {"id-last"}


def every_kind() -> list[Subnet | Router | Machine | Port | Network]:
    return [
        network("web", 1),
        Subnet(
            id="s",
            name="s",
            network_id="id-web",
            number=1,
            cidr="10.0.0.0/8",
            gateway_ip="10.0.0.1",
        ),
        Router(
            id="r",
            name="main",
            number=1,
            interfaces=(
                RouterInterface(
                    network_id="id-web", mac="02:00:00:00:00:01", addresses=("10.0.0.1",)
                ),
            ),
        ),
        Machine(id="m/1%2F", name="vm0", machine_kind="vm", host="h1", memory=1 << 30),
        Port(
            id="p",
            name="vm0/web",
            network_id="id-web",
            mac="02:00:00:00:00:02",
            fixed_ips=(FixedIp(subnet_id="s", ip="10.0.0.2"),),
            machine_id="m/1%2F",
            host="h1",
        ),
    ]


def test_objects_come_back_as_they_were(store: Store) -> None:
    store.commit(Transaction(put=every_kind()))
    objects = store.snapshot().objects
    stamps = {"revision_number": 0, "created_at": "", "updated_at": ""}
    found = [objects[one.kind][one.id].model_copy(update=stamps) for one in every_kind()]
    assert found == every_kind()
    store.commit(Transaction(delete=[(one.kind, one.id) for one in every_kind()]))
    assert not any(store.snapshot().objects.values())


def test_some_kinds_alone(store: Store) -> None:
    revision = store.commit(Transaction(put=every_kind()))
    snapshot = store.snapshot(Kind.SUBNET, Kind.MACHINE)
    assert snapshot.revision == revision
    found = {kind for kind, objects in snapshot.objects.items() if objects}
    assert found == {Kind.SUBNET, Kind.MACHINE}


def test_a_machine_that_moves_is_there_once(store: Store, place: Place) -> None:
    machine = Machine(id="m", name="vm0", machine_kind="vm", host="h1")
    store.commit(Transaction(put=[machine]))
    store.commit(Transaction(put=[machine.model_copy(update={"host": "h2"})]))
    found = store.snapshot().objects[Kind.MACHINE]["m"]
    assert isinstance(found, Machine)
    assert found.host == "h2"
    with closing(place.reader()) as reader:
        assert [item["host"] for item in reader.objects("machine")] == ["h2"]


def test_facts_are_kept_beside_intent(store: Store) -> None:
    store.put_status({("port", "p"): {"state": "active"}, ("machine", "m/1"): {"ready": True}})
    assert store.statuses()["machine", "m/1"] == {"ready": True}
    store.put_status({("port", "p"): {"state": "down"}, ("machine", "m/1"): None})
    assert store.statuses() == {("port", "p"): {"state": "down"}}
    assert store.statuses("h1") == {("port", "p"): {"state": "down"}}
    assert store.snapshot().revision == 0


def test_many_facts_at_once(store: Store) -> None:
    facts = {("port", f"p{index}"): {"ifindex": index} for index in range(500)}
    store.put_status(facts)
    assert store.statuses() == facts
    store.put_status(dict.fromkeys(facts))
    assert store.statuses() == {}


def test_readers_get_plain_objects_ordered_by_kind_and_name(store: Store, place: Place) -> None:
    machine = Machine(id="m", name="vm0", machine_kind="vm", host="h")
    revision = store.commit(Transaction(put=[network("web", 1), machine, network("db", 2)]))
    store.put_status({("port", "p"): {"state": "active"}})
    with closing(place.reader()) as reader:
        names = [(item["kind"], item["name"]) for item in reader.objects()]
        assert names == [("machine", "vm0"), ("network", "db"), ("network", "web")]
        assert [item["name"] for item in reader.objects("network")] == ["db", "web"]
        assert reader.objects("network")[0]["mtu"] == 1450
        left = reader.objects(without=("network",))
        assert [item["name"] for item in left] == ["vm0"]
        assert reader.statuses() == {("port", "p"): {"state": "active"}}
        assert reader.revision() == revision
