"""A second copy of some networks with all that is in them: the same MACs and
addresses, in networks of their own, and with groups and QoS policies of their own,
so that neither notices the other, nor its end. Pure.

The project's own security group is shared: a member counts in the network of its
port alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

from heddle.errors import ConflictError, NotFoundError, RequestError
from heddle.intent.allocate import assign_numbers
from heddle.intent.conflicts import CLONE_ORIGIN
from heddle.intent.model import (
    NUMBER_MAX,
    VNI_MAX,
    AddressGroup,
    AddressGroupEntry,
    AnyResource,
    Machine,
    Network,
    Port,
    QosPolicy,
    Resource,
    Router,
    SecurityGroup,
    SecurityGroupRule,
    Subnet,
)
from heddle.intent.names import PROJECT, PROJECT_ORIGIN, object_id
from heddle.intent.stored import Stored, stored_of

_R = TypeVar("_R", bound=Resource)


class Originals(NamedTuple):
    """What is to be copied."""

    networks: tuple[Network, ...]
    subnets: tuple[Subnet, ...]
    routers: tuple[Router, ...]
    address_groups: tuple[AddressGroup, ...]
    entries: tuple[AddressGroupEntry, ...]
    security_groups: tuple[SecurityGroup, ...]
    rules: tuple[SecurityGroupRule, ...]
    policies: tuple[QosPolicy, ...]
    machines: tuple[Machine, ...]
    ports: tuple[Port, ...]


def clone_origin(name: str) -> str:
    """Who owns the objects of a clone."""
    return f"{CLONE_ORIGIN}{name}"


def originals(stored: Stored, names: Sequence[str]) -> Originals:
    """The networks of these names, and all that is in them.

    NotFoundError for a name that is no network's. RequestError when a machine or a
    router is in another network as well: a copy that lacked it would be another
    thing, one that shared it would not be apart.
    """
    networks = [_network(stored, name) for name in dict.fromkeys(names)]
    chosen = {network.id for network in networks}
    ports = [p for p in stored_of(stored, Port).values() if p.network_id in chosen]
    inside = {port.machine_id for port in ports}
    machines = [m for m in stored_of(stored, Machine).values() if m.id in inside]
    routers = [
        router
        for router in stored_of(stored, Router).values()
        if chosen & {interface.network_id for interface in router.interfaces}
    ]
    _refuse_ties(stored, chosen, machines, routers)
    subnets = [s for s in stored_of(stored, Subnet).values() if s.network_id in chosen]
    groups = _groups(stored, ports)
    rules = [
        r for r in stored_of(stored, SecurityGroupRule).values() if r.security_group_id in groups
    ]
    named = {rule.address_group_id for rule in rules}
    entries = stored_of(stored, AddressGroupEntry).values()
    policies = {port.qos_policy_id for port in ports}
    return Originals(
        networks=_by_name(networks),
        subnets=_by_name(subnets),
        routers=_by_name(routers),
        address_groups=_by_name(
            a for a in stored_of(stored, AddressGroup).values() if a.id in named
        ),
        entries=_by_name(e for e in entries if e.address_group_id in named),
        security_groups=_by_name(groups.values()),
        rules=_by_name(rules),
        policies=_by_name(p for p in stored_of(stored, QosPolicy).values() if p.id in policies),
        machines=_by_name(machines),
        ports=_by_name(ports),
    )


def _groups(stored: Stored, ports: Iterable[Port]) -> dict[str, SecurityGroup]:
    """The security groups of ports, and those that their rules name, by id; without
    the project's own."""
    remotes: dict[str, set[str]] = {}
    for rule in stored_of(stored, SecurityGroupRule).values():
        if rule.remote_group_id is not None:
            remotes.setdefault(rule.security_group_id, set()).add(rule.remote_group_id)
    all_groups = stored_of(stored, SecurityGroup)
    found: dict[str, SecurityGroup] = {}
    waiting = {group_id for port in ports for group_id in port.security_group_ids}
    while waiting:
        group_id = waiting.pop()
        group = all_groups.get(group_id)
        if group is not None and group.origin != PROJECT_ORIGIN:
            found[group_id] = group
            waiting |= remotes.get(group_id, set()) - found.keys()
    return found


def clone(
    stored: Stored, found: Originals, name: str, disks: Mapping[str, str]
) -> list[AnyResource]:
    """The objects of a copy called ``name``; each is called ``name-original``.
    ``disks`` has the image of each machine that has a disk of its own, by its id.

    ConflictError when a name is taken.
    """
    copies = _Copies(stored, found, name, disks)
    made: list[AnyResource] = [*copies.networks(), *copies.subnets(), *copies.routers()]
    made += [*copies.groups(), *copies.entries(), *copies.rules(), *copies.policies()]
    made += [*copies.machines(), *copies.ports()]
    _refuse_taken(stored, made, name)
    return made


def has_disk(machine: Machine) -> bool:
    """Whether it writes to a file that no other machine may use."""
    return machine.machine_kind == "vm" and machine.image != "tiny"


class _Copies:
    def __init__(
        self, stored: Stored, found: Originals, name: str, disks: Mapping[str, str]
    ) -> None:
        self._stored = stored
        self._found = found
        self._name = name
        self._disks = disks
        items = [item for group in found for item in group]
        self._ids = {item.id: object_id(PROJECT, item.kind, self._new(item.name)) for item in items}

    def networks(self) -> Iterator[Network]:
        vnis = self._numbers(self._found.networks, "vni", VNI_MAX, Network)
        for network in self._found.networks:
            yield self._copy(network, vni=vnis[network.id], foreign_members=())

    def subnets(self) -> Iterator[Subnet]:
        numbers = self._numbers(self._found.subnets, "number", NUMBER_MAX, Subnet)
        for subnet in self._found.subnets:
            yield self._copy(
                subnet, number=numbers[subnet.id], network_id=self._ids[subnet.network_id]
            )

    def routers(self) -> Iterator[Router]:
        numbers = self._numbers(self._found.routers, "number", NUMBER_MAX, Router)
        for router in self._found.routers:
            interfaces = tuple(
                each.model_copy(update={"network_id": self._ids[each.network_id]})
                for each in router.interfaces
            )
            yield self._copy(router, number=numbers[router.id], interfaces=interfaces)

    def groups(self) -> Iterator[AddressGroup | SecurityGroup]:
        """Of both kinds: they share one space of numbers."""
        originals: list[AddressGroup | SecurityGroup] = [*self._found.address_groups]
        originals += self._found.security_groups
        numbers = self._numbers(originals, "number", NUMBER_MAX, AddressGroup, SecurityGroup)
        for group in originals:
            yield self._copy(group, number=numbers[group.id])

    def entries(self) -> Iterator[AddressGroupEntry]:
        for entry in self._found.entries:
            yield self._copy(entry, address_group_id=self._ids[entry.address_group_id])

    def rules(self) -> Iterator[SecurityGroupRule]:
        numbers = self._numbers(self._found.rules, "number", NUMBER_MAX, SecurityGroupRule)
        for rule in self._found.rules:
            yield self._copy(
                rule,
                number=numbers[rule.id],
                security_group_id=self._ids[rule.security_group_id],
                remote_group_id=self._own(rule.remote_group_id),
                address_group_id=self._own(rule.address_group_id),
            )

    def policies(self) -> Iterator[QosPolicy]:
        for policy in self._found.policies:
            yield self._copy(policy)

    def machines(self) -> Iterator[Machine]:
        for machine in self._found.machines:
            image = self._disks[machine.id] if has_disk(machine) else machine.image
            yield self._copy(
                machine, image=image, migrating_to="", moved_from="", paused=False, saved=""
            )

    def ports(self) -> Iterator[Port]:
        for port in self._found.ports:
            fixed_ips = tuple(
                each.model_copy(update={"subnet_id": self._ids[each.subnet_id]})
                for each in port.fixed_ips
            )
            yield self._copy(
                port,
                network_id=self._ids[port.network_id],
                machine_id=self._ids[port.machine_id],
                fixed_ips=fixed_ips,
                security_group_ids=tuple(self._ids.get(g, g) for g in port.security_group_ids),
                qos_policy_id=self._own(port.qos_policy_id),
                migrating_to="",
                moved_from="",
            )

    def _own(self, original: str | None) -> str | None:
        """The copy of what is copied, else that itself."""
        return original and self._ids.get(original, original)

    def _new(self, name: str) -> str:
        return f"{self._name}-{name}"

    def _copy(self, item: _R, **changes: object) -> _R:
        identity = {
            "id": self._ids[item.id],
            "name": self._new(item.name),
            "origin": clone_origin(self._name),
            "revision_number": 0,
            "created_at": "",
            "updated_at": "",
        }
        return item.model_copy(update={**identity, **changes})

    def _numbers(
        self, items: Iterable[Resource], field: str, maximum: int, *models: type[AnyResource]
    ) -> dict[str, int]:
        """Unused ones among these models, by the id of the original."""
        ids = {self._ids[item.id]: item.id for item in items}
        held = {
            key: getattr(item, field)
            for model in models
            for key, item in self._stored.objects.get(model.kind, {}).items()
        }
        numbers = assign_numbers(ids, given={}, held=held, maximum=maximum)
        return {original: numbers[copy] for copy, original in ids.items()}


def _network(stored: Stored, name: str) -> Network:
    networks = stored_of(stored, Network).values()
    for network in networks:
        if network.name == name:
            return network
    there = ", ".join(sorted(network.name for network in networks)) or "none"
    raise NotFoundError(f"no network {name!r}; there is: {there}")


def _refuse_ties(
    stored: Stored, chosen: set[str], machines: Sequence[Machine], routers: Sequence[Router]
) -> None:
    names = {key: network.name for key, network in stored_of(stored, Network).items()}
    inside = {machine.id: machine.name for machine in machines}
    for port in stored_of(stored, Port).values():
        if port.machine_id in inside and port.network_id not in chosen:
            raise RequestError(
                f"machine {inside[port.machine_id]} is in network {names[port.network_id]} as "
                "well: name that, too"
            )
    for router in routers:
        for interface in router.interfaces:
            if interface.network_id not in chosen:
                raise RequestError(
                    f"router {router.name} joins network {names[interface.network_id]} as well: "
                    "name that, too"
                )


def _refuse_taken(stored: Stored, made: Sequence[AnyResource], name: str) -> None:
    owners = {
        (other.kind, other.name): other.origin
        for objects in stored.objects.values()
        for other in objects.values()
    }
    for item in made:
        owner = owners.get((item.kind, item.name))
        if owner == clone_origin(name):
            raise ConflictError(
                f"there is a clone {name!r} already: choose another name, or run "
                f"heddle clone --remove {name}"
            )
        if owner is not None:
            raise ConflictError(
                f"there is a {item.kind.value} {item.name} already: give the clone another name"
            )


def _by_name(items: Iterable[_R]) -> tuple[_R, ...]:
    return tuple(sorted(items, key=lambda item: item.name))
