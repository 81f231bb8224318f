"""Other hosts in an operator's words."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from heddle.cli.others import host_label, receiver_elsewhere, way_text
from heddle.cli.view import View
from heddle.datapath.trace import Envelope, Trace

MAC = "fa:16:3e:00:00:02"
FRAME = bytes.fromhex(MAC.replace(":", "")).ljust(12, b"\2") + b"\x08\x06" + bytes(28)
OBJECTS: list[dict[str, Any]] = [
    {"kind": "host", "id": "h2", "name": "h2", "number": 2, "vtep": "10.0.0.2"},
    {"kind": "host", "id": "h3", "name": "h3", "number": 3, "vtep": "10.0.0.3"},
    {"kind": "host", "id": "sw", "name": "sw", "number": 4, "vtep": "10.0.0.4", "foreign": True},
    {"kind": "network", "id": "n", "name": "web", "vni": 7},
    {"kind": "machine", "id": "m", "name": "vm1", "machine_kind": "vm"},
    {"kind": "port", "id": "p", "network_id": "n", "machine_id": "m", "nic": 0, "mac": MAC},
]


@pytest.fixture
def view() -> View:
    view = View.__new__(View)  # what it reads from the store is given here
    view.objects, view.statuses = OBJECTS, {}
    return view


def traced(envelope: Envelope | None, *, vni: int = 7, verdict: int = 7) -> Trace:
    values: dict[str, Any] = dict.fromkeys(Trace.__dataclass_fields__, 0)
    sent = {"envelope": envelope, "to_network": vni, "verdict": verdict, "frame_out": FRAME}
    return Trace(**{**values, **sent})


def mapped(address: str) -> bytes:
    return ipaddress.IPv6Address(f"::ffff:{address}").packed


def test_a_host_that_is_not_known_has_its_number(view: View) -> None:
    assert (host_label(view, 2), host_label(view, 9)) == ("h2", "host 9")


def test_the_receiver_and_the_way_to_it(view: View) -> None:
    told = receiver_elsewhere(view, traced(Envelope(2, mapped("10.0.0.2"), 0)))
    assert told["to"] == "vm1:0"
    assert way_text(told) == "host h2 (10.0.0.2, VNI 7)"


def test_who_asks_the_rules_of_the_receiver(view: View) -> None:
    """Its host, but a foreign one has none."""
    at = [
        receiver_elsewhere(view, traced(Envelope(number, bytes(16), 0)))["rules_asked_at"]
        for number in (2, 4)
    ]
    assert at == ["h2", None]


def test_a_relay_is_named(view: View) -> None:
    told = receiver_elsewhere(view, traced(Envelope(2, mapped("10.0.0.3"), 3)))
    assert way_text(told) == "host h2 (through h3, 10.0.0.3, VNI 7)"


def test_a_receiver_of_which_only_the_mac_is_known(view: View) -> None:
    assert receiver_elsewhere(view, traced(Envelope(2, bytes(16), 0), vni=8))["to"] == MAC


def test_what_stays_here_or_is_dropped(view: View) -> None:
    assert receiver_elsewhere(view, traced(None)) == {}
    assert receiver_elsewhere(view, traced(Envelope(2, bytes(16), 0), verdict=2)) == {}
