"""What loading a wrong topology file says."""

from __future__ import annotations

from pathlib import Path

import pytest

from heddle.errors import TopologyError
from heddle.intent.topology import load_topology


def problems(tmp_path: Path, text: str) -> list[str]:
    """The messages for a file, without its name in front."""
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(TopologyError) as caught:
        load_topology(file)
    lines = str(caught.value).splitlines()
    assert all(line.startswith(f"{file}:") for line in lines)
    return [line.removeprefix(f"{file}:") for line in lines]
