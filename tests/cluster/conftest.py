"""Fixtures of the tests with several hosts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cluster import Cluster, cluster


@pytest.fixture
def empty() -> Iterator[Cluster]:
    """A root without labs."""
    with cluster() as made:
        yield made


@pytest.fixture(scope="module")
def module_cluster() -> Iterator[Cluster]:
    """The same, for the tests of a module."""
    with cluster() as made:
        yield made
