"""Both stores, each as a place where a test may open it as often as it likes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from etcd_server import EtcdCluster, etcd_cluster
from store_places import EtcdPlace, Place, SqlitePlace

from heddle.store.interface import Store


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    """A cluster of one member for all tests; use ``etcd_place`` for an empty one."""
    with etcd_cluster(tmp_path_factory.mktemp("etcd") / "data") as cluster:
        yield cluster


@pytest.fixture
def etcd_place(etcd: EtcdCluster) -> EtcdPlace:
    etcd.clear()
    return EtcdPlace(etcd.settings)


@pytest.fixture(params=["sqlite", "etcd"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "sqlite":
        return SqlitePlace(tmp_path / "state" / "store.sqlite")
    found: EtcdPlace = request.getfixturevalue("etcd_place")
    return found


@pytest.fixture
def store(place: Place) -> Iterator[Store]:
    with ExitStack() as stack:
        opened = place.open()
        stack.callback(opened.close)
        yield opened
