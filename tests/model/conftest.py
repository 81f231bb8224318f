"""The loaded program for the tests that hold the model beside it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from model_board import ModelBoard, open_board


@pytest.fixture(scope="module")
def model_board() -> Iterator[ModelBoard]:
    """Not for longer: meanwhile the process is in a namespace of its own, from
    which other tests would reach nothing."""
    with open_board() as board:
        yield board
