"""The one table printer."""

from __future__ import annotations

import json

from heddle.cli.table import render, render_json


def test_columns_are_aligned() -> None:
    rows = [("vm0", 1, ["10.0.0.2", "fd00::2"]), ("a-long-name", 1000, [])]
    assert render(("name", "count", "addresses"), rows) == (
        "NAME         COUNT  ADDRESSES\nvm0              1  10.0.0.2 fd00::2\na-long-name   1000  -"
    )


def test_words_for_what_is_no_text() -> None:
    assert render(("a", "b", "c", "d"), [(True, False, None, "")]) == (
        "A    B   C  D\nyes  no  -  -"
    )


def test_no_rows_leave_the_headers() -> None:
    assert render(("name", "state"), []) == "NAME  STATE"


def test_json_is_json() -> None:
    assert json.loads(render_json([{"a": None}])) == [{"a": None}]
