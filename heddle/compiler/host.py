"""Intent to the desired state of one host: in one go, or change by change."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from heddle.compiler.dependencies import Dependencies, View
from heddle.compiler.floodlist import FloodLists
from heddle.compiler.fragment import UNLIMITED, Fragment, Limits
from heddle.compiler.index import Change, Index, Replaced
from heddle.compiler.machine import compile_machine
from heddle.compiler.members import compile_address_group_entry
from heddle.compiler.merge import Assembly, Difference
from heddle.compiler.needs import Residence
from heddle.compiler.network import compile_network
from heddle.compiler.port import compile_port, device_of, link_of, plug_of, quality_for
from heddle.compiler.questions import RESIDENCE, ObjectKey, Question
from heddle.compiler.reach import Reach, networks_of
from heddle.compiler.residence import compile_residence, place_of
from heddle.compiler.ring import Rings
from heddle.compiler.router import compile_router
from heddle.compiler.rule import compile_rule, compile_security_group
from heddle.compiler.state import HostDelta, HostState, Link
from heddle.compiler.strangers import Strangers
from heddle.compiler.subnet import compile_subnet
from heddle.compiler.vtep import compile_host_object
from heddle.errors import CompileError
from heddle.intent.model import AnyResource, Kind


def compile_host(
    objects: Iterable[AnyResource], host: str, limits: Limits = UNLIMITED
) -> HostState:
    """Everything that ``host`` must have for this intent."""
    compiler = Compiler(host, limits)
    compiler.update((resource.kind, resource.id, resource) for resource in objects)
    return compiler.state


class Compiler:
    """Keeps the HostState of changing intent up to date. The state depends on
    the objects alone, not on the order in which they came: it is always what
    ``compile_host`` gives for the same objects."""

    def __init__(self, host: str, limits: Limits = UNLIMITED) -> None:
        self.recompiled = 0  # fragments, in the last update
        self._host = host
        self._limits = limits
        self._index = Index(host, limits)
        self._rings = Rings()
        self._lists = FloodLists()
        self._reach = Reach()
        self._dependencies = Dependencies()
        self._assembly = Assembly()
        self._failures: dict[ObjectKey, str] = {}
        self._strangers = Strangers(host, self._index)

    @property
    def state(self) -> HostState:
        return self._assembly.state

    @property
    def errors(self) -> dict[ObjectKey, str]:
        """Objects that have no part in the state, and why: one line each. Hosts
        that have no object, yet are asked for, by their names."""
        return {**self._strangers.errors(), **self._index.faults(), **self._failures}

    def update(
        self, changes: Iterable[Change], foresee: Callable[[Link], None] = lambda link: None
    ) -> HostDelta:
        """Take over changed objects (None: deleted) and return what that changes
        on the host. Never raises for what the objects say: see ``errors``.
        ``foresee`` is told what links there will be, long before all is known."""
        replaced, questions = self._index.apply(changes)
        self._strangers.look(questions)
        dirty: dict[Question, None] = dict.fromkeys(replaced)
        _add(dirty, self._dependencies.readers(questions))
        _add(dirty, {question for question in questions if question[0] == RESIDENCE})
        _add(dirty, self._place_ports(dirty, foresee))
        _add(dirty, self._place_residences(dirty))
        self.recompiled = len(dirty)
        differences = {key: self._assembly.put(key, self._compile(key)) for key in dirty}
        delta = self._assembly.commit()
        delta.touched = self._touched(differences, replaced)
        return delta

    def _view(self) -> View:
        return View(self._index, self._rings, self._lists, self._host, self._limits)

    def _place_ports(
        self, dirty: Iterable[Question], foresee: Callable[[Link], None]
    ) -> set[Question]:
        """Bring the flood rings up to date; return the ports whose next one
        changed, and the networks whose first one did. A port's place hangs on
        nothing that its fragment did not read, so the dirty ports are all that
        can have moved."""
        view = self._view()
        turned: set[Question] = set()
        for kind, *identity in dirty:
            if kind != Kind.PORT:
                continue
            port = view.port(identity[0])
            plug = plug_of(view, port) if port else None
            place = None
            if port and plug:
                place = (plug.network.id, device_of(port, plug.machine))
                foresee(link_of(port, plug, place[1], quality_for(view, port).shaping))
            ports, networks = self._rings.place(identity[0], place)
            turned.update((Kind.PORT, port_id) for port_id in ports)
            turned.update((Kind.NETWORK, network_id) for network_id in networks)
        return turned

    def _place_residences(self, dirty: Iterable[Question]) -> set[Question]:
        """The same for the lists of hosts to flood to."""
        view = self._view()
        moved: set[Question] = set()
        for kind, *identity in dirty:
            if kind != RESIDENCE:
                continue
            residence = Residence(*identity)
            residences, networks = self._lists.place(residence, place_of(view, residence))
            moved.update((RESIDENCE, *residence) for residence in residences)
            moved.update((Kind.NETWORK, network_id) for network_id in networks)
        return moved

    def _compile(self, key: Question) -> Fragment:
        view = self._view()
        if key[0] == RESIDENCE:
            fragment = self._compile_residence(view, Residence(*key[1:]))
        else:
            fragment = self._compile_object(view, (Kind(key[0]), key[1]))
        self._dependencies.record(key, view.reads)
        return fragment

    def _compile_residence(self, view: View, residence: Residence) -> Fragment:
        """Nothing for one that has ended: if it comes back, its own question says so."""
        is_there = self._index.needs.resides(residence)
        return compile_residence(view, residence) if is_there else Fragment()

    def _compile_object(self, view: View, key: ObjectKey) -> Fragment:
        """Nothing for an absent object, and for kinds that others read only."""
        self._failures.pop(key, None)
        resource = self._index.get(key)
        compile_kind = _COMPILE.get(resource.kind) if resource else None
        try:
            return compile_kind(view, resource) if compile_kind else Fragment()
        except CompileError as error:
            self._failures[key] = str(error)
            return Fragment()

    def _touched(
        self,
        differences: Mapping[Question, Difference],
        replaced: Mapping[ObjectKey, Replaced],
    ) -> set[int]:
        """VNIs of the networks of all changed objects, of those whose ports stand
        under rules that changed, and of those that routers join to them, each as
        it was and as it is."""
        networks: set[str] = set()
        policy: list[AnyResource | None] = []
        # What only allows more lets flows be, unless they stand without a
        # connection that they would have now.
        additions_matter = self._index.usage.any_stateless()
        for key, difference in differences.items():
            if not any(difference):
                continue
            if key[0] == RESIDENCE:
                networks.add(Residence(*key[1:]).network_id)
                continue
            name = (Kind(key[0]), key[1])
            current = self._index.get(name)
            pair = replaced.get(name, Replaced(current, current))
            shares_matter = difference.lost or (difference.gained and additions_matter)
            # Shares that changed while their object did not: rules that named the set did.
            if difference.own or (shares_matter and key in replaced):
                networks.update(*map(networks_of, pair))
            if shares_matter:
                policy += pair
        networks |= self._index.usage.networks_ruled_by(policy)
        before = self._reach.reachable(networks)
        for (kind, _), (old, new) in replaced.items():
            if kind in (Kind.NETWORK, Kind.ROUTER):
                self._reach.replace(old, new)
        return before | self._reach.reachable(networks)


_COMPILE: dict[Kind, Callable[[View, Any], Fragment]] = {
    Kind.HOST: compile_host_object,
    Kind.NETWORK: compile_network,
    Kind.SUBNET: compile_subnet,
    Kind.ROUTER: compile_router,
    Kind.ADDRESS_GROUP_ENTRY: compile_address_group_entry,
    Kind.SECURITY_GROUP: compile_security_group,
    Kind.SECURITY_GROUP_RULE: compile_rule,
    Kind.MACHINE: compile_machine,
    Kind.PORT: compile_port,
}


def _add(dirty: dict[Question, None], more: set[Question]) -> None:
    """In a fixed order, so that a run can be repeated."""
    dirty |= dict.fromkeys(sorted(more - dirty.keys()))
