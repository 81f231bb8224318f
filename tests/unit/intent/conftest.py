"""Topologies from text, and a store in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from heddle.intent.topology import Topology, load_topology

LoadText = Callable[..., Topology]


@pytest.fixture
def load(tmp_path: Path) -> LoadText:
    """``load(text, name="net.yaml")``: the topology of a file with this text."""

    def load_text(text: str, name: str = "net.yaml") -> Topology:
        file = tmp_path / name
        file.write_text(dedent(text))
        return load_topology(file)

    return load_text
