"""Malformed and random frames: none passes that should not, none is lost."""

from __future__ import annotations

from frame_fuzz import FrameFuzz
from model_board import ModelBoard

FRAMES = 50_000
SEED = 1


def test_malformed_frames_fare_as_the_model_says(model_board: ModelBoard) -> None:
    fuzz = FrameFuzz(model_board, SEED)
    fuzz.run(FRAMES)
    assert fuzz.outcomes["DROP_MALFORMED"] > FRAMES // 20
    assert fuzz.outcomes["delivered"] > FRAMES // 50
