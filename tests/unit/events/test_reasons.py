"""What a drop means at one port."""

from __future__ import annotations

import pytest

from heddle.events.reasons import REASONS, direction_of, explain_at


def test_a_policy_drop_names_the_groups() -> None:
    meaning = "no rule of its security groups (web, default) allows it"
    assert explain_at("POLICY_TO_VM", ("web", "default")).meaning == meaning
    assert explain_at("DROP_POLICY_FROM_VM", ("web", "default")).meaning == meaning


def test_no_groups_allow_nothing() -> None:
    assert explain_at("POLICY_TO_VM", ()).meaning == (
        "it has no security groups, so nothing is allowed"
    )


def test_other_reasons_mean_the_same_everywhere() -> None:
    assert explain_at("NO_ROUTE", ("web",)) == REASONS["NO_ROUTE"]


@pytest.mark.parametrize(
    ("name", "direction"),
    [
        ("POLICY_FROM_VM", "from_vm"),
        ("POLICY_TO_VM", "to_vm"),
        ("PACKET_RATE_TO_VM", "to_vm"),
        ("NO_ROUTE", None),
    ],
)
def test_direction(name: str, direction: str | None) -> None:
    assert direction_of(name) == direction
