"""docs/commands.md is what the parsers say."""

from __future__ import annotations

from pathlib import Path

import heddle
from heddle.cli.reference import page

CHECKOUT = Path(heddle.__file__).parent.parent


def test_the_page_is_made_from_the_parsers() -> None:
    assert (CHECKOUT / "docs/commands.md").read_text() == page()


def test_it_has_every_option() -> None:
    for words in ("--dry-run", "heddle vm console [-h] NAME", "--ipv6", "--follow", "--detach"):
        assert words in page()
    assert "--on-demand" not in page()
