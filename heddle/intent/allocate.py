"""Gives out numbers, MACs and addresses that a file leaves open.

All of it is a pure function of the file and the store: what exists keeps what
it has, the rest follows from ids and names, never from the order of the file.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Hashable, Iterable, Mapping
from typing import TypeVar

from heddle.intent.addresses import Address, Prefix, unusable_meaning
from heddle.intent.names import derived_mac

MacKey = tuple[str, ...]
"""What a MAC derives from: ("port", id) or ("router", router id, network id)."""

KeyT = TypeVar("KeyT", bound=Hashable)
ValueT = TypeVar("ValueT", int, str)


def assign_numbers(
    wanted: Iterable[str],
    *,
    given: Mapping[str, int],
    held: Mapping[str, int],
    maximum: int,
) -> dict[str, int]:
    """A number from 1 to ``maximum`` for each wanted id.

    ``given`` are those that the file names, ``held`` those in the store.
    """
    wanted = set(wanted)
    numbers = _keep(wanted, given, held)
    taken = {*numbers.values(), *held.values()}
    for object_id in sorted(wanted - numbers.keys()):
        number = _hashed(object_id, maximum)
        while number in taken:
            number = number % maximum + 1
        numbers[object_id] = number
        taken.add(number)
    return numbers


def assign_macs(
    wanted: Iterable[MacKey],
    *,
    given: Mapping[MacKey, str],
    held: Mapping[MacKey, str],
    reserved: Iterable[str] = (),
) -> dict[MacKey, str]:
    """A MAC for each wanted key; derived ones are unique in file and store."""
    wanted = set(wanted)
    macs = _keep(wanted, given, held)
    taken = {*macs.values(), *held.values(), *reserved}
    for key in sorted(wanted - macs.keys()):
        mac, attempt = derived_mac(*key), 0
        while mac in taken:
            attempt += 1
            mac = derived_mac(*key, str(attempt))
        macs[key] = mac
        taken.add(mac)
    return macs


def _keep(
    wanted: set[KeyT], given: Mapping[KeyT, ValueT], held: Mapping[KeyT, ValueT]
) -> dict[KeyT, ValueT]:
    """What the file names, and what exists already and is still free."""
    kept = dict(given)
    taken = {*given.values(), *(value for key, value in held.items() if key not in wanted)}
    for key in wanted:
        value = held.get(key)
        if key not in kept and value is not None and value not in taken:
            kept[key] = value
    return kept


def _hashed(text: str, maximum: int) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) % maximum + 1


class AddressPool:
    """The free addresses of a subnet, lowest first."""

    def __init__(self, prefix: Prefix, taken: set[Address]) -> None:
        """``taken`` is shared with the caller, who adds to it."""
        self._prefix = prefix
        self._taken = taken
        self._offset = 1

    def lowest_free(self) -> Address | None:
        """The lowest address that nobody has; None when all are taken."""
        while self._offset < self._prefix.num_addresses:
            address = self._prefix[self._offset]
            if address not in self._taken and unusable_meaning(self._prefix, address) is None:
                return address
            self._offset += 1
        return None


def natural_order(name: str) -> tuple[list[str | int], str]:
    """Sorts vm2 before vm10."""
    parts = re.split(r"(\d+)", name)
    # re.split alternates text and digits, so like is compared with like.
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], name
