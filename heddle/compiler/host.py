"""Intent to the desired state of one host: in one go, or change by change."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import TypeVar

from heddle.compiler.dependencies import Dependencies, View
from heddle.compiler.fragment import NOTHING, UNLIMITED, Footprint, Fragment, Limits, footprint
from heddle.compiler.index import Change, Index, Replaced
from heddle.compiler.machine import compile_machine
from heddle.compiler.network import compile_network
from heddle.compiler.port import compile_port, device_of, plug_of
from heddle.compiler.questions import ObjectKey
from heddle.compiler.reach import Reach, networks_of
from heddle.compiler.ring import Rings
from heddle.compiler.router import compile_router
from heddle.compiler.state import HostDelta, HostState
from heddle.compiler.subnet import compile_subnet
from heddle.errors import CompileError
from heddle.intent.model import AnyResource, Kind, Machine, Network, Port, Router, Subnet

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


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
        self.state = HostState()
        self.recompiled = 0  # fragments, in the last update
        self._host = host
        self._limits = limits
        self._index = Index(host)
        self._rings = Rings()
        self._reach = Reach()
        self._dependencies = Dependencies()
        self._footprints: dict[ObjectKey, Footprint] = {}
        self._failures: dict[ObjectKey, str] = {}

    @property
    def errors(self) -> dict[ObjectKey, str]:
        """Objects that have no part in the state, and why: one line each."""
        return {**self._index.faults(), **self._failures}

    def update(self, changes: Iterable[Change]) -> HostDelta:
        """Take over changed objects (None: deleted) and return what that changes
        on the host. Never raises for what the objects say: see ``errors``."""
        replaced, questions = self._index.apply(changes)
        dirty = set(replaced) | self._dependencies.readers(questions)
        dirty |= self._place_ports(dirty)
        self.recompiled = len(dirty)
        fragments = {key: self._compile(key) for key in sorted(dirty)}
        changed = {key: f for key, f in fragments.items() if self._differs(key, f)}
        delta = self._merge(changed)
        delta.touched = self._touched(changed, replaced)
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

    def _differs(self, key: ObjectKey, fragment: Fragment) -> bool:
        state = self.state
        return (
            self._footprints.get(key, NOTHING) != footprint(fragment)
            or any(state.rows[k] != row for k, row in fragment.rows.items())
            or any(state.links[k] != link for k, link in fragment.links.items())
            or any(state.machines[k] != spec for k, spec in fragment.machines.items())
        )

    def _merge(self, fragments: Mapping[ObjectKey, Fragment]) -> HostDelta:
        """Put changed fragments in the place of what they were."""
        fresh = Fragment()
        gone: list[Footprint] = []
        for key, fragment in fragments.items():
            gone.append(self._footprints.pop(key, NOTHING))
            kept = footprint(fragment)
            if kept != NOTHING:
                self._footprints[key] = kept
            fresh.rows.update(fragment.rows)
            fresh.links.update(fragment.links)
            fresh.machines.update(fragment.machines)
            fresh.namespaces |= fragment.namespaces
        state = self.state
        return HostDelta(
            rows=_replace(state.rows, (k for old in gone for k in old.rows), fresh.rows),
            links=_replace(state.links, (k for old in gone for k in old.links), fresh.links),
            machines=_replace(
                state.machines, (k for old in gone for k in old.machines), fresh.machines
            ),
            namespaces=_replace_members(
                state.namespaces, {n for old in gone for n in old.namespaces}, fresh.namespaces
            ),
        )

    def _touched(
        self, changed: Iterable[ObjectKey], replaced: Mapping[ObjectKey, Replaced]
    ) -> set[int]:
        """VNIs of the networks of all changed objects, and of those that routers
        join to them, each as it was and as it is."""
        networks: set[str] = set()
        for key in changed:
            current = self._index.get(key)
            old, new = replaced.get(key, Replaced(current, current))
            networks.update(networks_of(old), networks_of(new))
        before = self._reach.reachable(networks)
        for old, new in replaced.values():
            self._reach.replace(old, new)
        return before | self._reach.reachable(networks)


def _compile_object(view: View, resource: AnyResource | None) -> Fragment:
    match resource:
        case Port():
            return compile_port(view, resource)
        case Machine():
            return compile_machine(view, resource)
        case Router():
            return compile_router(view, resource)
        case Subnet():
            return compile_subnet(view, resource)
        case Network():
            return compile_network(view, resource)
        case None:
            return Fragment()


def _replace(
    current: dict[_Key, _Value], gone: Iterable[_Key], fresh: Mapping[_Key, _Value]
) -> dict[_Key, _Value | None]:
    """Take ``gone`` out of ``current`` and put ``fresh`` in; return what changed."""
    delta: dict[_Key, _Value | None] = {}
    for key in gone:
        if key not in fresh:
            del current[key]
            delta[key] = None
    for key, value in fresh.items():
        if current.get(key) != value:
            current[key] = value
            delta[key] = value
    return delta


def _replace_members(current: set[str], gone: set[str], fresh: set[str]) -> dict[str, bool]:
    delta = dict.fromkeys(gone - fresh, False) | dict.fromkeys(fresh - current, True)
    current -= gone
    current |= fresh
    return delta
