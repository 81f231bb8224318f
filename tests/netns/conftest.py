"""Fixtures of the tests that need network namespaces."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from applier_host import ApplierHost, Intent, applier_host
from lab import Lab, with_lab
from lab_topologies import ROUTED


def _private_host() -> Iterator[Lab]:
    # A short path of its own: a socket's may have 107 characters at most.
    with TemporaryDirectory(prefix="heddle-") as root, with_lab(Path(root)) as private:
        yield private


@pytest.fixture
def lab() -> Iterator[Lab]:
    """A private host, empty."""
    yield from _private_host()


@pytest.fixture(scope="module")
def routed_lab() -> Iterator[Lab]:
    """A private host with two containers in two subnets, for the tests of a
    module that leave it as they find it."""
    for private in _private_host():
        private.heddle("up", private.write(ROUTED))
        yield private


@pytest.fixture(scope="module")
def module_lab() -> Iterator[Lab]:
    """A private host, empty, for the tests of a module."""
    yield from _private_host()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[ApplierHost]:
    """For an applier alone, in a network namespace that the test itself is in."""
    with applier_host(tmp_path) as made:
        yield made


@pytest.fixture
def intent() -> Intent:
    return Intent()
