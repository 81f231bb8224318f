"""What one object of intent contributes to its host."""

from __future__ import annotations

from dataclasses import dataclass, field
from sys import maxsize
from typing import NamedTuple

from heddle.compiler.shared import Share
from heddle.compiler.state import Link, MachineSpec, RowKey, RowValue, Tunnel


@dataclass(slots=True)
class Fragment:
    """A part of a HostState. No two fragments of one host have a key of ``rows``,
    ``links``, ``machines`` or ``namespaces`` in common, or a tunnel: admission.py
    lets in only one owner of each. ``shares`` are parts of rows that many make together."""

    rows: dict[RowKey, RowValue] = field(default_factory=dict)
    links: dict[str, Link] = field(default_factory=dict)
    machines: dict[str, MachineSpec] = field(default_factory=dict)
    namespaces: set[str] = field(default_factory=set)
    tunnel: Tunnel | None = None
    shares: dict[Share, None] = field(default_factory=dict)  # in order, each once


class Footprint(NamedTuple):
    """The keys of a fragment, and its tunnel: enough to take it away again."""

    rows: tuple[RowKey, ...] = ()
    links: tuple[str, ...] = ()
    machines: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    tunnel: Tunnel | None = None


NOTHING = Footprint()


def footprint(fragment: Fragment) -> Footprint:
    return Footprint(
        tuple(fragment.rows),
        tuple(fragment.links),
        tuple(fragment.machines),
        tuple(sorted(fragment.namespaces)),
        fragment.tunnel,
    )


@dataclass(frozen=True, slots=True)
class Limits:
    """What the data plane has room for: DHCP_OPTIONS_MAX and RA_OPTIONS_MAX (bytes
    of a template), GROUPS_MAX (security groups of a port) and POLICY_SETS_MAX (sets
    that the rules of a group may name per direction and IP version) of
    bpf/shared/abi.h. The agent reads them from BTF."""

    dhcp_options: int
    ra_message: int
    groups: int
    sets: int


UNLIMITED = Limits(dhcp_options=maxsize, ra_message=maxsize, groups=maxsize, sets=maxsize)
