"""A part of intent that is followed as a whole (scopes.py has the meaning)."""

from __future__ import annotations

from typing import NamedTuple


class Scope(NamedTuple):
    """``kind``: network, router, host, hosts, group, rules, address_group,
    entries or qos. ``id``: of the object that gives the scope its name."""

    kind: str
    id: str
