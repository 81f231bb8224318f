"""What is stored, as read commands need it: plain dicts, read in one go, with
the agent dead or alive."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from heddle.cli.lastseen import last_seen
from heddle.errors import NotFoundError, OperationError, StoreError
from heddle.events.naming import PortNames
from heddle.paths import host_name
from heddle.store.open import open_reader
from heddle.store.reader import Life, Reader

if TYPE_CHECKING:  # only root needs the data plane
    from heddle.datapath.flows import Usage
    from heddle.datapath.learned import Learned
    from heddle.events.counters import DropCount

Item = dict[str, Any]

_SETTLED_SECONDS = 5.0
_SETTLED_PAUSE = 0.05


_LAST_SEEN = "this is what the agent of this host has seen last"

# A group may have ten thousand of them, and few commands need any.
_PARTS_OF_GROUPS = ("security_group_rule", "address_group_entry")


class View:
    """Intent and facts as of now. Parts of groups are read when they are asked for."""

    _unread: tuple[str, ...] = ()

    def __init__(self, trouble: str = "") -> None:
        """``trouble``: why the store does not answer, of who has asked it just now.
        StoreError when it doesn't and nothing was seen of it here."""
        self._unread = _PARTS_OF_GROUPS
        self.trouble = trouble  # why this is not the store itself, but what was last seen of it
        if trouble or not self._read_store():
            self._read_last_seen()

    def _read_store(self) -> bool:
        self._reader: Reader = open_reader()
        try:
            self._read()
        except StoreError as error:
            self.trouble = str(error)
        return not self.trouble

    def _read_last_seen(self) -> None:
        seen = last_seen()
        if seen is None:
            raise StoreError(self.trouble)
        self._reader = seen
        self._read()
        print(f"heddle: {self.trouble}\nheddle: {_LAST_SEEN}", file=sys.stderr)

    def _read(self) -> None:
        self.objects: list[Item] = self._reader.objects(without=self._unread)
        self.statuses = self._reader.statuses()

    @cached_property
    def lives(self) -> dict[str, Life]:
        """Which hosts of a cluster are up; nothing when nobody can tell."""
        return self._reader.lives()

    @cached_property
    def by_id(self) -> dict[str, Item]:
        return {item["id"]: item for item in self.objects}

    @cached_property
    def names(self) -> PortNames:
        return PortNames(self.objects)

    @cached_property
    def _by_kind(self) -> dict[str, list[Item]]:
        return _grouped(self.objects, "kind")

    @cached_property
    def _ports_by_machine(self) -> dict[str, list[Item]]:
        return _grouped(self.of_kind("port"), "machine_id")

    @cached_property
    def _ports_by_network(self) -> dict[str, list[Item]]:
        return _grouped(self.of_kind("port"), "network_id")

    @cached_property
    def _rules_by_group(self) -> dict[str, list[Item]]:
        return _grouped(self.of_kind("security_group_rule"), "security_group_id")

    @cached_property
    def _rules_by_address_group(self) -> dict[str, list[Item]]:
        return _grouped(self.of_kind("security_group_rule"), "address_group_id")

    @cached_property
    def _members_by_group(self) -> dict[str, list[Item]]:
        members: dict[str, list[Item]] = {}
        for port in self.of_kind("port"):
            for group in port.get("security_group_ids", ()):
                members.setdefault(group, []).append(port)
        return members

    @cached_property
    def _ports_by_qos(self) -> dict[str, list[Item]]:
        named = (port for port in self.of_kind("port") if port.get("qos_policy_id"))
        return _grouped(named, "qos_policy_id")

    @cached_property
    def _entries_by_group(self) -> dict[str, list[Item]]:
        return _grouped(self.of_kind("address_group_entry"), "address_group_id")

    @cached_property
    def rule_names(self) -> dict[int, str]:
        """Names of security groups' rules by number, as the data plane has them."""
        return {rule["number"]: rule["name"] for rule in self.of_kind("security_group_rule")}

    @cached_property
    def usage(self) -> Usage | None:
        """How full the flow table is; None when it is not ours to read, or not there."""
        return self._measured[0] if self._measured else None

    @cached_property
    def drops(self) -> list[DropCount] | None:
        """What was dropped, most first; None as for ``usage``."""
        return self._measured[1] if self._measured else None

    @cached_property
    def learned(self) -> Learned | None:
        """What packets have told of who is where; None as for ``usage``."""
        return self._measured[2] if self._measured else None

    @cached_property
    def _measured(self) -> tuple[Usage, list[DropCount], Learned] | None:
        if os.geteuid() != 0:
            return None
        try:
            from heddle.datapath.flows import read_usage
            from heddle.datapath.learned import read_learned
            from heddle.datapath.loader import Datapath
            from heddle.events.counters import read_drops

            datapath = Datapath.open(host_name())
        except OperationError:
            return None
        try:
            return read_usage(datapath), read_drops(datapath), read_learned(datapath)
        finally:
            datapath.close()

    def of_kind(self, kind: str) -> list[Item]:
        if kind in self._unread and kind not in self._by_kind:
            self._by_kind[kind] = self._reader.objects(kind)
        return self._by_kind.get(kind, [])

    def status(self, item: Item) -> Item:
        """The facts about an object; empty when there are none."""
        return self.statuses.get((item["kind"], item["id"]), {})

    def find(self, kind: str, name: str) -> Item:
        """An object by name, or by id or the beginning of it."""
        items = self.of_kind(kind)
        found = [item for item in items if item["name"] == name]
        found = found or [item for item in items if item["id"].startswith(name)]
        if len(found) == 1:
            return found[0]
        if found:
            raise NotFoundError(f"{kind} {name!r}: that begins several ids; give more of it")
        raise NotFoundError(
            f"no {kind.replace('_', ' ')} {name!r}; there is: {_enumeration(items)}"
        )

    def ports_of(self, machine: Item) -> list[Item]:
        """A machine's ports in the order of its NICs."""
        ports = self._ports_by_machine.get(machine["id"], [])
        return sorted(ports, key=lambda port: int(port["nic"]))

    def ports_in(self, network_id: str) -> list[Item]:
        """The ports of a network."""
        return self._ports_by_network.get(network_id, [])

    def rules_of(self, group: Item) -> list[Item]:
        """The rules of a security group."""
        return self._rules_by_group.get(group["id"], [])

    def entries_of(self, group: Item) -> list[Item]:
        """The prefixes of an address group."""
        return self._entries_by_group.get(group["id"], [])

    def rules_naming(self, group: Item) -> list[Item]:
        """The rules whose remote end is this address group."""
        return self._rules_by_address_group.get(group["id"], [])

    def members(self, group: Item) -> list[Item]:
        """The ports that name a security group."""
        return self._members_by_group.get(group["id"], [])

    def ports_with_qos(self, policy: Item) -> list[Item]:
        """The ports that name a QoS policy."""
        return self._ports_by_qos.get(policy["id"], [])

    def name_of(self, object_id: str) -> str:
        item = self.by_id.get(object_id)
        return item["name"] if item else object_id


def view_with_active(ports: Iterable[str]) -> View:
    """What there is as soon as these ports (ids) are active in it: agents write to
    the store what they have told before. After a while, what there is by then."""
    deadline = time.monotonic() + _SETTLED_SECONDS
    while True:
        view = View()
        states = (view.statuses.get(("port", port), {}).get("state") for port in ports)
        if all(state == "active" for state in states) or time.monotonic() > deadline:
            return view
        time.sleep(_SETTLED_PAUSE)


def _grouped(items: Iterable[Item], field: str) -> dict[str, list[Item]]:
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(item[field], []).append(item)
    return groups


def addresses(port: Item) -> list[str]:
    """The fixed addresses of a port."""
    return [fixed["ip"] for fixed in port["fixed_ips"]]


def _enumeration(items: Iterable[Item], limit: int = 12) -> str:
    names = sorted(item["name"] for item in items)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more if names else "none"
