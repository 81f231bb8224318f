"""Fixtures of the tests that need network namespaces."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from lab import Lab, with_lab


@pytest.fixture
def lab() -> Iterator[Lab]:
    """A private host, empty."""
    # A short path of its own: a socket's may have 107 characters at most.
    with TemporaryDirectory(prefix="heddle-") as root, with_lab(Path(root)) as private:
        yield private
