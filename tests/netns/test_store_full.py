"""The store on a file system that is full, and on one that is read-only."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from heddle.agent.daemon import start_detached
from heddle.errors import AgentError, StoreError
from heddle.intent.model import Kind, Network
from heddle.store.interface import Snapshot, Transaction
from heddle.store.reader import read_objects
from heddle.store.sqlite import SqliteStore


def network(name: str, bulk: int = 500) -> Network:
    return Network(id=f"id-{name}", name=name, vni=7, domain="x" * bulk)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of half a megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def no_space_left(folder: Path) -> Iterator[None]:
    """Fill the file system to the last byte, and free it again."""
    filler = folder / "filler"
    descriptor = os.open(filler, os.O_CREAT | os.O_WRONLY)
    try:
        for size in (4096, 1):
            with suppress(OSError):  # no space left
                while True:
                    os.write(descriptor, b"x" * size)
        yield
    finally:
        os.close(descriptor)
        filler.unlink()


def fill(store: SqliteStore) -> tuple[int, str]:
    """Commit until the disk is full; how many commits succeeded, and the error."""
    for count in range(10_000):
        try:
            store.commit(Transaction(put=[network(f"a{count}"), network(f"b{count}")]))
        except StoreError as error:
            return count, str(error)
    raise AssertionError("half a megabyte held 10,000 commits")


def names(snapshot: Snapshot) -> set[str]:
    return {resource.name for resource in snapshot.objects[Kind.NETWORK].values()}


def test_a_full_disk_is_named_and_loses_nothing(small_disk: Path) -> None:
    path = small_disk / "store.sqlite"
    with closing(SqliteStore(path)) as store:
        count, message = fill(store)
        assert message.startswith(f"store {path}: the disk is full; free space and try again")
        whole = {f"{letter}{index}" for index in range(count) for letter in "ab"}
        assert names(store.snapshot()) == whole
        assert {item["name"] for item in read_objects(path)} == whole
    with closing(SqliteStore(path)) as store:
        assert names(store.snapshot()) == whole
        assert store.snapshot().revision == count


def test_writing_goes_on_when_space_is_free_again(small_disk: Path) -> None:
    with closing(SqliteStore(small_disk / "store.sqlite")) as store:
        store.commit(Transaction(put=[network("first")]))
        with no_space_left(small_disk), pytest.raises(StoreError, match="the disk is full"):
            store.commit(Transaction(put=[network(f"n{index}") for index in range(100)]))
        assert store.commit(Transaction(put=[network("second")])) == 2
        assert names(store.snapshot()) == {"first", "second"}


def test_facts_on_a_full_disk_are_refused_too(small_disk: Path) -> None:
    with closing(SqliteStore(small_disk / "store.sqlite")) as store:
        fact = {("port", f"p{index}"): {"error": "x" * 500} for index in range(100)}
        with no_space_left(small_disk), pytest.raises(StoreError, match="the disk is full"):
            store.put_status(fact)
        store.put_status(fact)
        assert len(store.statuses()) == 100


def test_a_store_can_not_be_made_on_a_full_disk(small_disk: Path) -> None:
    with no_space_left(small_disk):
        with pytest.raises(StoreError, match=r"free sp.*|No space left") as caught:
            SqliteStore(small_disk / "store.sqlite")
        assert "\n" not in str(caught.value)
    SqliteStore(small_disk / "store.sqlite").close()


@pytest.mark.parametrize(
    "use",
    [
        lambda path: SqliteStore(path).close(),
        lambda path: SqliteStore(path.with_name("other.sqlite")).close(),
    ],
    ids=["existing", "new"],
)
def test_a_read_only_disk_is_named(small_disk: Path, use: Callable[[Path], None]) -> None:
    path = small_disk / "store.sqlite"
    with closing(SqliteStore(path)) as store:
        store.commit(Transaction(put=[network("web")]))
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(StoreError, match=r"read-only|is writable"):
        use(path)


def test_an_agent_without_room_for_its_last_words_is_told_of(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = small_disk / "var/lib/heddle"
    state.mkdir(parents=True)
    monkeypatch.setenv("HEDDLE_ROOT", str(small_disk))
    monkeypatch.setenv("HEDDLE_HOST", "full-disk")
    with no_space_left(small_disk):
        with pytest.raises(AgentError) as caught:
            start_detached()
        reason = f"no room for its log: free space ({state / 'agent.log'})"
        assert str(caught.value) == f"the agent did not start: {reason}"
