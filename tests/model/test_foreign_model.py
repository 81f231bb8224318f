"""Machines behind a foreign VTEP, in random topologies: what they send, and what is for
them, fares as the model says."""

from __future__ import annotations

import pytest
from comparison import Comparison, searched
from foreign_topologies import ForeignIntent, foreign_topologies
from hypothesis import given
from model_board import ModelBoard
from test_model import seeds

TOPOLOGIES = 60


@pytest.mark.timeout(900)  # seconds, as of the model without them
@searched(TOPOLOGIES)
@given(intent=foreign_topologies(), seeds=seeds)
def test_packets_fare_as_the_model_says(
    model_board: ModelBoard, intent: ForeignIntent, seeds: list[int]
) -> None:
    comparison = Comparison(model_board, intent.objects, intent.behind)
    comparison.send_all(seeds)
    comparison.check_counters()
