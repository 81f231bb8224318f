"""Random topologies and packets: the data plane does what the model says."""

from __future__ import annotations

import pytest
from comparison import Comparison, searched
from hypothesis import given
from hypothesis import strategies as st
from model_board import ModelBoard
from topologies import topologies

from heddle.intent.model import AnyResource

PACKETS = 110  # per topology, changes of intent included
TOPOLOGIES = 100
seeds = st.lists(st.integers(0, 2**32 - 1), min_size=PACKETS, max_size=PACKETS)


@pytest.mark.timeout(900)  # seconds; a failure is made as small as can be, for 300 at most
@searched(TOPOLOGIES)
@given(objects=topologies(), seeds=seeds)
def test_packets_fare_as_the_model_says(
    model_board: ModelBoard, objects: list[AnyResource], seeds: list[int]
) -> None:
    comparison = Comparison(model_board, objects)
    comparison.send_all(seeds)
    comparison.check_counters()
