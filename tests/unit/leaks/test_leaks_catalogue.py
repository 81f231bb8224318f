"""The page about leaks is made from the catalogue."""

from __future__ import annotations

from pathlib import Path

import heddle
from heddle.leaks.catalogue import page


def test_page_is_made_from_the_catalogue() -> None:
    checkout = Path(heddle.__file__).parent.parent
    assert (checkout / "docs/leaks.md").read_text() == page()
