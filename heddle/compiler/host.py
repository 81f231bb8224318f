"""Intent to the desired state of one host: in one go, or change by change."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from heddle.compiler.dependencies import Dependencies, View
from heddle.compiler.fragment import UNLIMITED, Fragment, Limits
from heddle.compiler.index import Change, Index, Replaced
from heddle.compiler.machine import compile_machine
from heddle.compiler.members import compile_address_group_entry
from heddle.compiler.merge import Assembly, Difference
from heddle.compiler.network import compile_network
from heddle.compiler.port import compile_port, device_of, plug_of
from heddle.compiler.questions import ObjectKey
from heddle.compiler.reach import Reach, networks_of
from heddle.compiler.ring import Rings
from heddle.compiler.router import compile_router
from heddle.compiler.rule import compile_rule, compile_security_group
from heddle.compiler.state import HostDelta, HostState
from heddle.compiler.subnet import compile_subnet
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
        self._reach = Reach()
        self._dependencies = Dependencies()
        self._assembly = Assembly()
        self._failures: dict[ObjectKey, str] = {}

    @property
    def state(self) -> HostState:
        return self._assembly.state

    @property
    def errors(self) -> dict[ObjectKey, str]:
        """Objects that have no part in the state, and why: one line each."""
        return {**self._index.faults(), **self._failures}

    def update(self, changes: Iterable[Change]) -> HostDelta:
        """Take over changed objects (None: deleted) and return what that changes
        on the host. Never raises for what the objects say: see ``errors``."""
        replaced, questions = self._index.apply(changes)
        dirty = dict.fromkeys(replaced)  # in this order, so that a run can be repeated
        dirty |= dict.fromkeys(sorted(self._dependencies.readers(questions) - dirty.keys()))
        dirty |= dict.fromkeys(sorted(self._place_ports(dirty) - dirty.keys()))
        self.recompiled = len(dirty)
        differences = {key: self._assembly.put(key, self._compile(key)) for key in dirty}
        delta = self._assembly.commit()
        delta.touched = self._touched(differences, replaced)
        return delta

    def _view(self) -> View:
        return View(self._index, self._rings, self._host, self._limits)

    def _place_ports(self, dirty: Iterable[ObjectKey]) -> set[ObjectKey]:
        """Bring the flood rings up to date; return the ports whose next one
        changed. A port's place hangs on nothing that its fragment did not read,
        so the dirty ports are all that can have moved."""
        view = self._view()
        moved: set[ObjectKey] = set()
        for key in dirty:
            if key[0] is not Kind.PORT:
                continue
            port = view.port(key[1])
            plug = plug_of(view, port) if port else None
            place = (plug.network.id, device_of(port, plug.machine)) if port and plug else None
            moved.update((Kind.PORT, port_id) for port_id in self._rings.place(key[1], place))
        return moved

    def _compile(self, key: ObjectKey) -> Fragment:
        view = self._view()
        self._failures.pop(key, None)
        try:
            fragment = _compile_object(view, self._index.get(key))
        except CompileError as error:
            self._failures[key] = str(error)
            fragment = Fragment()
        self._dependencies.record(key, view.reads)
        return fragment

    def _touched(
        self,
        differences: Mapping[ObjectKey, Difference],
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
            current = self._index.get(key)
            pair = replaced.get(key, Replaced(current, current))
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
    Kind.NETWORK: compile_network,
    Kind.SUBNET: compile_subnet,
    Kind.ROUTER: compile_router,
    Kind.ADDRESS_GROUP_ENTRY: compile_address_group_entry,
    Kind.SECURITY_GROUP: compile_security_group,
    Kind.SECURITY_GROUP_RULE: compile_rule,
    Kind.MACHINE: compile_machine,
    Kind.PORT: compile_port,
}


def _compile_object(view: View, resource: AnyResource | None) -> Fragment:
    """Nothing for an absent object, and for kinds that others read only."""
    compile_kind = _COMPILE.get(resource.kind) if resource else None
    return compile_kind(view, resource) if compile_kind else Fragment()
