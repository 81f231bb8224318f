"""Several writers at once, and writers killed at random moments, in every store."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import closing, suppress
from functools import partial

import pytest
from store_places import Place, network
from store_processes import acknowledged_until, exit_code, in_child, rest_of, writer

from heddle.errors import ConflictError
from heddle.intent.model import Kind, Network
from heddle.store.interface import Store, Transaction

WRITERS = 4


def write_forever(place: Place, objects: int, first: int, acknowledge: int) -> None:
    """Commit all objects with the next number, and say so, again and again."""
    with closing(place.open()) as store:
        number = first
        while True:
            mark = f"{number}"
            put = [network(f"n{i}", i + 1, domain=mark.rjust(200, "-")) for i in range(objects)]
            extra = network(f"extra{number}", objects + 1, domain=mark.rjust(200, "-"))
            gone = f"id-extra{number - 1}"
            store.commit(Transaction(put=[*put, extra], delete=[(Kind.NETWORK, gone)]))
            store.put_status({("port", "p"): {"number": number}})
            os.write(acknowledge, number.to_bytes(4))
            number += 1


# Within one transaction of etcd, and with a journal.
@pytest.mark.parametrize(("objects", "rounds"), [(20, 25), (300, 20)], ids=["small", "large"])
def test_kill_at_random_moments_loses_nothing_and_halves_nothing(
    place: Place, objects: int, rounds: int
) -> None:
    chance = random.Random()  # noqa: S311 - no secret
    last, moments_with_progress = 0, 0
    for number in range(rounds):
        with writer(partial(write_forever, place, objects, last + 1)) as (pid, reading):
            # Every other time after a commit: a slow machine may not get that far by itself.
            received = os.read(reading, 4) if number % 2 else b""
            moment = time.monotonic() + chance.uniform(0.005, 0.3)
            received += acknowledged_until(reading, moment)
            os.kill(pid, signal.SIGKILL)
            received += rest_of(reading)
        acknowledged = int.from_bytes(received[-4:]) if received else last
        moments_with_progress += bool(received)
        last = check_consistent(place, objects, acknowledged)
    assert moments_with_progress >= rounds // 2


def check_consistent(place: Place, objects: int, acknowledged: int) -> int:
    """The number that all objects carry: the last acknowledged, or one more."""
    with closing(place.reader()) as reader:
        read = reader.objects()  # before a writer has repaired anything
    with closing(place.open()) as store:
        snapshot = store.snapshot()
    networks = [one for one in snapshot.objects[Kind.NETWORK].values() if isinstance(one, Network)]
    assert {(item["id"], item["domain"]) for item in read} == {(n.id, n.domain) for n in networks}
    if not networks:
        assert acknowledged == 0
        return 0
    numbers = {int(one.domain.lstrip("-")) for one in networks}
    assert len(numbers) == 1, "half of a transaction was applied"
    number = numbers.pop()
    assert acknowledged <= number <= acknowledged + 1
    assert len(networks) == objects + 1
    return number


def test_concurrent_writers_lose_no_commit(place: Place) -> None:
    commits = 30

    def write(own: int) -> None:
        with closing(place.open()) as store:
            for index in range(commits):
                vni = own * commits + index + 1
                store.commit(Transaction(put=[network(f"w{own}-{index}", vni)]))

    pids = [in_child(partial(write, own)) for own in range(WRITERS)]
    assert [exit_code(pid) for pid in pids] == [0] * WRITERS
    with closing(place.open()) as store:
        assert len(store.snapshot().objects[Kind.NETWORK]) == WRITERS * commits


def test_large_and_small_commits_of_several_writers_lose_nothing(place: Place) -> None:
    def write(own: int) -> None:
        with closing(place.open()) as store:
            for index in range(4):
                first = (own * 4 + index) * 300
                count = 300 if own % 2 else 3
                put = [network(f"w{first + i}", first + i + 1) for i in range(count)]
                store.commit(Transaction(put=put))

    pids = [in_child(partial(write, own)) for own in range(WRITERS)]
    assert [exit_code(pid) for pid in pids] == [0] * WRITERS
    with closing(place.open()) as store:
        assert len(store.snapshot().objects[Kind.NETWORK]) == 2 * 4 * 300 + 2 * 4 * 3


def test_expected_revision_makes_read_modify_write_safe(place: Place) -> None:
    additions = 15

    def add_one(store: Store) -> None:
        while True:
            snapshot = store.snapshot()
            old = snapshot.objects[Kind.NETWORK]["id-counter"]
            assert isinstance(old, Network)
            new = old.model_copy(update={"vni": old.vni + 1})
            with suppress(ConflictError):
                store.commit(Transaction(put=[new], expected_revision=snapshot.revision))
                return

    def add() -> None:
        with closing(place.open()) as own:
            for _ in range(additions):
                add_one(own)

    with closing(place.open()) as store:
        store.commit(Transaction(put=[network("counter", 1)]))
    pids = [in_child(add) for _ in range(WRITERS)]
    assert [exit_code(pid) for pid in pids] == [0] * WRITERS
    with closing(place.open()) as store:
        counter = store.snapshot().objects[Kind.NETWORK]["id-counter"]
    assert isinstance(counter, Network)
    assert counter.vni == 1 + WRITERS * additions
