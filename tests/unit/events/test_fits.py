"""Networks against what is proven to pass between hosts."""

from __future__ import annotations

from typing import Any

from heddle.events.fits import Spread, misfits, proven_paths, spread_of

SPREAD = Spread(
    {"n1": ("web", 1450), "n2": ("db", 1400)},
    {"n1": {"h1", "h2", "h3"}, "n2": {"h4"}},
    [],
)


def said(spread: Spread, **proven: int) -> list[str]:
    pairs = {frozenset(pair.split("_")): mtu for pair, mtu in proven.items()}
    return [str(misfit) for misfit in misfits(spread, pairs)]


def test_enough_or_unknown_is_no_misfit() -> None:
    assert said(SPREAD) == []
    assert said(SPREAD, h1_h2=1450, h2_h3=9000) == []
    assert said(SPREAD, h1_h4=500) == []  # no network, and no router between them


def test_too_little_is_named() -> None:
    assert said(SPREAD, h1_h2=1350, h1_h3=1450) == [
        "network web: packets of 1450 bytes do not pass between hosts h1 and h2, whose path "
        "carries 1350"
    ]


def test_nothing_passes_at_all() -> None:
    assert len(said(SPREAD, h2_h3=0)) == 1


def test_routed_packets_need_the_smaller_of_both() -> None:
    joined = SPREAD._replace(routers=[["n1", "n2"]])
    assert said(joined, h1_h4=1400) == []
    assert said(joined, h1_h4=1399)[0].startswith("network db: packets of 1400 bytes")


def test_spread_is_read_from_stored_objects() -> None:
    objects = [
        {"kind": "network", "id": "n1", "name": "web", "mtu": 1450},
        {"kind": "port", "network_id": "n1", "host": "h1"},
        {"kind": "port", "network_id": "n1", "host": "h2"},
        {"kind": "router", "interfaces": [{"network_id": "n1"}, {"network_id": "n2"}]},
        {"kind": "subnet"},
    ]
    assert spread_of(objects) == Spread({"n1": ("web", 1450)}, {"n1": {"h1", "h2"}}, [["n1", "n2"]])


def fact(host: str, mtu: int | None, state: str = "direct") -> dict[str, Any]:
    return {"paths": [{"host": host, "mtu": mtu, "state": state}]}


def test_the_smaller_of_what_both_ends_say_counts() -> None:
    both = {("path", "h1"): fact("h2", 1450), ("path", "h2"): fact("h1", 1350)}
    assert proven_paths(both) == {frozenset(("h1", "h2")): 1350}


def test_what_is_not_proven_or_not_reached_does_not_count() -> None:
    assert proven_paths({("path", "h1"): fact("h2", None)}) == {}
    assert proven_paths({("path", "h1"): fact("h2", 900, "unreachable")}) == {}
    assert proven_paths({("machine", "m"): {"state": "running"}}) == {}
