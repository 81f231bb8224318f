"""Several writers at once, and writers killed at random moments."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import pytest
from store_processes import acknowledged_until, exit_code, in_child, rest_of, writer

from heddle.errors import ConflictError
from heddle.intent.model import Kind, Network
from heddle.store.interface import Transaction
from heddle.store.reader import read_objects
from heddle.store.sqlite import SqliteStore

ROUNDS = 40
OBJECTS = 40  # per transaction: enough to be several pages
WRITERS = 4


def network(name: str, number: int) -> Network:
    return Network(id=f"id-{name}", name=name, vni=number + 1, domain="x" * 200)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite"


def write_forever(path: Path, first: int, acknowledge: int) -> None:
    """Commit all objects with the next number, and say so, again and again."""
    with closing(SqliteStore(path, changes_kept=200)) as store:
        number = first
        while True:
            put = [network(f"n{index}", number) for index in range(OBJECTS)]
            extra, gone = network(f"extra{number}", number), f"id-extra{number - 1}"
            store.commit(Transaction(put=[*put, extra], delete=[(Kind.NETWORK, gone)]))
            store.put_status({("port", "p"): {"number": number}})
            os.write(acknowledge, number.to_bytes(4))
            number += 1


def test_kill_at_random_moments_loses_nothing_and_halves_nothing(path: Path) -> None:
    chance = random.Random()  # noqa: S311 - no secret
    last, moments_with_progress = 0, 0
    for number in range(ROUNDS):
        with writer(partial(write_forever, path, last + 1)) as (pid, reading):
            # Every other time after a commit: a slow machine may not get that far by itself.
            received = os.read(reading, 4) if number % 2 else b""
            moment = time.monotonic() + chance.uniform(0.005, 0.12)
            received += acknowledged_until(reading, moment)
            os.kill(pid, signal.SIGKILL)
            received += rest_of(reading)
        acknowledged = int.from_bytes(received[-4:]) if received else last
        moments_with_progress += bool(received)
        last = check_consistent(path, acknowledged)
    assert moments_with_progress >= ROUNDS // 2


def check_consistent(path: Path, acknowledged: int) -> int:
    """The number that all objects carry: the last acknowledged, or one more."""
    read = read_objects(path)  # before a writer has repaired anything
    with closing(SqliteStore(path)) as store:
        snapshot = store.snapshot()
    assert {item["id"] for item in read} == set(snapshot.objects[Kind.NETWORK])
    networks = list(snapshot.objects[Kind.NETWORK].values())
    numbers = {one.vni - 1 for one in networks if isinstance(one, Network)}
    if not networks:
        assert acknowledged == 0
        return 0
    assert len(numbers) == 1, "half of a transaction was applied"
    number = numbers.pop()
    assert acknowledged <= number <= acknowledged + 1
    assert len(networks) == OBJECTS + 1
    assert snapshot.revision == number
    return number


def test_concurrent_writers_lose_no_commit(path: Path) -> None:
    commits = 50

    def write(own: int) -> None:
        with closing(SqliteStore(path)) as store:  # the first of them makes the file
            for index in range(commits):
                store.commit(Transaction(put=[network(f"w{own}-{index}", own)]))

    pids = [in_child(partial(write, own)) for own in range(WRITERS)]
    assert [exit_code(pid) for pid in pids] == [0] * WRITERS
    with closing(SqliteStore(path)) as store:
        snapshot = store.snapshot()
    assert snapshot.revision == WRITERS * commits
    assert len(snapshot.objects[Kind.NETWORK]) == WRITERS * commits


def test_expected_revision_makes_read_modify_write_safe(path: Path) -> None:
    additions = 25

    def add_one(store: SqliteStore) -> None:
        while True:
            snapshot = store.snapshot()
            old = snapshot.objects[Kind.NETWORK]["id-counter"]
            assert isinstance(old, Network)
            new = old.model_copy(update={"vni": old.vni + 1})
            with suppress(ConflictError):
                store.commit(Transaction(put=[new], expected_revision=snapshot.revision))
                return

    def add() -> None:
        with closing(SqliteStore(path)) as own:
            for _ in range(additions):
                add_one(own)

    with closing(SqliteStore(path)) as store:
        store.commit(Transaction(put=[network("counter", 0)]))
    pids = [in_child(add) for _ in range(WRITERS)]
    assert [exit_code(pid) for pid in pids] == [0] * WRITERS
    with closing(SqliteStore(path)) as store:
        counter = store.snapshot().objects[Kind.NETWORK]["id-counter"]
    assert isinstance(counter, Network)
    assert counter.vni == 1 + WRITERS * additions


def test_processes_that_make_the_store_at_once_all_succeed(tmp_path: Path) -> None:
    def make(path: Path) -> None:
        SqliteStore(path).close()

    for attempt in range(10):
        path = tmp_path / f"{attempt}" / "store.sqlite"
        pids = [in_child(partial(make, path)) for _ in range(8)]
        assert [exit_code(pid) for pid in pids] == [0] * 8
