"""Hypothesis must not mind a busy machine."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("applier", deadline=None)
settings.load_profile("applier")
