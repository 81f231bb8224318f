"""Ranges of ports as prefixes, so that the data plane finds a port with one exact
lookup per length in use."""

from __future__ import annotations

from typing import NamedTuple

PORT_BITS = 16
_PORTS = 1 << PORT_BITS


class PortPrefix(NamedTuple):
    """All ports whose upper ``bits`` are those of ``port``; its lower ones are zero."""

    bits: int
    port: int


ANY_PORT = PortPrefix(0, 0)


def port_prefixes(first: int, last: int) -> list[PortPrefix]:
    """The fewest prefixes, ascending and disjoint, that hold exactly the ports from
    ``first`` to ``last``: at most 30. 80 to 443 begins with 80/12, which is 80 to 95."""
    prefixes: list[PortPrefix] = []
    while first <= last:
        aligned = first & -first or _PORTS  # the largest block that may begin here
        fitting = 1 << (last - first + 1).bit_length() - 1
        size = min(aligned, fitting)
        prefixes.append(PortPrefix(PORT_BITS - size.bit_length() + 1, first))
        first += size
    return prefixes
