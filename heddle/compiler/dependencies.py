"""What each compile function read, so that a changed answer leads to exactly
the fragments that used it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar, cast

from heddle.compiler.floodlist import FloodLists
from heddle.compiler.fragment import Limits
from heddle.compiler.index import Index
from heddle.compiler.needs import Residence
from heddle.compiler.questions import (
    ALL_HOSTS,
    ANY_PEER,
    FLOOD_GROUPS,
    ObjectKey,
    Question,
    detour_of,
    fits,
    holder_of,
    host_named,
    is_needed,
    is_peer,
    number_of_group,
    number_of_host,
    number_of_set,
    on_paths,
    path_to,
    ports_of,
    presence_of,
    relaying,
    resides,
    routed_to,
    routers_of,
    subnets_of,
)
from heddle.compiler.ring import Rings
from heddle.compiler.state import Device
from heddle.compiler.usage import Side
from heddle.intent.model import (
    AnyResource,
    Detour,
    Host,
    Machine,
    Network,
    Path,
    Port,
    Presence,
    QosPolicy,
    Router,
    SecurityGroup,
    Subnet,
)

_Resource = TypeVar("_Resource", bound=AnyResource)


class View:
    """Intent as one compile function sees it. ``reads`` holds every question
    that it asked; an absent object is an answer, too."""

    __slots__ = ("_index", "_lists", "_rings", "host", "limits", "reads")

    def __init__(
        self, index: Index, rings: Rings, lists: FloodLists, host: str, limits: Limits
    ) -> None:
        self._index = index
        self._rings = rings
        self._lists = lists
        self.host = host
        self.limits = limits
        self.reads: dict[Question, None] = {}

    def network(self, network_id: str) -> Network | None:
        return self._object(Network, network_id)

    def subnet(self, subnet_id: str) -> Subnet | None:
        return self._object(Subnet, subnet_id)

    def router(self, router_id: str) -> Router | None:
        return self._object(Router, router_id)

    def machine(self, machine_id: str) -> Machine | None:
        return self._object(Machine, machine_id)

    def port(self, port_id: str) -> Port | None:
        return self._object(Port, port_id)

    def qos_policy(self, policy_id: str) -> QosPolicy | None:
        return self._object(QosPolicy, policy_id)

    def security_group(self, group_id: str) -> SecurityGroup | None:
        """All of it. Who needs no more than the number asks ``group_number``."""
        return self._object(SecurityGroup, group_id)

    def group_number(self, group_id: str) -> int | None:
        """Of a security group that ports of this host use."""
        self.reads[number_of_group(group_id)] = None
        return self._index.usage.group_number(group_id)

    def set_number(self, key: ObjectKey) -> int | None:
        """Of a security group or address group that rules of a group name which
        ports of this host use."""
        self.reads[number_of_set(key)] = None
        return self._index.usage.set_number(key)

    def fits(self, side: Side, key: ObjectKey) -> bool:
        """Whether the side of a group has room for a set that its rules name."""
        self.reads[fits(*side, key)] = None
        return self._index.usage.fits(side, key)

    def subnets(self, network_id: str) -> list[Subnet]:
        """Of one network, by id."""
        found = (self.subnet(i) for i in self._ids(subnets_of(network_id)))
        return [subnet for subnet in found if subnet is not None]

    def routers(self, network_id: str) -> list[Router]:
        """With an interface in the network, by id."""
        found = (self.router(i) for i in self._ids(routers_of(network_id)))
        return [router for router in found if router is not None]

    def ports(self, machine_id: str) -> list[Port]:
        """That name the machine, by id."""
        found = (self.port(i) for i in self._ids(ports_of(machine_id)))
        return [port for port in found if port is not None]

    def routed_to(self, network_id: str, address: str) -> list[str]:
        """Destinations of all static routes with this next hop, sorted."""
        question = routed_to(network_id, address)
        self.reads[question] = None
        pairs = cast("tuple[tuple[str, str], ...]", self._index.members(question))
        return sorted({destination for _, destination in pairs})

    def holder(self, network_id: str, address: str) -> ObjectKey | None:
        """The port or router that has an IP address of the network."""
        question = holder_of(network_id, address)
        self.reads[question] = None
        return self._index.holder(question)

    # ---- other hosts -------------------------------------------------------

    def host_named(self, name: str) -> Host | None:
        """All of it. Who needs no more than the number asks ``host_number``."""
        return self._held(Host, host_named(name))

    def host_number(self, name: str) -> int:
        """0: no host has this name."""
        self.reads[number_of_host(name)] = None
        return self._index.cluster.number(name) or 0

    def own_vtep(self) -> Host | None:
        """This host, if it has a part in the overlay."""
        host = self.host_named(self.host)
        return host if host is not None and host.vtep else None

    def detour_of(self, host: str) -> Detour | None:
        return self._held(Detour, detour_of(host))

    def path_to(self, host: str) -> Path | None:
        return self._held(Path, path_to(host))

    def presence_of(self, machine_id: str) -> Presence | None:
        return self._held(Presence, presence_of(machine_id))

    def is_relay(self, host: str) -> bool:
        """Whether detours go through the host."""
        return bool(self._ids(relaying(host)))

    def is_relay_of_paths(self, host: str) -> bool:
        """Whether this host reaches others through that one."""
        return bool(self._ids(on_paths(host)))

    def knows_all_hosts(self) -> bool:
        self.reads[ALL_HOSTS] = None
        return self._index.cluster.is_small()

    def is_needed(self, network_id: str) -> bool:
        """Whether ports of this host can reach the network."""
        self.reads[is_needed(network_id)] = None
        return self._index.needs.is_needed(network_id)

    def is_peer(self, host: str) -> bool:
        """Whether another host is in a network that this one needs."""
        self.reads[is_peer(host)] = None
        return self._index.needs.is_peer(host)

    def has_peers(self) -> bool:
        self.reads[ANY_PEER] = None
        return self._index.needs.has_peers()

    def resides(self, residence: Residence) -> bool:
        """Whether another host is in a network."""
        self.reads[resides(*residence)] = None
        return self._index.needs.resides(residence)

    def flood_groups(self) -> tuple[str, ...]:
        """Multicast groups of the needed networks, sorted."""
        self.reads[FLOOD_GROUPS] = None
        return self._index.needs.flood_groups()

    # Not recorded: rings and lists name what to compile again by themselves.

    def device(self, port_id: str) -> Device:
        return self._rings.device(port_id)

    def successor(self, port_id: str) -> Device:
        return self._rings.successor(port_id)

    def first_port(self, network_id: str) -> Device | None:
        return self._rings.first(network_id)

    def next_host(self, residence: Residence) -> int:
        return self._lists.successor(residence)

    def first_host(self, network_id: str) -> int:
        return self._lists.first(network_id)

    def _held(self, model: type[_Resource], claim: Question) -> _Resource | None:
        """The object that has what only one can have."""
        self.reads[claim] = None
        key = self._index.holder(claim)
        return self._object(model, key[1]) if key else None

    def _object(self, model: type[_Resource], object_id: str) -> _Resource | None:
        key = (model.kind, object_id)
        self.reads[key] = None
        return cast("_Resource | None", self._index.get(key))

    def _ids(self, question: Question) -> tuple[str, ...]:
        self.reads[question] = None
        return cast("tuple[str, ...]", self._index.members(question))


class _Shared:
    """The readers of a question that more than one fragment asked: keys of what the
    fragments come from. All of them keep this one copy of the question."""

    __slots__ = ("question", "readers")

    def __init__(self, question: Question, readers: set[Question]) -> None:
        self.question = question
        self.readers = readers


class Dependencies:
    """From questions to the fragments that asked them."""

    def __init__(self) -> None:
        # Most questions have a single reader, which is kept bare: with many
        # ports this is where the memory goes.
        self._readers: dict[Question, Question | _Shared] = {}
        self._asked: dict[Question, tuple[Question, ...]] = {}

    def record(self, reader: Question, questions: Iterable[Question]) -> None:
        """Replace what is known about a fragment; no questions: forget it."""
        before = self._asked.pop(reader, ())
        after = tuple(self._add(question, reader) for question in questions)
        if after:
            self._asked[reader] = after
        if before and before != after:
            for question in set(before) - set(after):
                self._discard(question, reader)

    def readers(self, questions: Iterable[Question]) -> set[Question]:
        """Every fragment that used the answer to one of the questions."""
        found: set[Question] = set()
        for question in questions:
            readers = self._readers.get(question)
            if isinstance(readers, _Shared):
                found |= readers.readers
            elif readers is not None:
                found.add(readers)
        return found

    def _add(self, question: Question, reader: Question) -> Question:
        """Returns the copy of the question to keep."""
        readers = self._readers.setdefault(question, reader)
        if isinstance(readers, _Shared):
            readers.readers.add(reader)
            return readers.question
        if readers != reader:
            self._readers[question] = _Shared(question, {readers, reader})
        return question

    def _discard(self, question: Question, reader: Question) -> None:
        readers = self._readers[question]
        if isinstance(readers, _Shared):
            readers.readers.discard(reader)
            if readers.readers:
                return
        del self._readers[question]
