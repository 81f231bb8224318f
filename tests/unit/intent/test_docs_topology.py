"""docs/topology-file.md says what the schema says."""

from __future__ import annotations

from pathlib import Path

import pytest

from heddle.intent.reference import TABLES, render_page, render_table
from heddle.intent.schema_base import Spec

PAGE = Path(__file__).parents[3] / "docs" / "topology-file.md"


def specs(model: type[Spec] = Spec) -> set[type[Spec]]:
    """Every model of the schema."""
    return {found for child in model.__subclasses__() for found in {child, *specs(child)}}


def test_the_page_has_the_tables_of_the_schema() -> None:
    page = PAGE.read_text()
    assert page == render_page(page), (
        "run: .venv/bin/python -m heddle.intent.reference docs/topology-file.md"
    )


def test_every_mapping_with_keys_has_a_table() -> None:
    assert set(TABLES.values()) == {model for model in specs() if model.model_fields}


@pytest.mark.parametrize("model", TABLES.values(), ids=list(TABLES))
def test_every_key_has_a_meaning_and_an_example(model: type[Spec]) -> None:
    for key, info in model.model_fields.items():
        assert info.description, key
        assert info.examples, key


def test_a_table_shows_type_default_and_range() -> None:
    rows = render_table(TABLES["machine"]).splitlines()
    assert "| `cpus` | whole number | `1` | `2` | Virtual CPUs. VMs only. From 1 to 255. |" in rows
    assert "| `kind` | `vm` or `container` | `vm` |" in render_table(TABLES["machine"])
    assert "| `memory` | size | `256M` |" in render_table(TABLES["machine"])
    assert "| `network` | text | required |" in render_table(TABLES["nic"])


def test_a_page_without_a_place_for_a_table_is_an_error() -> None:
    with pytest.raises(ValueError, match="no place for table topology"):
        render_page("# Nothing here\n")
